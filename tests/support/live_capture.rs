//! A live capture in a namespace, through the library, and all frames that it delivered.

use std::time::{Duration, Instant};

use httplines::capture::live::{LiveCapture, LiveControl, LiveSource, LiveTotals};
use httplines::capture::{Frame, FrameSource, LinkType, VlanTag};
use httplines::config::{CaptureConfig, DecodeConfig};
use httplines::ids::{IfaceId, IfaceNames};

use super::namespace::Namespace;

/// Far longer than any step takes; only a failure waits this long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Small rings and maps, and a short wait for blocks.
pub fn small() -> CaptureConfig {
    CaptureConfig {
        block_count: 32,
        retire_timeout_ms: 1,
        session_count_max: 1024,
        opening_count_max: 1024,
        ..Default::default()
    }
}

/// A frame that outlives its block.
#[derive(Clone, Debug)]
pub struct Kept {
    pub bytes: Vec<u8>,
    pub wire_bytes: u32,
    pub vlan: Option<VlanTag>,
    pub link: LinkType,
    pub iface: IfaceId,
    pub shard: usize,
}

/// A capture in a namespace, and all frames that it delivered.
pub struct Capture {
    pub control: LiveControl,
    pub sources: Vec<LiveSource>,
    pub names: IfaceNames,
    pub kept: Vec<Kept>,
}

impl Capture {
    /// Opens a capture, with the gate open.
    pub fn open(
        place: &Namespace,
        config: CaptureConfig,
        devices: &[&str],
        shards: u16,
    ) -> Capture {
        Capture::open_for(DecodeConfig::default(), place, config, devices, shards)
    }

    /// The same, with filter and fanout for `decode`.
    pub fn open_for(
        decode: DecodeConfig,
        place: &Namespace,
        config: CaptureConfig,
        devices: &[&str],
        shards: u16,
    ) -> Capture {
        let names = IfaceNames::default();
        let devices: Vec<String> = devices.iter().map(ToString::to_string).collect();
        let learned = names.clone();
        let (control, sources) = place
            .run(move || LiveCapture::open(&config, &decode, &devices, shards, &learned))
            .expect("root may capture");
        control.open_gate();
        Capture { control, sources, names, kept: Vec::new() }
    }

    pub fn totals(&mut self) -> LiveTotals {
        self.control.totals().expect("the kernel has counters").clone()
    }

    pub fn poll(&mut self) {
        for (shard, source) in self.sources.iter_mut().enumerate() {
            let mut keep = |frame: Frame<'_>| {
                self.kept.push(Kept {
                    bytes: frame.bytes.to_vec(),
                    wire_bytes: frame.wire_bytes,
                    vlan: frame.vlan,
                    link: frame.link,
                    iface: frame.iface,
                    shard,
                });
            };
            source.poll(&mut keep).expect("a live source goes on");
        }
    }

    /// Polls until `is_enough`.
    pub fn poll_until(&mut self, is_enough: impl Fn(&[Kept]) -> bool) {
        let start = Instant::now();
        while !is_enough(&self.kept) {
            assert!(start.elapsed() < PATIENCE, "only {} frames", self.kept.len());
            self.poll();
        }
    }

    /// Closes the gate, reads the remaining frames, and checks that all sums agree.
    pub fn settle(&mut self) -> LiveTotals {
        self.control.shut_gate();
        let start = Instant::now();
        loop {
            self.poll();
            let totals = self.totals();
            let is_all = totals.packets() == self.kept.len() as u64 + totals.drops();
            if is_all && totals.filter.passed() == totals.packets() {
                assert_eq!(totals.filter.offered(), totals.filter.rejected() + totals.packets());
                return totals;
            }
            assert!(start.elapsed() < PATIENCE, "{totals:?}, {} delivered", self.kept.len());
        }
    }

    pub fn holding(&self, needle: &[u8]) -> usize {
        self.kept.iter().filter(|frame| holds(&frame.bytes, needle)).count()
    }
}

/// Whether `needle` is in `bytes`.
pub fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}
