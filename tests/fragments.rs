//! Fragments are reassembled in any order. Contradictions, floods and abandoned datagrams are
//! bounded and counted.

use crate::support::fragment::{fragment, fragments};
use crate::support::packet::Packet;
use crate::support::tunnel::*;
use httplines::capture::{Frame, LinkType};
use httplines::config::DecodeConfig;
use httplines::decode::{Decoder, Reject};
use httplines::ids::IfaceId;
use httplines::stats::DecodeStats;
use httplines::time::TimestampNs;
use proptest::collection::vec;
use proptest::prelude::*;

const MORE: u32 = 0x2000;

/// A request of this many bytes over either family, as an IP packet.
fn packet(is_v6: bool, payload: &[u8]) -> Vec<u8> {
    let (from, to) = match is_v6 {
        true => ("[fd00::1]:4242", "[fd00::2]:80"),
        false => ("10.0.0.1:4242", "10.0.0.2:80"),
    };
    Packet::tcp(from.parse().unwrap(), to.parse().unwrap()).payload(payload).ip()
}

fn frame(bytes: &[u8], second: u64) -> Frame<'_> {
    Frame {
        bytes,
        wire_bytes: bytes.len() as u32,
        timestamp: TimestampNs::from_parts(second, 0),
        link: LinkType::Raw,
        vlan: None,
        iface: IfaceId(0),
        is_checksum_trusted: false,
    }
}

/// The outcomes of these frames, a second apart: the payload of a segment, or why there is none.
fn outcomes(decoder: &mut Decoder, frames: &[Vec<u8>]) -> Vec<Result<Vec<u8>, Reject>> {
    let decode = |(second, bytes): (usize, &Vec<u8>)| {
        decoder.decode(&frame(bytes, second as u64)).map(|segment| segment.payload.to_vec())
    };
    frames.iter().enumerate().map(decode).collect()
}

fn decoder() -> Decoder {
    Decoder::new(DecodeConfig::default())
}

const HELD: Result<Vec<u8>, Reject> = Err(Reject::FragmentHeld);
const OVERLAP: Result<Vec<u8>, Reject> = Err(Reject::FragmentOverlap);

#[test]
fn fragments_in_order_reversed_and_tiny() {
    let request = b"GET /in/pieces HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    for is_v6 in [false, true] {
        // The first piece holds only 8 bytes of the TCP header.
        let mut pieces = fragments(&packet(is_v6, &request), 7, &[8, 24, 40]);
        let mut decoder = decoder();
        let expected = [HELD, HELD, HELD, Ok(request.clone())];
        assert_eq!(outcomes(&mut decoder, &pieces), expected);
        pieces.reverse();
        assert_eq!(outcomes(&mut decoder, &pieces), expected);
        assert_eq!(decoder.stats().datagrams_joined, 2);
    }
}

#[test]
fn extension_headers_before_and_behind_the_fragment_header() {
    let whole = packet(true, b"GET / HTTP/1.1\r\n\r\n");
    let options = [6, 0, 1, 4, 0, 0, 0, 0];
    let part = [&options[..], &whole[40..]].concat();
    let piece = |next: u8, word: u16, bytes: &[u8]| {
        let word = word.to_be_bytes();
        let header = [next, 0, word[0], word[1], 0, 0, 0, 9];
        ipv6(0, &[&[44, 0, 1, 4, 0, 0, 0, 0], &header[..], bytes].concat())
    };
    // Only the first fragment's next header counts (RFC 8200 section 4.5).
    let pieces = [piece(60, 1, &part[..16]), piece(59, 16, &part[16..])];
    let mut decoder = decoder();
    assert_eq!(outcomes(&mut decoder, &pieces)[1], Ok(b"GET / HTTP/1.1\r\n\r\n".to_vec()));
    // A fragment inside the fragments of the same packet makes no sense.
    let nested = [&[6, 0, 0, 8, 0, 0, 0, 1][..], &whole[40..]].concat();
    let pieces = [piece(44, 1, &nested[..16]), piece(44, 16, &nested[16..])];
    assert_eq!(outcomes(&mut decoder, &pieces), [HELD, Err(Reject::BadHeader)]);
}

