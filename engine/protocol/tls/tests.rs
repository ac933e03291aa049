//! Hellos that the tests make themselves, and connections of them in all sorts of pieces.

use super::certificate;
use super::hello::ClientHello;
use super::records::HEAD_BYTES;
use super::start::hello_in;
use crate::config::HttpConfig;
use crate::decode::{SeqNumber, TunnelPath};
use crate::flow::{Chunk, End, Handshake, SegmentMeta};
use crate::ids::Direction::{self, Forward, Reverse};
use crate::ids::{FlowKey, IfaceId};
use crate::protocol::{ConnectionState, Context, FlowRef, Interest, Shared};
use crate::record::{Event, EventSink, TlsOutcome, Wants};
use crate::time::TimestampNs;
use proptest::prelude::*;

/// What the tests compare of a record: all but times.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told(String);

#[derive(Debug, Default)]
struct Heard {
    told: Vec<Told>,
    outcomes: Vec<Option<TlsOutcome>>,
    is_early: bool,
}

impl EventSink for Heard {
    fn wants(&self) -> Wants {
        Wants { tls_early: self.is_early, ..Wants::ALL }
    }

    fn event(&mut self, event: Event<'_>) {
        if let Event::Tls(record) = event {
            let mut tls = *record.tls;
            (tls.hello_ns, tls.handshake_ns, tls.duration_ns) = (None, None, None);
            tls.began_at = TimestampNs(0);
            self.told.push(Told(format!("{tls:?}")));
            self.outcomes.push(tls.outcome);
        }
    }
}

fn u16s(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn with_len(content: &[u8], len_bytes: usize) -> Vec<u8> {
    let len = (content.len() as u32).to_be_bytes();
    [&len[4 - len_bytes..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &with_len(content, 2)].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &with_len(body, 3)].concat()
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind, 3, 3][..], &with_len(content, 2)].concat()
}

/// The content of a ClientHello.
fn client_hello(version: u16, ciphers: &[u16], extensions: Option<&[Vec<u8>]>) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend_from_slice(&[7; 32]);
    body.push(0);
    body.extend(with_len(&u16s(ciphers), 2));
    body.extend_from_slice(&[1, 0]);
    if let Some(extensions) = extensions {
        body.extend(with_len(&extensions.concat(), 2));
    }
    body
}

fn server_hello(version: u16, cipher: u16, extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend_from_slice(&[9; 32]);
    body.push(0);
    body.extend_from_slice(&cipher.to_be_bytes());
    body.push(0);
    body.extend(with_len(&extensions.concat(), 2));
    body
}

fn sni(name: &str) -> Vec<u8> {
    let name = [&[0][..], &with_len(name.as_bytes(), 2)].concat();
    extension(0, &with_len(&name, 2))
}

