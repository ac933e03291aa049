//! Workloads: the kinds of connections, and their mixture. They are deterministic: the same name,
//! seed and length give the same round.

use super::frame::{self, HEADER_BYTES, Heading, SEGMENT_BYTES, datagram, flag, kind};
use super::round::http2::index;
use super::round::tls::Version;
use super::round::{Answer, Round, Script, Weaver};

/// The kind of traffic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Workload {
    /// Keep-alive connections of small requests and responses, a frame each
    Small,
    /// The same exchanges in HTTP/2
    H2,
    /// Unary calls of gRPC, in HTTP/2
    Grpc,
    /// Talks of WebSocket: small frames both ways
    Websocket,
    /// Connections of TLS 1.3 and 1.2, with a hello of two segments and a few exchanges
    Tls,
    /// Pages of 2 to 60 KB, half of them chunked
    Pages,
    /// Downloads of 1 MB in frames of MTU size
    Bulk,
    /// The same downloads in superpackets of 64 KB, as veth pairs carry them
    Superpackets,
    /// Small requests, with nine frames of other protocols for each HTTP frame
    Noise,
    /// A new connection for every request
    Connections,
    /// Frames of 60, 570 and 1514 bytes, in the proportion 7:4:1
    Imix,
    /// The small requests, in a VXLAN tunnel
    Tunnel,
    /// Small requests, with three frames of a flood of SYNs, of garbage and of broken headers for
    /// each HTTP frame
    Hostile,
    /// All of these in one, but superpackets, the tunnel, HTTP/2, gRPC, WebSocket and TLS
    Mixed,
}

/// Payload of a superpacket: whole segments that fit into an IPv4 packet.
const SUPER_BYTES: usize = 44 * SEGMENT_BYTES;
const HTTP: u16 = 80;
const TLS: u16 = 443;

impl Workload {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Small => "small",
            Workload::H2 => "h2",
            Workload::Grpc => "grpc",
            Workload::Websocket => "websocket",
            Workload::Tls => "tls",
            Workload::Pages => "pages",
            Workload::Bulk => "bulk",
            Workload::Superpackets => "superpackets",
            Workload::Noise => "noise",
            Workload::Connections => "connections",
            Workload::Imix => "imix",
            Workload::Tunnel => "tunnel",
            Workload::Hostile => "hostile",
            Workload::Mixed => "mixed",
        }
    }

    /// Whether there are bodies that are long enough for elision in the kernel.
    pub fn has_bodies(self) -> bool {
        let with = [Workload::Pages, Workload::Bulk, Workload::Superpackets, Workload::Mixed];
        with.contains(&self)
    }

    /// Frames in total per frame of HTTP.
    fn frames_for_one(self) -> usize {
        match self {
            Workload::Noise => 10,
            Workload::Hostile => 4,
            _ => 1,
        }
    }

    /// Concurrent connections, if the round is long enough.
    fn concurrency(self) -> usize {
        match self {
            Workload::Bulk | Workload::Superpackets => 64,
            Workload::Pages => 1024,
            _ => 4096,
        }
    }

    /// A round of at least `frame_count_min` frames.
    pub fn round(self, seed: u64, frame_count_min: usize) -> Round {
        let mut weaver = Weaver::new(seed, self.concurrency());
        let mut http_count = 0;
        if self == Workload::Tunnel {
            weaver.enter_tunnel();
        }
        while weaver.planned() < frame_count_min {
            let before = weaver.planned();
            let is_http = http_count * self.frames_for_one() <= before;
            match self {
                Workload::Hostile if !is_http => hostile(&mut weaver),
                _ if !is_http => other(&mut weaver),
                Workload::Small | Workload::Noise | Workload::Tunnel | Workload::Hostile => {
                    small(&mut weaver)
                }
                Workload::H2 => h2(&mut weaver),
                Workload::Grpc => grpc(&mut weaver),
                Workload::Websocket => websocket(&mut weaver),
                Workload::Tls => tls(&mut weaver),
                Workload::Pages => pages(&mut weaver),
                Workload::Bulk => bulk(&mut weaver, SEGMENT_BYTES),
                Workload::Superpackets => bulk(&mut weaver, SUPER_BYTES),
                Workload::Connections => short(&mut weaver),
                Workload::Imix => imix(&mut weaver),
                Workload::Mixed => mixed(&mut weaver),
            }
            if is_http {
                http_count += weaver.planned() - before;
            }
        }
        weaver.weave()
    }
}