#[test]
fn overlaps_that_agree_do_no_harm_and_others_drop_the_datagram() {
    let request = b"GET /in/pieces HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    for is_v6 in [false, true] {
        let whole = packet(is_v6, &request);
        let pieces = [(0, 32), (24, 48), (0, 40), (24, 32), (40, 56)];
        let mut pieces = pieces.map(|(start, end)| fragment(&whole, 7, start, end)).to_vec();
        let mut decoder = decoder();
        let outcome = outcomes(&mut decoder, &pieces);
        assert_eq!(outcome, [HELD, HELD, HELD, HELD, Ok(request.clone())]);
        assert_eq!(decoder.stats().datagrams_dropped, 0);
        // One byte differs: this piece, all that follow and the whole datagram are dropped.
        *pieces[2].last_mut().unwrap() ^= 1;
        assert_eq!(outcomes(&mut decoder, &pieces), [HELD, HELD, OVERLAP, OVERLAP, OVERLAP]);
        assert_eq!(decoder.stats().datagrams_dropped, 1);
        // Fragments that disagree about the end, in both orders.
        for order in [[0, 1], [1, 0]] {
            let ends = [fragment(&whole, 8, 40, 56), fragment(&whole, 8, 48, 56)];
            let shorter = fragment(&whole[..whole.len() - 1], 8, 48, 55);
            let pieces = [ends[0].clone(), shorter];
            let pieces = order.map(|index| pieces[index].clone());
            let mut decoder = Decoder::new(DecodeConfig::default());
            assert_eq!(outcomes(&mut decoder, &pieces), [HELD, OVERLAP]);
        }
    }
}

#[test]
fn fragments_of_different_datagrams_do_not_mix() {
    let request = b"GET /in/pieces HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    let whole = packet(false, &request);
    let [first, second] = [7, 8].map(|id| fragments(&whole, id, &[24]));
    let mut decoder = decoder();
    let mixed = [first[0].clone(), second[1].clone(), second[0].clone(), first[1].clone()];
    assert_eq!(outcomes(&mut decoder, &mixed), [HELD, HELD, Ok(request.clone()), Ok(request)]);
    // The same addresses and number in two overlay networks.
    let pieces = fragments(&whole, 7, &[24]);
    let networks = [(1, 0), (2, 1)].map(|(vni, at)| vxlan(4789, vni, &bridged(&pieces[at])));
    assert_eq!(outcomes(&mut decoder, &networks), [HELD, HELD]);
}

#[test]
fn tunnelled_packets_in_fragments_inside_and_outside() {
    let request = b"GET /in/pieces HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    let inner = fragments(&packet(false, &request), 7, &[32]);
    let mut decoder = decoder();
    let tunnelled = inner.iter().map(|piece| vxlan(4789, 1, &bridged(piece))).collect::<Vec<_>>();
    assert_eq!(outcomes(&mut decoder, &tunnelled), [HELD, Ok(request.clone())]);
    // Each of them in fragments of its own.
    let outer =
        tunnelled.iter().zip([1, 2]).flat_map(|(whole, id)| fragments(whole, id, &[16, 48]));
    let outer: Vec<_> = outer.collect();
    assert_eq!(outer.len(), 6);
    let outcome = outcomes(&mut decoder, &outer);
    assert_eq!(outcome[..5], [HELD, HELD, HELD, HELD, HELD]);
    assert_eq!(outcome[5], Ok(request.clone()));
    for (second, piece) in outer.iter().enumerate() {
        let outcome = decoder.decode(&frame(piece, second as u64));
        if let Ok(segment) = outcome {
            let path: Vec<_> =
                segment.tunnel.outermost_first().map(|one| one.to_string()).collect();
            assert_eq!(path, ["vxlan:1"]);
        }
    }
    // A datagram in a datagram in a datagram …, until it is too deep.
    let mut pieces = vec![packet(false, &request)];
    for depth in 0..9 {
        let wrap = |(index, piece): (usize, &Vec<u8>)| {
            fragments(&ipv4(IPIP, piece), depth * 1000 + index as u16, &[8])
        };
        pieces = pieces.iter().enumerate().flat_map(wrap).collect();
    }
    let last = pieces.iter().map(|piece| decoder.decode(&frame(piece, 0)).err()).last();
    assert_eq!(last, Some(Some(Reject::TooDeep)));
}

