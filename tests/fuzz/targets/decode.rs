//! Frames of any link type through one decoder, so that fragments meet.

#![no_main]

use httplines::capture::{Frame, LinkType, VlanTag};
use httplines::config::DecodeConfig;
use httplines::decode::Decoder;
use httplines::ids::IfaceId;
use httplines::time::TimestampNs;
use httplines_fuzz::pieces;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limits = DecodeConfig { fragmented_count_max: 3, ..DecodeConfig::default() };
    let mut decoder = Decoder::new(limits);
    for (number, frame) in (0..).zip(pieces(data, b"NEXT")) {
        let [link, extra, bytes @ ..] = frame else { continue };
        let vlan = (extra & 1 != 0).then_some(VlanTag { tci: (*extra).into(), tpid: 0x8100 });
        let link = LinkType::from_file(if *link == 255 { 276 } else { (*link).into() });
        let cut_bytes = if extra & 2 == 0 { 0 } else { 1 << (extra >> 3) };
        let wire_bytes = (bytes.len() as u32).saturating_add(cut_bytes);
        let (timestamp, iface) = (TimestampNs(number * 7_000_000_000), IfaceId(0));
        let frame = Frame { bytes, wire_bytes, timestamp, link, vlan, iface };
        if let Ok(segment) = decoder.decode(&frame) {
            assert!(segment.payload_wire_bytes as usize >= segment.payload.len());
        }
        assert!(decoder.fragment_bytes() <= 16 << 20);
    }
});
