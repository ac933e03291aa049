//! The heads that the kernel filter parses itself, through BPF_PROG_TEST_RUN: which bodies it
//! elides before user space can know of them, and that it finds no body where the engine finds
//! none.

use crate::support::capture_file::WrittenFrame;
use crate::support::kernel_packet as packet;
use crate::support::reported::reported_of_any;
use httplines::capture::LinkType;
use packet::{ACK, SYN};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const CLIENT_ISN: u32 = 0xffff_ffc0;
/// Long bodies end after sequence numbers have wrapped around.
const SERVER_ISN: u32 = 0xffff_8000;
const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
/// The filter's bounds, in bpf/head.h.
const LENGTH_DIGITS_MAX: usize = 9;
const BODY_BYTES_MAX: u32 = 1 << 29;
const FULL_BYTES_MIN: usize = 1000;

/// Parses the head at the start of `bytes`, line by line. Returns the bytes after it, and the
/// length it announces. `None`: not a head that the filter parses. The naive twin of bpf/head.h.
fn read_head(bytes: &[u8], is_request: bool) -> Option<(&[u8], Option<u32>)> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let (start, mut at, mut length) = (lines.next()?, 0, None);
    let is_readable = if is_request {
        let end = start.len().checked_sub(11).filter(|end| *end > 4)?;
        let version = [&b" HTTP/1.0\r\n"[..], b" HTTP/1.1\r\n"];
        start.starts_with(b"GET ") && start[4] > b' ' && version.contains(&&start[end..])
    } else {
        start.starts_with(b"HTTP/1.1 200 ") || start.starts_with(b"HTTP/1.1 206 ")
    };
    if !is_readable {
        return None;
    }
    at += start.len();
    for line in lines {
        at += line.len();
        if line == b"\r\n" {
            return Some((&bytes[at..], length));
        }
        let lower = line.to_ascii_lowercase();
        if line[0] <= b' ' || lower.starts_with(b"transfer") || !line.ends_with(b"\n") {
            return None;
        }
        let Some(rest) = lower.strip_prefix(b"content-length") else { continue };
        let digits = rest.strip_prefix(b": ")?.strip_suffix(b"\r\n")?;
        let is_number = (1..=LENGTH_DIGITS_MAX).contains(&digits.len())
            && digits.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()?;
        if length.is_some() || number == 0 {
            return None;
        }
        length = Some(number);
    }
    None
}

/// The length of the body that the filter finds in the response to a request, if it finds one.
fn body_bytes(request: &[u8], answer: &[u8]) -> Option<u32> {
    let (behind, length) = read_head(request, true)?;
    let may_be_large = answer.len() >= FULL_BYTES_MIN || answer.ends_with(b"\r\n\r\n");
    if !behind.is_empty() || length.is_some() || !may_be_large {
        return None;
    }
    let (body, length) = read_head(answer, false)?;
    length.filter(|length| (body.len() as u32..=BODY_BYTES_MAX).contains(length))
}

/// Header lines. Some frame the body, and some nearly do.
fn header_line() -> impl Strategy<Value = Vec<u8>> {
    let name = select(vec![
        "Content-Length: ",
        "content-length: ",
        "CONTENT-LENGTH:",
        "Content-Length : ",
        "Content-Length:\t",
        "Content-Lengths: ",
        "Content\rLength: ",
        " Content-Length: ",
        "Transfer-Encoding: chunked",
        "transfer-coding: ",
        "Content-Type: text/plain",
        "X: y",
        "Accept",
        ": ",
        "",
        "\t folded",
    ]);
    let number = prop_oneof![
        6 => (256u32..4000).prop_map(|number| number.to_string()),
        1 => select(vec!["0", "007", "1234567890", "999999999", "+300", "300 ", "3x0", "300, 300"])
            .prop_map(String::from),
        1 => "[ -~]{0,200}",
    ];
    let end = select(vec!["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r\r\n", ""]);
    (name, number, end).prop_map(|(name, number, end)| [name, &number, end].concat().into_bytes())
}