#[test]
fn fragments_that_cannot_be_are_bad_headers() {
    let mut decoder = decoder();
    // Not a multiple of 8; none at all; beyond what IP can hold.
    for (word, bytes) in [(MORE, 9), (MORE, 0), (0x1fff, 0), (0x1fff, 8)] {
        let outcome = outcomes(&mut decoder, &[ipv4_with(word, IPIP, &vec![0; bytes])]);
        assert_eq!(outcome, [Err(Reject::BadHeader)], "{word:x} {bytes}");
    }
    assert_eq!(outcomes(&mut decoder, &[ipv4_with(0x1fff, IPIP, &[0; 7])]), [HELD]);
    // Fragments that cannot lead to TCP are not kept; those that the snap length cut cannot be.
    assert_eq!(outcomes(&mut decoder, &[ipv4_with(MORE, 1, &[0; 8])]), [Err(Reject::NotTcp)]);
    let piece = ipv4_with(MORE, IPIP, &[0; 16]);
    let cut = Frame { bytes: &piece[..28], ..frame(&piece, 0) };
    assert_eq!(decoder.decode(&cut).unwrap_err(), Reject::Truncated);
}

#[test]
fn sets_that_are_never_completed_grow_old() {
    let request = b"GET /in/pieces HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    let pieces = fragments(&packet(false, &request), 7, &[24]);
    let mut decoder = decoder();
    let mut at = |bytes: &[u8], second| decoder.decode(&frame(bytes, second)).err();
    assert_eq!(at(&pieces[0], 100), Some(Reject::FragmentHeld));
    assert_eq!(at(&pieces[1], 130), None);
    assert_eq!(at(&pieces[0], 200), Some(Reject::FragmentHeld));
    assert_eq!(at(&pieces[1], 231), Some(Reject::FragmentHeld));
    // Even if another, younger one is the first in the queue, as when timestamps run backwards.
    assert_eq!(at(&ipv4_with(9 << 16 | MORE, IPIP, &[0; 8]), 300), Some(Reject::FragmentHeld));
    assert_eq!(at(&pieces[0], 250), Some(Reject::FragmentHeld));
    assert_eq!(at(&pieces[1], 290), Some(Reject::FragmentHeld));
    assert_eq!(decoder.stats().datagrams_expired, 3);
    assert_eq!(decoder.stats().datagrams_joined, 1);
}

