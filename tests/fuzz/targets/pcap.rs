//! Any bytes as a capture file, to its end: however few bytes a read gives, the frames are the
//! same.

#![no_main]

use httplines::capture::pcap::PcapSource;
use httplines::capture::{FrameSource, Polled};
use httplines::ids::IfaceNames;
use httplines_fuzz::Trickle;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut runs = [1, 3, 77, 1 << 20].map(|read_bytes| {
        let reader = Trickle(data, read_bytes, false);
        let mut source = PcapSource::new(reader, read_bytes.min(4096), &IfaceNames::default())?;
        let mut frames = Vec::new();
        let end = loop {
            let polled = source.poll(&mut |frame| {
                assert!(frame.wire_bytes as usize >= frame.bytes.len());
                frames.push(format!("{frame:?}"));
            });
            match polled {
                Ok(Polled::End) => break String::new(),
                Err(error) => break error.to_string(),
                Ok(_) => {}
            }
        };
        Ok::<_, httplines::capture::pcap::open::OpenError>((frames, end))
    });
    let first = runs[0].as_ref().ok().cloned();
    assert!(runs.iter_mut().all(|run| run.as_ref().ok() == first.as_ref()));
});