/// Kinds of small requests: head and body after the digits, and the response.
fn small_exchange(script: &mut Script<'_>, which: u64) {
    let agent = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101\r\n";
    let accept = "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n\
                  Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate\r\n";
    let host = "Host: www.example.com\r\n";
    match which % 8 {
        0..4 => {
            script.request("GET", &format!("{host}{agent}{accept}\r\n"), 0);
            script.response(
                "200 OK",
                "text/html",
                &Answer::Length(120 + 80 * which as usize % 640),
            );
        }
        4..6 => {
            script.request("GET", &format!("{host}Accept: */*\r\n\r\n"), 0);
            script.response("200 OK", "application/json", &Answer::Length(64));
        }
        6 => {
            let head =
                format!("{host}Content-Type: application/json\r\nContent-Length: 96\r\n\r\n");
            script.request("POST", &head, 96);
            script.response("200 OK", "application/json", &Answer::Length(32));
        }
        _ => {
            script.request("GET", &format!("{host}{agent}\r\n"), 0);
            script.response("404 No", "text/plain", &Answer::Length(9));
        }
    }
}

fn small(weaver: &mut Weaver) {
    let count = 16 + weaver.pick(48);
    let mut picks: Vec<u64> = (0..count).map(|_| weaver.pick(8)).collect();
    let mut script = weaver.script(HTTP);
    script.open();
    for (index, which) in picks.drain(..).enumerate() {
        small_exchange(&mut script, which);
        // The next request acknowledges the response, but sometimes a pause comes first.
        if index % 4 == 3 {
            script.acknowledge(Heading::ToServer);
        }
    }
    script.close();
}

/// As [`small`], with the same sizes of bodies.
fn h2(weaver: &mut Weaver) {
    let count = 16 + weaver.pick(48);
    let picks: Vec<u64> = (0..count).map(|_| weaver.pick(8)).collect();
    let mut script = weaver.script(HTTP);
    script.open_http2();
    for (number, which) in picks.into_iter().enumerate() {
        h2_exchange(&mut script, 2 * number as u32 + 1, which);
        if number % 4 == 3 {
            script.acknowledge(Heading::ToServer);
        }
    }
    script.close();
}

/// As [`h2`]: unary calls, one in eight of which fails.
fn grpc(weaver: &mut Weaver) {
    let count = 16 + weaver.pick(48);
    let picks: Vec<u64> = (0..count).map(|_| weaver.pick(8)).collect();
    let mut script = weaver.script(HTTP);
    script.open_http2();
    for (number, which) in picks.into_iter().enumerate() {
        let stream = 2 * number as u32 + 1;
        let fields = [
            (index::AUTHORITY, "www.example.com"),
            (index::CONTENT_TYPE, "application/grpc"),
            (index::USER_AGENT, "grpc-python/1.85.0 grpc-c/54.0.0 (linux; chttp2)"),
            (index::ACCEPT_ENCODING, "identity, deflate, gzip"),
        ];
        script.call_http2(stream, &fields, 16 + 24 * which as usize);
        let answer = (which < 7).then_some(40 + 80 * which as usize);
        script.answer_http2(stream, answer);
        if number % 4 == 3 {
            script.acknowledge(Heading::ToServer);
        }
    }
    script.close();
}

/// The same kinds as [`small_exchange`].
fn h2_exchange(script: &mut Script<'_>, stream: u32, which: u64) {
    let host = (index::AUTHORITY, "www.example.com");
    let agent = (index::USER_AGENT, "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101");
    match which % 8 {
        0..4 => {
            let fields = [
                host,
                agent,
                (index::ACCEPT, "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"),
                (index::ACCEPT_LANGUAGE, "en-US,en;q=0.5"),
                (index::ACCEPT_ENCODING, "gzip, deflate"),
            ];
            script.request_http2(stream, &fields, 0);
            script.response_http2(stream, true, 120 + 80 * which as usize % 640);
        }
        4..6 => {
            script.request_http2(stream, &[host, (index::ACCEPT, "*/*")], 0);
            script.response_http2(stream, true, 64);
        }
        6 => {
            let kind = (index::CONTENT_TYPE, "application/json");
            script.request_http2(stream, &[host, kind, (index::CONTENT_LENGTH, "96")], 96);
            script.response_http2(stream, true, 32);
        }
        _ => {
            script.request_http2(stream, &[host, agent], 0);
            script.response_http2(stream, false, 9);
        }
    }
}

/// An exchange of small messages, closed by either side.
fn websocket(weaver: &mut Weaver) {
    let count = 16 + weaver.pick(48);
    let picks: Vec<u64> = (0..count).map(|_| weaver.pick(8)).collect();
    let first = if weaver.pick(4) == 0 { Heading::ToClient } else { Heading::ToServer };
    let mut script = weaver.script(HTTP);
    script.open_websocket();
    for (index, which) in picks.into_iter().enumerate() {
        script.talk_websocket(which);
        if index % 4 == 3 {
            script.acknowledge(Heading::ToServer);
        }
    }
    script.close_websocket(first);
    script.close();
}

