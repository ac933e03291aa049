//! Connections of TLS (RFC 8446, RFC 5246): hellos and certificates as they look on the wire, and
//! application data that no one can read. Nothing is encrypted: its bytes are all the same.
//!
//! The client's hello is that of a browser of today: with a key share of ML-KEM it needs two
//! segments. The name of the server in it has the connection's number.

use super::{Expected, Script};
use crate::frame::{self, HEADER_BYTES, Heading, flag, text};

/// Bytes of the client's hello, with the head of its record.
const HELLO_BYTES: usize = 1900;
/// Largest payload of a record: RFC 8446, section 5.1.
const RECORD_BYTES_MAX: usize = 16 << 10;
/// What encryption adds to a record: the type of its content, and a tag.
const SEAL_BYTES: usize = 17;

/// Types of records.
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// Types of handshake messages.
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const CERTIFICATE: u8 = 11;
const SERVER_KEY_EXCHANGE: u8 = 12;
const SERVER_HELLO_DONE: u8 = 14;
const CLIENT_KEY_EXCHANGE: u8 = 16;

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 2;
const BIT_STRING: u8 = 3;
const OBJECT: u8 = 6;
const TEXT: u8 = 12;
const TIME: u8 = 23;

/// The group X25519MLKEM768, and bytes of its shares: the client's, the server's.
const GROUP: u16 = 0x11ec;
const SHARE_BYTES: [usize; 2] = [1216, 1120];

/// What is in front of the digits in the server's name, and behind them.
pub const NAME: [&str; 2] = ["www", ".example.com"];

/// The version that the server chooses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// With an encrypted certificate.
    Tls13,
    /// With a certificate in clear.
    Tls12,
}

impl Version {
    /// The name in a record.
    pub fn name(self) -> &'static str {
        match self {
            Version::Tls13 => "1.3",
            Version::Tls12 => "1.2",
        }
    }
}

/// What the record of a connection should say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Secured {
    /// The version.
    pub version: Version,
    /// Bytes that the client and the server have sent.
    pub bytes: [u64; 2],
}

impl Script<'_> {
    /// The TCP handshake, and that of TLS.
    pub fn open_tls(&mut self, version: Version) {
        use Heading::{ToClient, ToServer};
        self.weaver.round.expected.push(Expected {
            method: "",
            status: 0,
            request_body_bytes: 0,
            response_body_bytes: 0,
            talk: None,
            tls: Some(Secured { version, bytes: [0; 2] }),
            last_step: 0,
        });
        self.thread.is_tls = true;
        self.open();
        let hello = client_hello();
        debug_assert_eq!(hello.len(), HELLO_BYTES);
        debug_assert_eq!(
            hello.iter().rposition(|byte| *byte == b'w'),
            Some(frame::SNI_AT - HEADER_BYTES - 1)
        );
        let (first, rest) = hello.split_at(self.segment_bytes);
        self.frame(ToServer, flag::ACK, first, text::SNI);
        self.data(ToServer, flag::PSH, rest);
        self.acknowledge(ToClient);
        let change = record(CHANGE_CIPHER_SPEC, &[1]);
        match version {
            Version::Tls13 => {
                let flight = [server_hello(version), change.clone(), sealed(2800)].concat();
                self.send(ToClient, &flight);
                self.send(ToServer, &[change, sealed(36)].concat());
                self.send(ToClient, &[sealed(220), sealed(220)].concat());
            }
            Version::Tls12 => {
                let exchange = message(SERVER_KEY_EXCHANGE, &[0x4b; 296]);
                let done = message(SERVER_HELLO_DONE, &[]);
                let messages = [exchange, done].map(|it| record(HANDSHAKE, &it)).concat();
                self.send(ToClient, &[server_hello(version), certificates(), messages].concat());
                let exchange = record(HANDSHAKE, &message(CLIENT_KEY_EXCHANGE, &[32; 33]));
                let finished = record(HANDSHAKE, &[0x5c; 40]);
                self.send(ToServer, &[&exchange[..], &change, &finished].concat());
                self.send(ToClient, &[change, finished].concat());
            }
        }
    }

    /// A request and its response, neither of which can be read.
    pub fn talk_tls(&mut self, request_bytes: usize, response_bytes: usize) {
        self.send(Heading::ToServer, &sealed(request_bytes));
        self.send(Heading::ToClient, &sealed(response_bytes));
        self.acknowledge(Heading::ToServer);
    }

    /// Both sides say that they close, and do.
    pub fn close_tls(&mut self) {
        let secured = |it: &mut Script<'_>| it.weaver.round.expected.last().and_then(|it| it.tls);
        let notice = match secured(self).map(|it| it.version) {
            Some(Version::Tls12) => record(ALERT, &[0x5c; 26]),
            _ => sealed(2),
        };
        self.send(Heading::ToServer, &notice);
        self.send(Heading::ToClient, &notice);
        // Both numbers count the SYN.
        let bytes = self.next.map(|next| u64::from(next) - 1);
        if let Some(Expected { tls: Some(tls), .. }) = self.weaver.round.expected.last_mut() {
            tls.bytes = bytes;
        }
        self.close();
    }

    /// In as many segments as it takes; the other side acknowledges every second one.
    fn send(&mut self, way: Heading, bytes: &[u8]) {
        let back = if way == Heading::ToServer { Heading::ToClient } else { Heading::ToServer };
        for (index, segment) in bytes.chunks(self.segment_bytes).enumerate() {
            self.data(way, flag::PSH, segment);
            if index % 2 == 1 {
                self.acknowledge(back);
            }
        }
    }
}

fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    [
        &[kind, 3, if kind == HANDSHAKE && payload[0] == CLIENT_HELLO { 1 } else { 3 }][..],
        &length,
        payload,
    ]
    .concat()
}

/// Records of application data with `bytes` of content.
fn sealed(bytes: usize) -> Vec<u8> {
    let content = vec![0xa5; bytes];
    let seal = |part: &[u8]| record(APPLICATION_DATA, &[part, &[0xa5; SEAL_BYTES]].concat());
    content.chunks(RECORD_BYTES_MAX).flat_map(seal).collect()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32).to_be_bytes()[1..], body].concat()
}

/// `bytes` behind their length, in two bytes.
fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &sized(body)].concat()
}

/// Version, random and session id, of both hellos.
fn begin_hello() -> Vec<u8> {
    [&[3, 3][..], &[0x52; 32], &[32], &[0x1d; 32]].concat()
}

fn client_hello() -> Vec<u8> {
    let suites: [u16; 16] = [
        0x1a1a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013,
        0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
    ];
    let words =
        |words: &[u16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
    let name = [NAME[0], &"\0".repeat(frame::REQUEST_DIGITS), NAME[1]].concat();
    let name = [&[0][..], &sized(name.as_bytes())].concat();
    let share = |group: u16, bytes| [&group.to_be_bytes()[..], &sized(&vec![0x6b; bytes])].concat();
    let shares = [share(GROUP, SHARE_BYTES[0]), share(29, 32)].concat();
    let schemes = [0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601];
    let mut extensions = [
        extension(0, &sized(&name)),
        extension(23, &[]),
        extension(0xff01, &[0]),
        extension(10, &sized(&words(&[GROUP, 29, 23, 24]))),
        extension(11, &[1, 0]),
        extension(35, &[]),
        extension(16, &sized(b"\x02h2\x08http/1.1")),
        extension(5, &[1, 0, 0, 0, 0]),
        extension(13, &sized(&words(&schemes))),
        extension(18, &[]),
        extension(51, &sized(&shares)),
        extension(45, &[1, 1]),
        extension(43, &[6, 0x2a, 0x2a, 3, 4, 3, 3]),
        extension(27, &[2, 0, 2]),
        extension(0xfe0d, &[0xec; 186]),
    ]
    .concat();
    let front = [begin_hello(), sized(&words(&suites)), vec![1, 0]].concat();
    // Padding: RFC 7685. Two lengths of four bytes, one of two, and the head of the record.
    let rest = HELLO_BYTES - 5 - 4 - front.len() - 2 - extensions.len() - 4;
    extensions.extend(extension(21, &vec![0; rest]));
    record(HANDSHAKE, &message(CLIENT_HELLO, &[front, sized(&extensions)].concat()))
}

fn server_hello(version: Version) -> Vec<u8> {
    let (suite, extensions) = match version {
        Version::Tls13 => {
            let share = [&GROUP.to_be_bytes()[..], &sized(&vec![0x6b; SHARE_BYTES[1]])].concat();
            (0x1301u16, [extension(51, &share), extension(43, &[3, 4])].concat())
        }
        Version::Tls12 => {
            let alpn = extension(16, &sized(b"\x02h2"));
            (0xc02f, [extension(0xff01, &[0]), extension(11, &[1, 0]), alpn].concat())
        }
    };
    let body = [begin_hello(), suite.to_be_bytes().to_vec(), vec![0], sized(&extensions)].concat();
    record(HANDSHAKE, &message(SERVER_HELLO, &body))
}

fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = match body.len() {
        short @ 0..128 => vec![short as u8],
        long => [&[0x82][..], &(long as u16).to_be_bytes()].concat(),
    };
    [&[tag][..], &length, &body].concat()
}