fn alpn(names: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = names.iter().flat_map(|name| with_len(name, 1)).collect();
    extension(16, &with_len(&list, 2))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The examples in the descriptions of JA3 and JA4: what goes in, and what comes out.
#[test]
fn fingerprints_are_those_of_their_descriptions() {
    // "769,47-53-5-10-49161-49162-49171-49172-50-56-19-4,0-10-11,23-24-25,0"
    let ciphers = [47, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4];
    let groups = extension(10, &with_len(&u16s(&[23, 24, 25]), 2));
    let formats = extension(11, &with_len(&[0], 1));
    let extensions = [sni("x"), groups.clone(), formats.clone()];
    let hello = ClientHello::of(&client_hello(769, &ciphers, Some(&extensions)), true).unwrap();
    assert_eq!(hex(&hello.ja3.unwrap()), "ada70206e40642a3e4461f35503241d5");
    // "769,4-5-10-9-100-98-3-6-19-18-99,,,"
    let ciphers = [4, 5, 10, 9, 100, 98, 3, 6, 19, 18, 99];
    let hello = ClientHello::of(&client_hello(769, &ciphers, None), true).unwrap();
    assert_eq!(hex(&hello.ja3.unwrap()), "de350869b8c85de67a350c8d186f11e6");
    // The Chrome of JA4's technical details: t13d1516h2_8daaf6152771_e5627efa2ab1.
    let ciphers = [
        0x3a3a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013,
        0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
    ];
    let algorithms = [0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601];
    let empty = |kind| extension(kind, &[]);
    let versions = extension(43, &with_len(&u16s(&[0x2a2a, 0x0304, 0x0303]), 1));
    let extensions = [
        empty(0x1a1a),
        empty(0x001b),
        sni("a"),
        empty(0x0033),
        alpn(&[b"h2", b"http/1.1"]),
        empty(0x4469),
        empty(0x0017),
        empty(0x002d),
        extension(13, &with_len(&u16s(&algorithms), 2)),
        empty(0x0005),
        empty(0x0023),
        empty(0x0012),
        versions,
        empty(0xff01),
        formats,
        groups,
        empty(0x0015),
        empty(0x5a5a),
    ];
    let hello = ClientHello::of(&client_hello(0x0303, &ciphers, Some(&extensions)), true).unwrap();
    let ja4 = hello.ja4.unwrap();
    assert_eq!(std::str::from_utf8(&ja4), Ok("t13d1516h2_8daaf6152771_e5627efa2ab1"));
}

#[test]
fn letters_of_alpn_and_of_odd_hellos() {
    let ja4 = |version, extensions: Option<&[Vec<u8>]>, ciphers: &[u16]| {
        let hello = ClientHello::of(&client_hello(version, ciphers, extensions), true).unwrap();
        String::from_utf8(hello.ja4.unwrap().to_vec()).unwrap()
    };
    assert_eq!(ja4(0x0301, None, &[]), "t10i000000_000000000000_000000000000");
    assert!(ja4(0x0300, None, &[5]).starts_with("ts3i010000_"));
    assert!(ja4(0x0505, Some(&[sni("a")]), &[5]).starts_with("t00d010100_"));
    for (protocol, letters) in [
        (&b"h"[..], "hh"),
        (b"http/1.1", "h1"),
        (b"\xab", "ab"),
        (b"\xab\xcd", "ad"),
        (b"0\xab", "3b"),
        (b"\x0a\x0a", "0a"),
    ] {
        let text = ja4(0x0303, Some(&[alpn(&[protocol])]), &[5]);
        assert_eq!(&text[8..10], letters, "{protocol:?}");
    }
}

/// One side of a connection of TLS 1.2, and of one of TLS 1.3.
fn conversation(is_13: bool) -> [Vec<u8>; 2] {
    let mut offered = vec![sni("www.example.org"), alpn(&[b"h2", b"http/1.1"])];
    let mut chosen = Vec::new();
    if is_13 {
        offered.push(extension(43, &with_len(&u16s(&[0x0304, 0x0303]), 1)));
        chosen.push(extension(43, &u16s(&[0x0304])));
        chosen.push(extension(51, &[&u16s(&[29, 32])[..], &[5; 32]].concat()));
    } else {
        chosen.push(alpn(&[b"h2"]));
    }
    let client_hello = message(1, &client_hello(0x0303, &[0x1301, 0xc02f], Some(&offered)));
    let cipher = if is_13 { 0x1301 } else { 0xc02f };
    let server_hello = message(2, &server_hello(0x0303, cipher, &chosen));
    let finished = record(if is_13 { 23 } else { 22 }, &[0xee; 53]);
    let data = record(23, &[0x55; 400]);
    let certificate = message(11, &with_len(&with_len(&certificate_of("a"), 3), 3));
    let key_exchange = message(12, &[&[3, 0, 29, 32][..], &[6; 40]].concat());
    let secrets: Vec<u8> = match is_13 {
        true => [record(20, &[1]), record(23, &[0xdd; 700])].concat(),
        false => {
            [record(22, &certificate), record(22, &key_exchange), record(22, &message(14, &[]))]
                .concat()
        }
    };
    let client =
        [record(22, &client_hello), record(20, &[1]), finished.clone(), data.clone()].concat();
    let mut server = [record(22, &server_hello), secrets].concat();
    if !is_13 {
        server.extend([record(20, &[1]), finished].concat());
    }
    server.extend(data);
    [client, server]
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = match content.len() {
        len @ 0..=0x7f => vec![len as u8],
        len @ 0x80..=0xff => vec![0x81, len as u8],
        len => [&[0x82][..], &(len as u16).to_be_bytes()].concat(),
    };
    [&[tag][..], &len, content].concat()
}

fn certificate_of(name: &str) -> Vec<u8> {
    let attribute = |kind: &[u8], tag, value: &[u8]| {
        der(0x31, &der(0x30, &[der(6, kind), der(tag, value)].concat()))
    };
    let issuer = [
        attribute(&[0x55, 4, 6], 0x13, b"DE"),
        attribute(&[0x55, 4, 10], 0x0c, b"Lab, Inc."),
        attribute(&[0x2b, 6, 1, 4, 1, 0x82, 0x37], 0x1e, b"\0C\0\xe4"),
    ]
    .concat();
    let validity = [der(0x17, b"491231235959Z"), der(0x18, b"20500101000000Z")].concat();
    let subject = attribute(&[0x55, 4, 3], 0x0c, name.as_bytes());
    let signed = [
        der(0xa0, &der(2, &[2])),
        der(2, &[1]),
        der(0x30, &[]),
        der(0x30, &issuer),
        der(0x30, &validity),
        der(0x30, &subject),
    ];
    der(0x30, &[der(0x30, &signed.concat()), der(0x30, &[])].concat())
}

#[test]
fn a_certificate_tells_names_and_dates() {
    let told = certificate::read(&certificate_of("a.example.org"));
    assert_eq!(told.cn.as_deref(), Some(&b"a.example.org"[..]));
    let issuer = String::from_utf8(told.issuer.unwrap().to_vec()).unwrap();
    assert_eq!(issuer, "C=DE, O=Lab\\, Inc., 1.3.6.1.4.1.311=C\u{e4}");
    assert_eq!(told.validity, [Some(*b"2049-12-31T23:59:59Z"), Some(*b"2050-01-01T00:00:00Z")]);
}

struct Player {
    shared: Shared<Heard>,
    state: ConnectionState,
    handshake: Handshake,
    next: [u32; 2],
}

impl Player {
    fn new(is_early: bool) -> Player {
        let sink = Heard { is_early, ..Heard::default() };
        let mut handshake = Handshake::of_syn(Forward, SeqNumber(1000), TimestampNs(0));
        handshake.see_answer();
        Player {
            shared: Shared::new(HttpConfig::default(), sink),
            state: ConnectionState::default(),
            handshake,
            next: [1001, 5001],
        }
    }

    fn chunk(&mut self, direction: Direction, chunk: Chunk<'_>) {
        let key = FlowKey::default();
        let flow = FlowRef { key: &key, handshake: &self.handshake };
        self.state.chunk(&mut Context { flow, shared: &mut self.shared }, direction, chunk);
    }

    fn say(&mut self, direction: Direction, bytes: &[u8]) {
        let own = direction.index();
        let meta = SegmentMeta {
            timestamp: TimestampNs(1),
            iface: IfaceId::default(),
            tunnel: TunnelPath::default(),
            ack: Some(SeqNumber(self.next[1 - own])),
            seq: SeqNumber(self.next[own]),
            is_frame_start: true,
        };
        self.next[own] += bytes.len() as u32;
        self.chunk(direction, Chunk::Bytes(bytes, &meta));
    }

    fn lose(&mut self, direction: Direction, len_bytes: u64) {
        let at = SeqNumber(self.next[direction.index()]);
        self.next[direction.index()] += len_bytes as u32;
        self.chunk(direction, Chunk::Gap { len_bytes, at });
    }

    fn end(&mut self, end: End) {
        let key = FlowKey::default();
        let flow = FlowRef { key: &key, handshake: &self.handshake };
        self.state.end(&mut Context { flow, shared: &mut self.shared }, end);
        self.state.leave(&mut self.shared);
    }

    fn told(mut self, end: End) -> Vec<Told> {
        self.end(end);
        assert_eq!(self.shared.held_bytes(), 0);
        self.shared.recorder.sink.told
    }
}

/// The first flight of the client, all of the server's, then the rest.
fn play(player: &mut Player, [client, server]: &[Vec<u8>; 2], cuts: &[usize]) {
    let first_bytes = HEAD_BYTES + usize::from(client[3]) * 256 + usize::from(client[4]);
    let mut cuts = cuts.iter().cycle();
    let mut pieces = |player: &mut Player, direction, bytes: &[u8]| {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at((*cuts.next().unwrap()).clamp(1, rest.len()));
            player.say(direction, piece);
            rest = behind;
        }
    };
    pieces(player, Forward, &client[..first_bytes]);
    pieces(player, Reverse, server);
    pieces(player, Forward, &client[first_bytes..]);
}

