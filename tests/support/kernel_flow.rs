//! Connections in the kernel filter, and hints about them.

use httplines::ids::{Direction, FlowKey};
use httplines::sys::counters::Reason;
use httplines::sys::filter::{ConnectionMap, Filter};
use httplines::sys::flow_hints::{FlowHints, HintFlags, HintId};

use super::kernel_packet::Heading::{ToClient, ToServer};
use super::kernel_packet::*;

pub const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
/// The beginning of a TLS handshake.
pub const TLS: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
pub const BODY: [u8; 1000] = [b'x'; 1000];
/// The flag of a connection that was joined midstream.
pub const HINT_LATE: u32 = 1 << 28;
/// The flags of a connection of which both initial sequence numbers are known.
pub const HINT_ISNS: u32 = 3 << 29;

/// A segment from one end to the other, which acknowledges 9.
pub fn at(way: Heading, seq: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(&[], TYPE_IPV4, &ipv4(way, PROTOCOL_TCP, &tcp_at(way, seq, flags, &[], payload)))
}

/// The same, which acknowledges `ack`.
pub fn acknowledging(way: Heading, seq: u32, flags: u8, ack: u32, payload: &[u8]) -> Vec<u8> {
    let mut segment = tcp_at(way, seq, flags, &[], payload);
    segment[8..12].copy_from_slice(&ack.to_be_bytes());
    ethernet(&[], TYPE_IPV4, &ipv4(way, PROTOCOL_TCP, &segment))
}

/// Which endpoint of the key sends `way`: the server's address is the lower one.
pub fn sender(way: Heading) -> Direction {
    if way == ToServer { Direction::Reverse } else { Direction::Forward }
}

/// Makes `key` a session.
pub fn enter(filter: &Filter, key: &FlowKey, known: Known) {
    filter.sessions().update(&key_bytes(key), &known.bytes()).expect("the map is not full");
}

/// What the filter knows of `key`, as a session or an opening.
pub fn known(filter: &Filter, key: &FlowKey) -> Option<Known> {
    let look = |map: &ConnectionMap| map.lookup(&key_bytes(key));
    let found = look(filter.sessions()).unwrap();
    found.or(look(filter.openings()).unwrap()).map(|value| Known::of(&value))
}

/// Resets the filter. Loading it again would take the kernel half a second.
pub fn clear(filter: &Filter, id: HintId) {
    forget(filter);
    filter.hints().erase(id);
}

/// SYN, SYN-ACK and a request: a session whose numbers are `client` and `server`.
pub fn open(filter: &Filter, client: u32, server: u32) {
    assert_eq!(reason_of(filter, &at(ToServer, client, SYN, b"")), Reason::Opening);
    let answer = acknowledging(ToClient, server, SYN | ACK, client.wrapping_add(1), b"");
    assert_eq!(reason_of(filter, &answer), Reason::Opening);
    let request = at(ToServer, client.wrapping_add(1), ACK, GET);
    assert_eq!(reason_of(filter, &request), Reason::Admitted);
}

/// A hint on `key` whose grants are `isn` and `until` of each endpoint.
pub fn hint(hints: &FlowHints, key: &FlowKey, grants: [(u32, u32); 2], more: HintFlags) -> HintId {
    let id = hints.take(key).expect("a place is free");
    let mut flags = more;
    for (direction, (isn, until)) in [Direction::Forward, Direction::Reverse].iter().zip(grants) {
        hints.grant(id, *direction, isn, until);
        flags = flags.with(HintFlags::isn(*direction));
    }
    hints.show(id, key, flags);
    id
}
