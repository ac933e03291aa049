//! Watches an interface and calls a closure for each exchange. Prints the first ten with
//! `cargo run --example watch -- eth0 10`. Needs the feature `live`, CAP_NET_RAW and CAP_BPF.

use httplines::capture::FrameSource;
use httplines::capture::live::LiveCapture;
use httplines::ids::IfaceNames;
use httplines::{Config, Event, Pipeline};
use std::cell::Cell;
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let interface = args.next().ok_or("usage: watch INTERFACE [COUNT]")?;
    let left = Cell::new(args.next().map_or(Ok(u64::MAX), |count| count.parse())?);
    let (config, names) = (Config::default(), IfaceNames::default());
    let (capture, decode) = (&config.capture, &config.decode);
    let (control, mut sources) =
        LiveCapture::open(capture, decode, std::slice::from_ref(&interface), 1, &names)?;
    let mut source = sources.pop().ok_or("one shard has one source")?;
    let mut pipeline = Pipeline::new(&config, |event: Event<'_>| {
        if let (Event::Exchange(exchange), 1..) = (event, left.get()) {
            left.set(left.get() - 1);
            let text =
                |field: Option<&[u8]>| String::from_utf8_lossy(field.unwrap_or(b"-")).into_owned();
            let (method, target) = (exchange.request.method(), exchange.request.target());
            println!("{} {} {}", text(method), text(target), exchange.response.status);
        }
    })
    .with_filter(source.hints(), capture.elide_bytes_min);
    control.open_gate();
    eprintln!("watching {interface}");
    while left.get() > 0 {
        pipeline.poll(&mut source)?;
    }
    Ok(())
}