/// Three of four are of TLS 1.3.
fn tls(weaver: &mut Weaver) {
    let version = if weaver.pick(4) == 0 { Version::Tls12 } else { Version::Tls13 };
    let picks: Vec<u64> = (0..1 + weaver.pick(4)).map(|_| weaver.pick(8)).collect();
    let mut script = weaver.script(TLS);
    script.open_tls(version);
    for which in picks {
        let bytes = [200, 900, 4_000, 12_000, 40_000, 90_000][which as usize % 6];
        script.talk_tls(300 + 100 * which as usize, bytes);
    }
    script.close_tls();
}

fn short(weaver: &mut Weaver) {
    let which = weaver.pick(8);
    let mut script = weaver.script(HTTP);
    script.open();
    small_exchange(&mut script, which);
    script.acknowledge(Heading::ToServer);
    script.close();
}

fn pages(weaver: &mut Weaver) {
    let picks: Vec<u64> = (0..8).map(|_| weaver.pick(8)).collect();
    let mut script = weaver.script(HTTP);
    script.open();
    for which in picks {
        let bytes = [2_000, 8_000, 20_000, 60_000][which as usize % 4];
        script.request("GET", "Host: www.example.com\r\nAccept: */*\r\n\r\n", 0);
        let answer = if which < 4 { Answer::Length(bytes) } else { Answer::Chunked(bytes) };
        script.response("200 OK", "text/html", &answer);
        script.acknowledge(Heading::ToServer);
    }
    script.close();
}

fn bulk(weaver: &mut Weaver, segment_bytes: usize) {
    let mut script = weaver.script(HTTP);
    script.set_segment_bytes(segment_bytes);
    script.open();
    for _ in 0..2 {
        script.request("GET", "Host: downloads.example.com\r\n\r\n", 0);
        script.response("200 OK", "application/octet-stream", &Answer::Length(1_000_000));
        script.acknowledge(Heading::ToServer);
    }
    script.close();
}

/// Of every twelve frames, seven have 60 bytes, four 570 and one 1514.
fn imix(weaver: &mut Weaver) {
    const HALF: usize = 570 - HEADER_BYTES;
    let mut script = weaver.script(HTTP);
    script.open();
    for _ in 0..8 {
        for answer in [0, SEGMENT_BYTES] {
            script.request_of("GET", HALF);
            script.acknowledge(Heading::ToClient);
            script.response_of(HALF, answer);
            script.acknowledge(Heading::ToServer);
            script.acknowledge(Heading::ToClient);
        }
        script.acknowledge(Heading::ToServer);
    }
    script.close();
}

/// What comes next on a busy link: mostly small requests, a new connection for a few of them, now
/// and then a page or a download, other protocols, and attacks.
fn mixed(weaver: &mut Weaver) {
    match weaver.pick(32) {
        0..12 => small(weaver),
        12..18 => (0..12).for_each(|_| short(weaver)),
        18..20 => pages(weaver),
        20..22 => imix(weaver),
        22..28 => other(weaver),
        28..31 => hostile(weaver),
        _ => bulk(weaver, SEGMENT_BYTES),
    }
}