#[test]
fn a_flood_of_fragments_stays_within_its_bounds() {
    let limits = DecodeConfig {
        fragmented_count_max: 100,
        fragment_bytes_max: 128 << 10,
        ..DecodeConfig::default()
    };
    let request = b"GET /in/pieces HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    let mut decoder = Decoder::new(limits);
    let mut stats = DecodeStats::default();
    let mut frames = 0;
    for number in 0..20_000_u32 {
        // First fragments of new datagrams, small and large ones in turns.
        let bytes = if number / 500 % 2 == 0 { 8 } else { 8000 };
        let flood = ipv4_with((number & 0xffff) << 16 | MORE, IPIP, &vec![0; bytes]);
        stats.count(&decoder.decode(&frame(&flood, 0)));
        assert!(decoder.fragment_bytes() <= 128 << 10);
        frames += 1;
        if number % 50 == 0 {
            let pieces = fragments(&packet(true, &request), number as u16, &[24]);
            let outcome = outcomes(&mut decoder, &pieces);
            assert_eq!(outcome, [HELD, Ok(request.clone())], "honest traffic, during the flood");
        }
    }
    assert_eq!(stats.fragment_held, frames);
    // At most 100 wait, 15 of them large; all others were given up.
    let evicted = decoder.stats().datagrams_evicted;
    assert!((19_900..=19_985).contains(&evicted), "{evicted}");
    // A datagram with more fragments than are kept.
    let crumbs = (0..2100).map(|at| ipv4_with(MORE | (2 * at), IPIP, &[0; 8])).collect::<Vec<_>>();
    let mut decoder = self::decoder();
    let decoded = crumbs.iter().map(|crumb| decoder.decode(&frame(crumb, 0)).err());
    let refused = decoded.filter(|reason| *reason == Some(Reject::FragmentAtBound)).count();
    assert_eq!((refused, decoder.stats().datagrams_dropped), (2100 - 2048, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Any split, order and duplication give the same datagram, once; in a tunnel, too.
    #[test]
    fn any_split_order_and_duplication_give_the_datagram(
        is_v6: bool,
        is_tunnelled: bool,
        payload in vec(any::<u8>(), 1..600),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
        keys in vec(any::<u32>(), 24),
        copies in vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut whole = packet(is_v6, &payload);
        if is_tunnelled {
            whole = ipv4(GRE, &[&[0, 0][..], &ethertype_of(&whole).to_be_bytes(), &whole].concat());
        }
        let header_bytes = if whole[0] >> 4 == 6 { 40 } else { 20 };
        let units = (whole.len() - header_bytes - 1) / 8;
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(units + 1) * 8).collect();
        cuts.sort_unstable();
        cuts.dedup();
        cuts.retain(|cut| *cut > 0);
        let mut pieces = fragments(&whole, 7, &cuts);
        if pieces.len() == 1 {
            return Ok(());
        }
        let distinct = pieces.len();
        for copy in copies {
            pieces.push(pieces[copy.index(distinct)].clone());
        }
        let mut order: Vec<usize> = (0..pieces.len()).collect();
        order.sort_by_key(|index| keys[*index % keys.len()]);
        let mut decoder = decoder();
        let mut found = Vec::new();
        for index in order {
            match decoder.decode(&frame(&pieces[index], 0)) {
                Ok(segment) => found.push(segment.payload.to_vec()),
                Err(reason) => prop_assert_eq!(reason, Reject::FragmentHeld),
            }
        }
        // Repeated fragments may complete it again afterwards, but never give anything else.
        prop_assert!(!found.is_empty());
        prop_assert!(found.iter().all(|one| *one == payload));
    }

    /// Whatever fragments come, the result is that of a naive twin, which reassembles byte by byte.
    #[test]
    fn joins_what_a_naive_twin_joins(
        pieces in vec((0..8_usize, 1..4_usize, any::<bool>(), 0..20_u8), 1..40),
    ) {
        let mut decoder = decoder();
        // Each byte of the datagram, if it is known; and where the datagram ends.
        let mut bytes: Vec<Option<u8>> = vec![None; 100];
        let mut end = None;
        let mut is_dropped = false;
        for (start, units, is_last, noise) in pieces {
            // A piece that is both the first and the last is no fragment.
            let is_last = is_last && start > 0;
            let inner = vec![u8::from(noise == 0); units * 8];
            let word = start as u32 | if is_last { 0 } else { MORE };
            let packet = ipv4_with(5 << 16 | word, IPIP, &inner);
            let is_held = decoder.decode(&frame(&packet, 0)).err() == Some(Reject::FragmentHeld);
            let (from, to) = (start * 8, (start + units) * 8);
            let known = bytes.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
            let differs =
                |(known, new): (&Option<u8>, &u8)| known.is_some_and(|known| known != *new);
            is_dropped |= bytes[from..to].iter().zip(&inner).any(differs)
                || end.is_some_and(|end| to > end || is_last && to != end)
                || is_last && known > to;
            if !is_dropped {
                bytes[from..to].iter_mut().zip(&inner).for_each(|(a, b)| *a = Some(*b));
                end = end.or(is_last.then_some(to));
            }
            let is_whole = end.is_some_and(|end| bytes[..end].iter().all(Option::is_some));
            prop_assert_eq!(is_held, !is_dropped && !is_whole);
            if is_whole && !is_dropped {
                (bytes, end) = (vec![None; 100], None);
            }
        }
    }
}
