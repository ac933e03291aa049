//! A pipeline behind a live capture, to which frames are sent one by one.

use std::time::Instant;

use httplines::capture::FrameSource;
use httplines::capture::live::{LiveCapture, LiveControl, LiveSource};
use httplines::config::{CaptureConfig, Config, DecodeConfig, Input};
use httplines::ids::IfaceNames;
use httplines::pipeline::Pipeline;
use httplines::record::EventSink;

use super::live_capture::PATIENCE;
use super::namespace::{Injector, Namespace};

/// A pipeline behind a live capture, and how many frames were sent to it.
pub struct Wire<S> {
    /// The client's namespace, and the server's, in which frames are captured.
    pub places: (Namespace, Namespace),
    pub control: LiveControl,
    source: LiveSource,
    pub pipeline: Pipeline<S>,
    sent_count: u64,
}

impl<S: EventSink> Wire<S> {
    /// `None` without root.
    pub fn new(config: CaptureConfig, sink: S) -> Option<Wire<S>> {
        let (client, server) = Namespace::pair()?;
        let (names, elide_bytes_min) = (IfaceNames::default(), config.elide_bytes_min);
        let (control, mut sources) = server
            .run(move || {
                let devices = ["veth1".to_string()];
                LiveCapture::open(&config, &DecodeConfig::default(), &devices, 1, &names)
            })
            .expect("root may capture");
        control.open_gate();
        let source = sources.remove(0);
        let pipeline = Pipeline::new(&Config::new(Input::Stdin), sink)
            .with_filter(source.hints(), elide_bytes_min);
        Some(Wire { places: (client, server), control, source, pipeline, sent_count: 0 })
    }

    /// Sends `frames` and processes those that pass the filter.
    pub fn send(&mut self, frames: Vec<Vec<u8>>) {
        for some in frames.chunks(500) {
            let some = some.to_vec();
            self.sent_count += some.len() as u64;
            self.places.0.run(move || {
                let injector = Injector::new("veth0");
                some.iter().for_each(|frame| injector.send(frame));
            });
            let start = Instant::now();
            loop {
                self.pipeline.poll(&mut self.source).expect("a live source goes on");
                let totals = self.control.totals().expect("the kernel has counters");
                assert_eq!(totals.drops(), 0);
                let is_all = totals.filter.offered() >= self.sent_count;
                if is_all && self.pipeline.frame_count() == totals.filter.passed() {
                    break;
                }
                assert!(start.elapsed() < PATIENCE, "{totals:?}");
            }
        }
    }

    /// Sends a frame that passes the filter, at least its headers, and processes it.
    pub fn deliver(&mut self, frame: &[u8]) {
        let count = self.pipeline.frame_count() + 1;
        self.send(vec![frame.to_vec()]);
        let start = Instant::now();
        while self.pipeline.frame_count() < count {
            self.pipeline.poll(&mut self.source).expect("a live source goes on");
            assert!(start.elapsed() < PATIENCE, "the frame was rejected");
        }
    }
}