#[test]
fn both_versions_are_told() {
    for is_13 in [false, true] {
        let mut player = Player::new(false);
        play(&mut player, &conversation(is_13), &[1 << 20]);
        assert_eq!(player.state.interest(), Interest::End);
        player.chunk(Forward, Chunk::Gap { len_bytes: 1 << 33, at: SeqNumber(0) });
        for direction in [Forward, Reverse] {
            player.chunk(direction, Chunk::Closing(TimestampNs(9)));
            player.chunk(direction, Chunk::Fin);
        }
        let told = player.told(End::Fin);
        let [Told(told)] = &told[..] else { panic!("{told:?}") };
        assert!(told.contains("outcome: Some(Complete)"), "{told}");
        assert!(told.contains("group: Some(29)"), "{told}");
        assert!(told.contains("is_resumed: Some(false)"), "{told}");
        let version = if is_13 { "version: Some(772)" } else { "version: Some(771)" };
        assert!(told.contains(version), "{told}");
        assert!(told.contains("gap_bytes: 0"), "what passes behind the handshake is not lost");
        let client_bytes = conversation(is_13)[0].len() as u64 + (1 << 33);
        assert!(told.contains(&format!("client_bytes: Some({client_bytes})")), "{told}");
    }
}

#[test]
fn an_early_record_is_the_only_one() {
    let mut player = Player::new(true);
    play(&mut player, &conversation(true), &[1 << 20]);
    assert_eq!(player.shared.recorder.sink.told.len(), 1);
    assert_eq!(player.state.interest(), Interest::Encrypted);
    let told = player.told(End::Fin);
    assert_eq!(told.len(), 1);
    assert!(told[0].0.contains("outcome: None") && told[0].0.contains("client_bytes: None"));
}