/// Traffic other than HTTP: TLS, another protocol on TCP, and datagrams.
fn other(weaver: &mut Weaver) {
    let (which, count) = (weaver.pick(3), 50 + weaver.pick(200));
    if which == 0 {
        let (connection, bytes) = (weaver.connection(), 60 + weaver.pick(1100) as usize / 64 * 64);
        let template = datagram(TLS, &vec![0x40; bytes]);
        let frames = (0..count).map(|_| (template.clone(), connection)).collect();
        return weaver.frames(kind::DATAGRAM, frames);
    }
    let port = if which == 1 { TLS } else { 22 };
    let mut script = weaver.script(port);
    script.open();
    let begins: [&[u8]; 2] = if which == 1 {
        [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x17\x03\x03\x05\x00"]
    } else {
        [b"SSH-2.0-OpenSSH_9.2p1\r\n", b"\x00\x00\x04\x00\x0a\x14"]
    };
    for index in 0..count {
        let mut payload = begins[usize::from(index > 1)].to_vec();
        payload.resize(if index % 2 == 0 { 200 } else { SEGMENT_BYTES }, 0xa5);
        let way = if index % 2 == 0 { Heading::ToServer } else { Heading::ToClient };
        script.data(way, flag::PSH, &payload);
    }
    script.close();
}

/// Unwanted traffic: connections that never continue, meaningless bytes, false headers.
fn hostile(weaver: &mut Weaver) {
    let which = weaver.pick(8);
    match which {
        0..4 => (0..24).for_each(|_| weaver.script(HTTP).send_syn()),
        4 | 5 => {
            let garbage: Vec<u8> = (0..400).map(|_| weaver.pick(256) as u8).collect();
            let mut script = weaver.script(HTTP);
            if which == 4 {
                script.open();
            }
            for payload in garbage.chunks(80) {
                script.data(Heading::ToServer, flag::PSH, payload);
                script.data(Heading::ToClient, flag::PSH, payload);
            }
            script.data(Heading::ToClient, flag::RST, &[]);
        }
        _ => {
            let whole = frame::tcp(Heading::ToServer, flag::ACK, HTTP, b"GET / HTTP/1.1\r\n\r\n");
            let broken = (0..16).map(|_| {
                let mut frame = whole.clone();
                let at = 14 + weaver.pick(HEADER_BYTES as u64 - 14) as usize;
                // Versions, lengths, protocols, offsets: with arbitrary values.
                frame[at] = weaver.pick(256) as u8;
                frame.truncate(HEADER_BYTES - 20 + weaver.pick(20) as usize);
                (frame, 0)
            });
            let broken = broken.collect();
            weaver.frames(kind::VERBATIM, broken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Step;
    use std::collections::HashMap;

    const ALL: [Workload; 14] = [
        Workload::Small,
        Workload::H2,
        Workload::Grpc,
        Workload::Websocket,
        Workload::Tls,
        Workload::Pages,
        Workload::Bulk,
        Workload::Superpackets,
        Workload::Noise,
        Workload::Connections,
        Workload::Imix,
        Workload::Tunnel,
        Workload::Hostile,
        Workload::Mixed,
    ];

    #[test]
    fn a_round_is_the_same_for_the_same_seed() {
        for workload in ALL {
            let (one, same) = (workload.round(7, 3000), workload.round(7, 3000));
            assert_eq!((&one.steps, &one.templates), (&same.steps, &same.templates));
            assert!(one.steps.len() >= 3000);
        }
        assert_ne!(Workload::Small.round(7, 3000).steps, Workload::Small.round(8, 3000).steps);
    }

    /// The last frame of an exchange belongs to its response, and no later one does.
    #[test]
    fn an_exchange_ends_with_its_last_frame() {
        for workload in ALL {
            let round = workload.round(3, 3000);
            for (number, exchange) in round.expected.iter().enumerate() {
                let last = &round.steps[exchange.last_step];
                assert_eq!((last.number as usize, last.kind), (number, kind::SERVER));
            }
            for (index, step) in round.steps.iter().enumerate() {
                let is_answer = step.text == frame::text::RESPONSE;
                let last = round.expected.get(step.number as usize).map(|it| it.last_step);
                assert!(!is_answer || last >= Some(index), "{workload:?}");
            }
        }
    }

    /// Every connection's segments follow each other without a hole, and acknowledge what was
    /// received.
    #[test]
    fn numbers_are_those_of_a_tcp_that_loses_nothing() {
        for workload in ALL {
            let round = workload.round(3, 3000);
            let mut next: HashMap<(u32, u8), u32> = HashMap::new();
            let is_tcp = |step: &&Step| [kind::CLIENT, kind::SERVER].contains(&step.kind);
            for step in round.steps.iter().filter(is_tcp) {
                let own = next.entry((step.connection, step.kind)).or_default();
                assert_eq!(step.seq, *own, "{workload:?}");
                let template = &round.templates[step.template as usize][round.prefix_bytes..];
                *own += frame::sequence_length(template);
                let other = kind::CLIENT + kind::SERVER - step.kind;
                let seen = next.get(&(step.connection, other)).copied().unwrap_or(0);
                assert_eq!(step.ack, seen, "{workload:?}");
            }
        }
    }

    #[test]
    fn mixtures_are_what_they_are_called() {
        let noise = Workload::Noise.round(1, 50_000);
        let share = noise.http_frame_count as f64 / noise.steps.len() as f64;
        assert!((0.09..0.12).contains(&share), "{share}");
        let hostile = Workload::Hostile.round(1, 50_000);
        let share = hostile.http_frame_count as f64 / hostile.steps.len() as f64;
        assert!((0.24..0.27).contains(&share), "{share}");
        let imix = Workload::Imix.round(1, 50_000);
        let share = |bytes: u16| {
            let count = imix.steps.iter().filter(|step| step.frame_bytes == bytes).count();
            count as f64 * 12.0 / imix.steps.len() as f64
        };
        for (bytes, wanted) in [(60, 7.0), (570, 4.0), (1514, 1.0)] {
            assert!((share(bytes) - wanted).abs() < 0.4, "{bytes}: {}", share(bytes));
        }
        assert!(Workload::Superpackets.round(1, 50).has_superpackets());
        assert!(Workload::Small.round(1, 100_000).concurrency_max > 1000);
    }
}