/// A head that begins with one of these lines, followed by `lines`. One byte may be changed to
/// anything.
fn head(
    starts: Vec<&'static str>,
    lines: impl Strategy<Value = Vec<Vec<u8>>>,
) -> impl Strategy<Value = Vec<u8>> {
    let end = select(vec!["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", ""]);
    let harm = prop_oneof![4 => Just(None), 1 => any::<(prop::sample::Index, u8)>().prop_map(Some)];
    (select(starts), lines, end, harm).prop_map(|(start, lines, end, harm)| {
        let mut head = [start.as_bytes(), &lines.concat(), end.as_bytes()].concat();
        if let Some((at, byte)) = harm {
            let at = at.index(head.len());
            head[at] = byte;
        }
        head
    })
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let starts = vec![
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\n",
        "GET /a b HTTP/1.1\r\n",
        "GET HTTP/1.1\r\n",
        "GET  HTTP/1.1\r\n",
        "GET / HTTP/1.1\n",
        "GET / HTTP/1.12\r\n",
        "HEAD / HTTP/1.1\r\n",
        "POST / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\n",
    ];
    let odd = head(starts, vec(header_line(), 0..3));
    prop_oneof![3 => Just(GET.to_vec()), 1 => odd]
}

fn answer() -> impl Strategy<Value = Vec<u8>> {
    let usual = vec!["HTTP/1.1 200 OK\r\n", "HTTP/1.1 206 Partial Content\r\n"];
    let odd = vec![
        "HTTP/1.1 200 \r\n",
        "HTTP/1.1 200\r\n",
        "HTTP/1.1 204 No Content\r\n",
        "HTTP/1.1 304 Not Modified\r\n",
        "HTTP/1.1 100 Continue\r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 200 a very long reason, longer than what is read in one piece, of more words\r\n",
    ];
    let plain = select(vec!["Server: a\r\n", "X-Content-Length: 1\r\n", "A: b\r\n"])
        .prop_map(|line| line.as_bytes().to_vec());
    let length =
        (256u32..4000).prop_map(|number| format!("Content-Length: {number}\r\n").into_bytes());
    let line = prop_oneof![4 => plain, 1 => header_line()];
    let lines = (vec(line.clone(), 0..3), length, vec(line, 0..3))
        .prop_map(|(before, length, behind)| [before, vec![length], behind].concat())
        .boxed();
    let head = prop_oneof![3 => head(usual, lines.clone()), 1 => head(odd, lines)];
    (head, prop_oneof![2 => Just(0usize), 1 => 0usize..2000])
        .prop_map(|(head, more)| [head, vec![b'x'; more]].concat())
}

/// The body lengths that the engine reports for the response, if its body has `body_bytes` bytes.
fn told_body_bytes(request: &[u8], answer: &[u8], body_bytes: u32) -> Vec<Option<u64>> {
    let ends = ["10.0.0.9:4000", "10.0.0.1:80"].map(|end| end.parse().expect("an address"));
    let (client, server) = (CLIENT_ISN.wrapping_add(1), SERVER_ISN + 1);
    let behind = read_head(answer, false).map_or(0, |(behind, _)| behind.len());
    let body = vec![b'x'; body_bytes as usize - behind];
    let asked = client.wrapping_add(request.len() as u32);
    let answered = server + answer.len() as u32;
    let sent: [(bool, u32, u32, u8, &[u8]); 5] = [
        (true, CLIENT_ISN, 0, SYN, b""),
        (false, SERVER_ISN, client, SYN | ACK, b""),
        (true, client, server, ACK, request),
        (false, server, asked, ACK, answer),
        (false, answered, asked, ACK, &body),
    ];
    let frames = sent.map(|(is_client, seq, ack, flags, payload)| {
        let own = usize::from(!is_client);
        let packet =
            crate::support::packet::Packet::tcp(ends[own], ends[1 - own]).seq(seq).ack(ack);
        WrittenFrame::new(1_000_000_000, &packet.flags(flags).payload(payload).ethernet())
    });
    let told = reported_of_any(frames.iter().map(|frame| frame.as_frame(LinkType::Ethernet)));
    told.records.iter().map(|record| record["response_body_bytes"].as_u64()).collect()
}