#[test]
fn a_handshake_that_fails_says_who_ended_it() {
    let hello = record(22, &message(1, &client_hello(0x0303, &[5], None)));
    let outcome = |answer: &[u8], end| {
        let mut player = Player::new(false);
        player.say(Forward, &hello);
        if !answer.is_empty() {
            player.say(Reverse, answer);
        }
        player.end(end);
        let Heard { outcomes, told, .. } = player.shared.recorder.sink;
        (outcomes, told.into_iter().map(|it| it.0).collect::<String>())
    };
    let (outcomes, told) = outcome(&record(21, &[2, 40]), End::Rst);
    assert_eq!(outcomes, [Some(TlsOutcome::Failed)]);
    assert!(told.contains("TlsAlert { is_by_client: false, code: 40 }"), "{told}");
    assert_eq!(outcome(&[], End::Fin).0, [Some(TlsOutcome::NoServer)]);
    assert_eq!(outcome(&[], End::Exit).0, [None], "it may still have come");
    let short = record(22, &message(2, &server_hello(0x0303, 0xc02f, &[])));
    assert_eq!(outcome(&short, End::Rst).0, [Some(TlsOutcome::Failed)]);
    // What the server says is HTTP: that it was asked in another protocol.
    let (outcomes, _) = outcome(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", End::Fin);
    assert_eq!(outcomes.len(), 1);
}

/// A client whose only encrypted record can be nothing but an alert has not finished.
#[test]
fn an_alert_is_no_finished() {
    let [client, server] = conversation(true);
    let first_bytes = HEAD_BYTES + usize::from(client[3]) * 256 + usize::from(client[4]);
    let mut player = Player::new(false);
    player.say(Forward, &client[..first_bytes]);
    player.say(Reverse, &server);
    player.say(Forward, &[record(20, &[1]), record(23, &[1; 19])].concat());
    player.end(End::Fin);
    assert_eq!(player.shared.recorder.sink.outcomes, [Some(TlsOutcome::Failed)]);
}

#[test]
fn a_hello_behind_something_else_is_found() {
    let hello = record(22, &message(1, &client_hello(0x0303, &[5], Some(&[sni("x")]))));
    assert_eq!(hello_in(&hello), Some(0));
    let version1 = b"PROXY TCP4 10.0.0.1 10.0.0.2 4242 443\r\n";
    assert_eq!(hello_in(&[&version1[..], &hello].concat()), Some(version1.len()));
    let version2 = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &[7; 12][..]].concat();
    assert_eq!(hello_in(&[&version2[..], &hello].concat()), Some(version2.len()));
    for wrong in [&b"EHLO x\r\n"[..], &hello[1..], version1, &version2, b"\x16\x03\x01"] {
        assert_eq!(hello_in(wrong), None);
    }
    // A server of SMTP speaks first; then the client asks for TLS.
    let mut player = Player::new(false);
    player.say(Reverse, b"220 mail.example.org ESMTP\r\n");
    player.say(Forward, b"EHLO x\r\n");
    player.say(Reverse, b"250-mail.example.org\r\n250 STARTTLS\r\n");
    player.say(Forward, b"STARTTLS\r\n");
    player.say(Reverse, b"220 ready\r\n");
    play(&mut player, &conversation(true), &[1 << 20]);
    let told = player.told(End::Fin);
    assert_eq!(told.len(), 1);
    assert!(told[0].0.contains("Complete"), "{told:?}");
}

