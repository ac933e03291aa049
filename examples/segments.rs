//! Uses the decoder only: TCP payload bytes by connection, from a capture file.
//! `cargo run --example segments -- trace.pcap`
//!
//! Needs no feature: `--no-default-features` builds it without a C compiler.

use httplines::capture::{Frame, FrameSource, Polled};
use httplines::decode::Decoder;
use httplines::ids::FlowKey;
use httplines::{CaptureFile, Config};
use std::collections::HashMap;
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: segments CAPTURE")?;
    let mut decoder = Decoder::new(Config::default().decode);
    let mut connections: HashMap<FlowKey, [u64; 2]> = HashMap::new();
    let mut capture = CaptureFile::open(path)?;
    let mut count = |frame: Frame<'_>| {
        // A frame that is no segment has a reason, which is ignored here.
        let Ok(segment) = decoder.decode(&frame) else { return };
        let bytes = connections.entry(segment.key).or_default();
        bytes[segment.direction.index()] += u64::from(segment.payload_wire_bytes);
    };
    while capture.poll(&mut count)? != Polled::End {}
    let mut lines: Vec<String> = connections
        .iter()
        .map(|(key, [there, back])| {
            let end = |index| format!("{}:{}", key.ip(index), key.port(index));
            format!("{} {there} > < {back} {}", end(0), end(1))
        })
        .collect();
    lines.sort();
    lines.iter().for_each(|line| println!("{line}"));
    Ok(())
}