/// A name (RFC 5280, section 4.1.2.4) that has only a common name.
fn name_of(common: &str) -> Vec<u8> {
    let attribute =
        der(SEQUENCE, &[&der(OBJECT, &[&[0x55, 4, 3]]), &der(TEXT, &[common.as_bytes()])]);
    der(SEQUENCE, &[&der(SET, &[&attribute])])
}

/// A certificate (RFC 5280, section 4.1) whose signature and key are of no use.
fn certificate(subject: &str, issuer: &str) -> Vec<u8> {
    let algorithm =
        der(SEQUENCE, &[&der(OBJECT, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11]]), &[5, 0]]);
    let times = [b"260101000000Z", b"270101000000Z"].map(|time| der(TIME, &[time]));
    let key = der(SEQUENCE, &[&algorithm, &der(BIT_STRING, &[&[0], &[0x4e; 270]])]);
    let signed = der(
        SEQUENCE,
        &[
            &der(0xa0, &[&der(INTEGER, &[&[2]])]),
            &der(INTEGER, &[&[0x51; 16]]),
            &algorithm,
            &name_of(issuer),
            &der(SEQUENCE, &[&times[0], &times[1]]),
            &name_of(subject),
            &key,
            &der(0xa3, &[&der(SEQUENCE, &[&[0x30, 0], &[0x30, 0]])]),
        ],
    );
    der(SEQUENCE, &[&signed, &algorithm, &der(BIT_STRING, &[&[0], &[0x5e; 256]])])
}

/// The server's and that of who signed it.
fn certificates() -> Vec<u8> {
    let sized = |bytes: Vec<u8>| [&(bytes.len() as u32).to_be_bytes()[1..], &bytes].concat();
    let own = sized(certificate("www.example.com", "Example Issuing CA"));
    let issuers = sized(certificate("Example Issuing CA", "Example Root CA"));
    record(HANDSHAKE, &message(CERTIFICATE, &sized([own, issuers].concat())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::kind;
    use crate::workload::Workload;

    /// Both streams of a connection are whole records, one after the other; the hello of the client
    /// comes in two segments.
    #[test]
    fn a_stream_is_a_sequence_of_records() {
        let round = Workload::Tls.round(3, 3000);
        for (number, expected) in round.expected.iter().enumerate() {
            for (side, way) in [kind::CLIENT, kind::SERVER].into_iter().enumerate() {
                let own =
                    |it: &&crate::traffic::Step| it.number as usize == number && it.kind == way;
                let mut stream = Vec::new();
                for step in round.steps.iter().filter(own) {
                    let template = &round.templates[step.template as usize];
                    let bytes = frame::payload_bytes(template) as usize;
                    stream.extend(&template[HEADER_BYTES..HEADER_BYTES + bytes]);
                }
                assert_eq!(expected.tls.unwrap().bytes[side], stream.len() as u64);
                let mut kinds = Vec::new();
                let mut rest = &stream[..];
                while let [kind, 3, 1 | 3, high, low, more @ ..] = rest {
                    kinds.push(*kind);
                    rest = &more[usize::from(u16::from_be_bytes([*high, *low]))..];
                }
                assert!(rest.is_empty(), "{kinds:?}");
                assert_eq!(kinds[0], HANDSHAKE);
            }
        }
        let hellos = round.steps.iter().filter(|step| step.text == text::SNI);
        for step in hellos {
            let template = &round.templates[step.template as usize];
            assert_eq!(template.len(), HEADER_BYTES + 1460, "the first segment is full");
            let digits = &template[frame::SNI_AT - 3..][..3 + frame::REQUEST_DIGITS];
            assert_eq!(digits, [b"www", &[0; frame::REQUEST_DIGITS][..]].concat());
        }
    }
}