#[test]
fn what_a_proxy_opens_may_be_tls() {
    let connect = b"CONNECT www.example.org:443 HTTP/1.1\r\nHost: www.example.org\r\n\r\n";
    let answer = b"HTTP/1.1 200 Connection established\r\n\r\n";
    let open = || {
        let mut player = Player::new(false);
        player.say(Forward, connect);
        player.say(Reverse, answer);
        player
    };
    let mut player = open();
    play(&mut player, &conversation(true), &[1 << 20]);
    assert_eq!(player.state.interest(), Interest::End);
    player.chunk(Forward, Chunk::Fin);
    let told = player.told(End::Fin);
    assert_eq!(told.len(), 1);
    let client_bytes = conversation(true)[0].len();
    assert!(told[0].0.contains(&format!("client_bytes: Some({client_bytes})")), "{told:?}");
    let mut other = open();
    other.say(Reverse, b"SSH-2.0-OpenSSH_9.7\r\n");
    assert_eq!(other.state.interest(), Interest::Foreign);
    assert_eq!(other.told(End::Fin), []);
}

/// A naive reader of whole sides: it walks the records, and then the messages.
fn naive(client: &[u8], server: &[u8]) -> (Option<Vec<u8>>, Option<u16>) {
    let content = |side: &[u8]| {
        let (mut rest, mut all) = (side, Vec::new());
        while rest.len() >= HEAD_BYTES {
            let len = usize::from(rest[3]) << 8 | usize::from(rest[4]);
            if rest[0] != 22 {
                break;
            }
            all.extend_from_slice(&rest[HEAD_BYTES..(HEAD_BYTES + len).min(rest.len())]);
            rest = rest.get(HEAD_BYTES + len..).unwrap_or_default();
        }
        all
    };
    let (client, server) = (content(client), content(server));
    let name = client.windows(15).find(|it| *it == b"www.example.org").map(<[u8]>::to_vec);
    // Behind kind, length, version, random and an empty session.
    let cipher = server.get(39..41).map(|it| u16::from_be_bytes([it[0], it[1]]));
    (name, cipher)
}

