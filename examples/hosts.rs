//! Requests by host, from a capture file: `cargo run --example hosts -- trace.pcapng`.
//!
//! Needs no feature: `--no-default-features` builds it without a C compiler.

use httplines::{CaptureFile, Config, Event, Pipeline};
use std::collections::BTreeMap;
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: hosts CAPTURE")?;
    let mut hosts: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut pipeline = Pipeline::new(&Config::default(), |event: Event<'_>| {
        if let Event::Exchange(exchange) = event {
            *hosts.entry(exchange.host().to_owned()).or_insert(0) += 1;
        }
    });
    pipeline.read(CaptureFile::open(path)?)?;
    pipeline.finish();
    drop(pipeline);
    for (host, count) in hosts {
        println!("{count:>8} {}", String::from_utf8_lossy(&host));
    }
    Ok(())
}