proptest! {
    /// If the filter finds a body, the engine finds the same.
    #[test]
    fn the_engine_finds_every_body_that_the_filter_finds(
        request in request(),
        answer in answer(),
    ) {
        if let Some(bytes) = body_bytes(&request, &answer).filter(|bytes| *bytes < 60_000) {
            let told = told_body_bytes(&request, &answer, bytes);
            prop_assert_eq!(told, [Some(u64::from(bytes))]);
        }
    }
}

/// Needs CAP_BPF; otherwise each test reports that it was skipped.
mod root {
    use super::*;
    use crate::support::kernel_packet::Heading::{self, ToClient, ToServer};
    use crate::support::kernel_packet::*;
    use crate::support::skip;
    use httplines::config::{CaptureConfig, DecodeConfig};
    use httplines::sys::counters::Reason;
    use httplines::sys::filter::Filter;
    use std::cell::Cell;

    fn load(elide_bytes_min: Option<u64>) -> Option<Filter> {
        let config = CaptureConfig { elide_bytes_min, ..config_for(64) };
        crate::support::kernel_packet::load(&config, &DecodeConfig::default())
    }

    /// Wraps a segment in a frame.
    type Wrap = fn(Heading, &[u8]) -> Vec<u8>;

    /// A connection, as the filter sees it.
    struct Talk<'a> {
        filter: &'a Filter,
        /// The next sequence number of each end: the client, then the server.
        next: [u32; 2],
        wrap: Wrap,
    }

    fn in_ipv4(way: Heading, segment: &[u8]) -> Vec<u8> {
        ethernet(&[], TYPE_IPV4, &ipv4(way, PROTOCOL_TCP, segment))
    }

    impl<'a> Talk<'a> {
        /// A connection after its handshake. The filter knows no other connection.
        fn open(filter: &'a Filter) -> Talk<'a> {
            Talk::open_in(filter, in_ipv4)
        }

        fn open_in(filter: &'a Filter, wrap: Wrap) -> Talk<'a> {
            for map in [filter.sessions(), filter.openings()] {
                map.keys().for_each(|key| map.delete(&key).expect("it was there"));
            }
            let mut talk = Talk { filter, next: [CLIENT_ISN, SERVER_ISN], wrap };
            assert_eq!(talk.say(ToServer, SYN, b""), Reason::Opening);
            talk.next[0] = CLIENT_ISN.wrapping_add(1);
            assert_eq!(talk.say(ToClient, SYN | ACK, b""), Reason::Opening);
            talk.next[1] = SERVER_ISN + 1;
            talk
        }

        /// Sends a segment `ahead` bytes from the next sequence number, without advancing it.
        fn say_at(&self, way: Heading, ahead: i32, flags: u8, payload: &[u8]) -> Reason {
            let seq = self.next[usize::from(way == ToClient)].wrapping_add_signed(ahead);
            self.segment(way, seq, self.next[usize::from(way == ToServer)], flags, payload)
        }

        fn segment(&self, way: Heading, seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Reason {
            let mut segment = tcp_at(way, seq, flags, &[], payload);
            segment[8..12].copy_from_slice(&ack.to_be_bytes());
            reason_of(self.filter, &(self.wrap)(way, &segment))
        }

        /// Sends the next segment.
        fn say(&mut self, way: Heading, flags: u8, payload: &[u8]) -> Reason {
            let reason = self.say_at(way, 0, flags, payload);
            let next = &mut self.next[usize::from(way == ToClient)];
            *next = next.wrapping_add(payload.len() as u32);
            reason
        }

        /// Sends a request and the head of its response.
        fn ask(&mut self, request: &[u8], head: &[u8]) {
            let reason = self.say(ToServer, ACK, request);
            assert!([Reason::Admitted, Reason::Session].contains(&reason), "{reason:?}");
            assert_eq!(self.say(ToClient, ACK, head), Reason::Session, "a head is passed");
        }

        /// Whether the server's data are cut, `ahead` bytes from the next sequence number.
        fn is_cut(&self, ahead: i32, bytes: usize) -> bool {
            match self.say_at(ToClient, ahead, ACK, &vec![b'x'; bytes]) {
                Reason::Elided => true,
                Reason::Session => false,
                other => panic!("{other:?}"),
            }
        }
    }

    fn answer_of(body_bytes: usize) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\nServer: a\r\nContent-Length: {body_bytes}\r\n\r\n").into_bytes()
    }

    #[test]
    fn the_filter_finds_what_its_naive_twin_finds() {
        let Some(filter) = load(Some(1)) else { skip!("needs CAP_BPF") };
        let counts = [const { Cell::new(0) }; 2];
        proptest!(|(request in request(), answer in answer())| {
            let expected = body_bytes(&request, &answer);
            let mut talk = Talk::open(&filter);
            if talk.say(ToServer, ACK, &request) == Reason::Opening {
                prop_assert_eq!(expected, None);
                return Ok(());
            }
            talk.say(ToClient, ACK, &answer);
            let behind = read_head(&answer, false).map_or(0, |(behind, _)| behind.len());
            let rest = expected.map_or(400, |bytes| bytes as usize - behind).min(1400);
            let is_cut = rest >= 256 && talk.is_cut(0, rest);
            prop_assert_eq!(is_cut, expected.is_some() && rest >= 256);
            let is_whole = expected.is_none_or(|bytes| (bytes as usize) < rest + behind + 1);
            prop_assert!(!(is_whole && talk.is_cut(1, rest.max(256))), "the next head is cut");
            counts[usize::from(is_cut)].set(counts[usize::from(is_cut)].get() + 1);
        });
        assert!(counts.iter().all(|count| count.get() > 40), "{counts:?}");
    }

    #[test]
    fn a_body_is_left_out_from_its_first_byte_to_its_last_on_every_turn() {
        let Some(filter) = load(Some(1000)) else { skip!("needs CAP_BPF") };
        let mut talk = Talk::open(&filter);
        for turn in 0..5 {
            talk.ask(GET, &answer_of(1_000_000));
            assert!(talk.is_cut(0, 1400) && talk.is_cut(1_000_000 - 1400, 1400), "{turn}");
            if turn == 4 {
                assert!(!talk.is_cut(1_000_000 - 1399, 1400), "over its end");
                break;
            }
            talk.next[1] = talk.next[1].wrapping_add(1_000_000);
            // A retransmission of the body changes nothing.
            assert!(talk.is_cut(-1400, 1400));
        }
        assert_eq!(filter.counters().bodies_found, 5);
        // A body that is not large ends the parsing in the filter.
        let mut talk = Talk::open(&filter);
        talk.ask(GET, &answer_of(999));
        assert!(!talk.is_cut(0, 999));
        talk.say(ToClient, ACK, &[b'x'; 999]);
        talk.ask(GET, &answer_of(1_000_000));
        assert!(!talk.is_cut(0, 1400));
    }

    /// Copies may differ. User space compares them, so it gets all that follows.
    #[test]
    fn a_copy_of_what_was_read_ends_the_reading() {
        let Some(filter) = load(Some(1)) else { skip!("needs CAP_BPF") };
        let (long, other) = (answer_of(5000), answer_of(4999));
        let head_at = -(long.len() as i32);
        let copies: [(&str, Heading, i32, &[u8]); 7] = [
            ("of the request", ToServer, -(GET.len() as i32), GET),
            ("of the request, other bytes", ToServer, -(GET.len() as i32), b"HEAD / HTTP/1.1\r\n"),
            ("of a part of it", ToServer, -2, b"\r\n"),
            ("of the head", ToClient, head_at, &long),
            ("of the head, other bytes", ToClient, head_at, &other),
            ("of a part of the head", ToClient, -2, b"\r\n"),
            ("of the head with some of the body", ToClient, -2, &[b'\r'; 1000]),
        ];
        for (what, way, ahead, bytes) in copies {
            let mut talk = Talk::open(&filter);
            talk.ask(GET, &long);
            assert!(talk.is_cut(0, 1000), "before a copy {what}");
            assert_eq!(talk.say_at(way, ahead, ACK, bytes), Reason::Session, "{what}");
            assert!(!talk.is_cut(0, 1000), "after a copy {what}");
        }
        // Of the request, before the response.
        let mut talk = Talk::open(&filter);
        talk.say(ToServer, ACK, GET);
        assert_eq!(talk.say_at(ToServer, -(GET.len() as i32), ACK, GET), Reason::Session);
        talk.say(ToClient, ACK, &long);
        assert!(!talk.is_cut(0, 1000));
        // Data without an acknowledgement are no data, wherever they lie.
        let mut talk = Talk::open(&filter);
        talk.ask(GET, &long);
        for (way, ahead) in [(ToServer, -2), (ToServer, 0), (ToClient, head_at), (ToClient, 0)] {
            assert_eq!(talk.say_at(way, ahead, PSH, b"GET / "), Reason::Session);
        }
        assert!(talk.is_cut(0, 1000));
    }

    /// A head acknowledges all that the other end has sent before it. Data of a body, and
    /// acknowledgements of it, have the same position of the client.
    #[test]
    fn a_head_acknowledges_all_that_is_before_it() {
        let Some(filter) = load(Some(1)) else { skip!("needs CAP_BPF") };
        let long = answer_of(5000);
        let offs = [0, 1, -1, 500, -(GET.len() as i32), i32::MIN];
        for off in offs {
            let ack = |end: u32| end.wrapping_add_signed(off);
            let mut talk = Talk::open(&filter);
            talk.segment(ToServer, talk.next[0], ack(talk.next[1]), ACK, GET);
            talk.next[0] = talk.next[0].wrapping_add(GET.len() as u32);
            talk.say(ToClient, ACK, &long);
            assert_eq!(talk.is_cut(0, 1000), off == 0, "a request, {off}");

            let mut talk = Talk::open(&filter);
            talk.say(ToServer, ACK, GET);
            talk.segment(ToClient, talk.next[1], ack(talk.next[0]), ACK, &long);
            talk.next[1] = talk.next[1].wrapping_add(long.len() as u32);
            assert_eq!(talk.is_cut(0, 1000), off == 0, "a response, {off}");

            let mut talk = Talk::open(&filter);
            talk.ask(GET, &long);
            let body = [b'x'; 1000];
            let reason = talk.segment(ToClient, talk.next[1], ack(talk.next[0]), ACK, &body);
            let expected = if off == 0 { Reason::Elided } else { Reason::Session };
            assert_eq!(reason, expected, "a body, {off}");

            let mut talk = Talk::open(&filter);
            talk.ask(GET, &long);
            talk.say_at(ToServer, 0, ACK, b""); // the first passes
            let reason = talk.segment(ToServer, ack(talk.next[0]), talk.next[1], ACK, b"");
            let expected = if off == 0 { Reason::BodyAck } else { Reason::Session };
            assert_eq!(reason, expected, "an acknowledgement, {off}");
        }
    }

    /// One acknowledgement of a body is passed to user space for this many bytes: bpf/shared.h.
    const ACK_STEP_BYTES: u32 = 64 << 10;

    #[test]
    fn of_a_bodys_acknowledgements_the_first_goes_up_and_one_in_so_many_bytes() {
        let Some(filter) = load(Some(1)) else { skip!("needs CAP_BPF") };
        const BODY_BYTES: u32 = 1_000_000;
        let counts = [const { Cell::new(0) }; 2];
        let ahead = prop_oneof![
            2 => -2000..BODY_BYTES as i32 + 2000,
            1 => -2..3,
            1 => BODY_BYTES as i32 - 2..BODY_BYTES as i32 + 3,
        ];
        let steps = vec((ahead, 0..40_000_i32, 0..12_usize), 1..40);
        proptest!(|(steps in steps)| {
            let mut talk = Talk::open(&filter);
            talk.ask(GET, &answer_of(BODY_BYTES as usize));
            let begin = talk.next[1];
            let (mut last, mut at) = (None::<u32>, 0_i32);
            for (jump, step, kind) in steps {
                // Most continue where the previous one was.
                at = if kind < 2 { jump } else { (at + step).min(BODY_BYTES as i32 + 9) };
                let ack = begin.wrapping_add_signed(at);
                let (way, flags) = match kind {
                    3 => (ToClient, ACK),
                    4 => (ToServer, ACK | URG),
                    5 => (ToServer, PSH),
                    _ => (ToServer, ACK | PSH),
                };
                let is_in_body =
                    !(3..6).contains(&kind) && (0..BODY_BYTES as i32).contains(&at);
                let is_body_ack = is_in_body
                    && last.is_some_and(|last| ack.wrapping_sub(last) < ACK_STEP_BYTES);
                let expected = if is_body_ack { Reason::BodyAck } else { Reason::Session };
                let seq = talk.next[usize::from(way == ToClient)];
                prop_assert_eq!(talk.segment(way, seq, ack, flags, b""), expected);
                if is_in_body {
                    last = last.filter(|_| is_body_ack).or(Some(ack));
                    let count = &counts[usize::from(is_body_ack)];
                    count.set(count.get() + 1);
                }
            }
        });
        assert!(counts.iter().all(|count| count.get() > 1000), "{counts:?}");
    }

    #[test]
    fn frames_of_every_plain_kind_are_read() {
        let Some(filter) = load(Some(1)) else { skip!("needs CAP_BPF") };
        let kinds: [Wrap; 4] = [
            // Common tunnels are followed by the filter's first part.
            |way, segment| {
                let inner = ipv4(way, PROTOCOL_TCP, segment);
                let gre = [&[0, 0, 8, 0], &inner[..]].concat();
                ethernet(&[], TYPE_IPV4, &ipv4(way, PROTOCOL_GRE, &gre))
            },
            |way, segment| ethernet(&[], TYPE_IPV6, &ipv6(way, PROTOCOL_TCP, segment)),
            |way, segment| {
                let packet = ipv4(way, PROTOCOL_TCP, segment);
                ethernet(&[(TYPE_QINQ, 100), (TYPE_VLAN, 7)], TYPE_IPV4, &packet)
            },
            |way, segment| {
                let packet = ipv4_with_options(way, PROTOCOL_TCP, &[1; 40], segment);
                ethernet(&[], TYPE_IPV4, &packet)
            },
        ];
        for wrap in kinds {
            let mut talk = Talk::open_in(&filter, wrap);
            talk.ask(GET, &answer_of(5000));
            assert!(talk.is_cut(0, 1000));
        }
    }

    /// The direction, distance from the next sequence number, flags and payload of a segment.
    type Said<'a> = (Heading, i32, u8, &'a [u8]);

    /// Everything that may mean that a head is not the response to the request before it.
    #[test]
    fn where_anything_is_in_doubt_nothing_is_found() {
        let Some(filter) = load(Some(1)) else { skip!("needs CAP_BPF") };
        let (long, twice) = (answer_of(5000), [GET, GET].concat());
        let asked: Said<'_> = (ToServer, 0, ACK, GET);
        let asks = |text: &'static [u8]| [(ToServer, 0, ACK, text), (ToServer, 0, ACK, b"")];
        let proxy: Said<'_> = (ToServer, 0, ACK, b"PROXY TCP4 192.0.2.1 192.0.2.2 4242 80\r\n");
        let early: Said<'_> = (ToClient, 0, ACK, b"HTTP/1.1 103 Early Hints\r\n\r\n");
        let switch: Said<'_> = (ToClient, 0, ACK, b"HTTP/1.1 101 To WebSocket\r\n\r\n");
        let with_body = b"GET / HTTP/1.1\r\nContent-Length: 9\r\n\r\n";
        let doubts: [(&str, [Said<'_>; 2]); 16] = [
            ("two requests", [(ToServer, 0, ACK, &twice), (ToServer, 0, ACK, b"")]),
            ("two requests in two segments", [asked, asked]),
            ("a request in two", [(ToServer, 0, ACK, &GET[..20]), (ToServer, 0, ACK, &GET[20..])]),
            ("its end first", [(ToServer, 20, ACK, &GET[20..]), (ToServer, 0, ACK, &GET[..20])]),
            ("HEAD", asks(b"HEAD / HTTP/1.1\r\n\r\n")),
            ("CONNECT", asks(b"CONNECT a:1 HTTP/1.1\r\n\r\n")),
            ("a request with a body", asks(with_body)),
            ("an interim answer", [asked, early]),
            ("a switch, and what looks like a head", [asked, switch]),
            ("something before the request", [proxy, asked]),
            ("an answer before the request", [(ToClient, 0, ACK, &long), asked]),
            ("a later part of the answer first", [asked, (ToClient, 300, ACK, &[b'x'; 300])]),
            ("urgent data", [(ToServer, 0, ACK | URG, GET), (ToServer, 0, ACK, b"")]),
            ("the client's end", [asked, (ToServer, 0, FIN | ACK, b"")]),
            ("a reset", [asked, (ToServer, 0, RST, b"")]),
            ("a byte between", [asked, (ToClient, 0, ACK, b"\n")]),
        ];
        for (what, said) in doubts {
            let mut talk = Talk::open(&filter);
            for (way, ahead, flags, payload) in said {
                talk.say_at(way, ahead, flags, payload);
                let next = &mut talk.next[usize::from(way == ToClient)];
                *next = next.wrapping_add(if ahead == 0 { payload.len() as u32 } else { 0 });
            }
            talk.say(ToClient, ACK, &long);
            assert!(!talk.is_cut(0, 1000), "{what}");
        }
        assert_eq!(filter.counters().bodies_found, 0);
        let mut talk = Talk::open(&filter);
        talk.ask(GET, &long);
        assert!(talk.is_cut(0, 1000), "where nothing is");
        // Anybody can send a SYN, or an answer to one.
        for flags in [SYN, SYN | ACK] {
            for way in [ToServer, ToClient] {
                let mut talk = Talk::open(&filter);
                talk.say(ToServer, ACK, GET);
                talk.segment(way, 7_000_000, 8_000_000, flags, b"");
                talk.say(ToClient, ACK, &long);
                assert!(talk.is_cut(0, 1000), "a SYN");
                talk.segment(way, 9_000_000, 8_000_000, flags, b"");
                assert!(talk.is_cut(0, 1000), "another SYN");
            }
        }
    }

    /// A found body ends with the connection, and with the next message.
    #[test]
    fn what_was_found_of_a_connection_ends_with_it() {
        let Some(filter) = load(Some(1)) else { skip!("needs CAP_BPF") };
        let endings: [(&str, Heading, i32, u8); 3] = [
            ("the server's end", ToClient, 0, FIN | ACK),
            ("a reset", ToClient, 0, RST),
            ("the client's reset", ToServer, 0, RST | ACK),
        ];
        for (what, way, ahead, flags) in endings {
            let mut talk = Talk::open(&filter);
            talk.ask(GET, &answer_of(5000));
            assert!(talk.is_cut(0, 1000), "{what}");
            talk.say_at(way, ahead, flags, b"");
            assert!(!talk.is_cut(0, 1000), "{what}");
        }
        // Nothing of the client's data is cut either, whatever its sequence number.
        let mut talk = Talk::open(&filter);
        talk.ask(GET, &answer_of(5000));
        let ahead = talk.next[1].wrapping_sub(talk.next[0]) as i32;
        assert_eq!(talk.say_at(ToServer, ahead, ACK, &[b'x'; 1000]), Reason::Session);
    }

    #[test]
    fn without_elision_nothing_is_read() {
        for elide_bytes_min in [None, Some(5001), Some(u64::MAX)] {
            let Some(filter) = load(elide_bytes_min) else { skip!("needs CAP_BPF") };
            let mut talk = Talk::open(&filter);
            talk.ask(GET, &answer_of(5000));
            assert!(!talk.is_cut(0, 1000));
        }
    }

    /// Limits of the parser.
    #[test]
    fn long_heads_and_the_greatest_lengths() {
        let Some(filter) = load(Some(1)) else { skip!("needs CAP_BPF") };
        let with = |more: &str, length: u32| {
            format!("HTTP/1.1 200 OK\r\n{more}Content-Length: {length}\r\n\r\n").into_bytes()
        };
        let rows = [
            (with("", 1 << 29), true),
            (with("", (1 << 29) + 1), false),
            (with(&"A: b\r\n".repeat(28), 5000), true),
            (with(&"A: b\r\n".repeat(40), 5000), false),
            (with(&format!("A: {}\r\n", "b".repeat(1500)), 5000), true),
            (with(&format!("A: {}\r\n", "b".repeat(2200)), 5000), false),
        ];
        for (head, is_read) in rows {
            let mut talk = Talk::open(&filter);
            talk.ask(GET, &head);
            assert_eq!(talk.is_cut(0, 1000), is_read, "{}", head.len());
        }
    }
}