/// The same side with its handshake in records of these lengths.
fn in_records(side: &[u8], lengths: &[usize]) -> Vec<u8> {
    let (mut rest, mut out, mut lengths) = (side, Vec::new(), lengths.iter().cycle());
    let mut handshake = Vec::new();
    let mut is_opaque = false;
    while rest.len() >= HEAD_BYTES {
        let len = usize::from(rest[3]) << 8 | usize::from(rest[4]);
        let (whole, behind) = rest.split_at(HEAD_BYTES + len);
        rest = behind;
        if whole[0] == 22 && !is_opaque {
            handshake.extend_from_slice(&whole[HEAD_BYTES..]);
            continue;
        }
        is_opaque = true;
        let mut left = &handshake[..];
        while !left.is_empty() {
            let (piece, behind) = left.split_at((*lengths.next().unwrap()).clamp(1, left.len()));
            out.extend(record(22, piece));
            left = behind;
        }
        handshake.clear();
        out.extend_from_slice(whole);
    }
    out
}

proptest! {
    /// However the bytes are cut into segments and records, the record is the same.
    #[test]
    fn cuts_change_nothing(
        is_13: bool,
        cuts in prop::collection::vec(1..300_usize, 1..8),
        lengths in prop::collection::vec(1..200_usize, 1..8),
    ) {
        let whole = conversation(is_13);
        let expected = {
            let mut player = Player::new(false);
            play(&mut player, &whole, &[1 << 20]);
            player.told(End::Exit)
        };
        let (name, cipher) = naive(&whole[0], &whole[1]);
        let text = &expected[0].0;
        let name = format!("sni: Some({:?})", name.unwrap());
        prop_assert!(text.contains(&name), "{}", text);
        let cipher = format!("cipher: Some({})", cipher.unwrap());
        prop_assert!(text.contains(&cipher), "{}", text);
        let mut cut = Player::new(false);
        play(&mut cut, &whole, &cuts);
        prop_assert_eq!(&cut.told(End::Exit), &expected);
        // More records have more heads: all but the lengths is the same.
        let pieces = [in_records(&whole[0], &lengths), in_records(&whole[1], &lengths)];
        let mut records = Player::new(false);
        let first = pieces[0].iter().position(|byte| *byte == 22).unwrap_or(0);
        prop_assert_eq!(first, 0);
        let hello_end = pieces[0].windows(6).position(|it| it == [20, 3, 3, 0, 1, 1]).unwrap();
        records.say(Forward, &pieces[0][..hello_end]);
        records.say(Reverse, &pieces[1]);
        records.say(Forward, &pieces[0][hello_end..]);
        let without_bytes = |text: &str| {
            let others = text.split(", ").filter(|it| !it.contains("_bytes: Some"));
            others.collect::<Vec<_>>().join(", ")
        };
        let told = records.told(End::Exit);
        prop_assert_eq!(without_bytes(&told[0].0), without_bytes(text));
    }

    /// Whatever comes and is lost, nothing panics, and all memory is given back. What is told in
    /// spite of a loss is what was told without it.
    #[test]
    fn losses_withhold(
        is_13: bool,
        lost in (any::<bool>(), 0..900_usize, 1..1500_usize),
        noise in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let whole = conversation(is_13);
        let mut expected = Player::new(false);
        play(&mut expected, &whole, &[1 << 20]);
        let expected = expected.told(End::Exit);
        let mut player = Player::new(false);
        let (is_client, from, len) = lost;
        let lossy = usize::from(!is_client);
        for (own, direction) in [Forward, Reverse].into_iter().enumerate() {
            let side = &whole[own];
            let from = from.min(side.len());
            let to = (from + len).min(side.len());
            if own == lossy && from > 0 && from < to {
                player.say(direction, &side[..from]);
                player.lose(direction, (to - from) as u64);
                player.say(direction, &side[to..]);
            } else {
                player.say(direction, side);
            }
        }
        player.say(Forward, &noise);
        let told = player.told(End::Exit);
        for field in ["sni", "version", "cipher", "ja3", "ja4", "alpn"] {
            let value = |text: &str| {
                let at = text.find(&format!(" {field}: ")).unwrap();
                text[at..].split(", ").next().unwrap().to_string()
            };
            for Told(text) in &told {
                let own = value(text);
                prop_assert!(own.ends_with("None") || own == value(&expected[0].0), "{}", own);
            }
        }
    }
}
