//! tshark as a second reader of HTTP: the messages that it finds in a capture file.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// A message that tshark found.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Address and port it came from.
    pub from: String,
    /// Address and port it went to.
    pub to: String,
    /// `GET / HTTP/1.1` for a request, `200 OK` for a response.
    pub line: String,
    /// tshark reports that it cannot read the message, in whole or in part.
    pub is_malformed: bool,
    /// Whether it is a request.
    pub is_request: bool,
    /// Bytes of its body, without framing and before any decompression.
    pub body_bytes: u64,
    /// The frame that holds its first byte.
    pub first_frame: u64,
    /// The frame that holds its last byte.
    pub last_frame: u64,
    /// The frame where tshark shows it: the one that completes all bytes up to its last one.
    pub frame: u64,
    /// `http.request_in`: the frame where tshark shows the request of a response.
    pub request_in: Option<u64>,
    /// `http.time`: from there to where it shows the response, in nanoseconds.
    pub since_request_ns: Option<u64>,
}

/// Whether tshark reassembles bodies before it looks at them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bodies {
    /// It shows a message where it ends.
    Whole,
    /// It shows a head where that ends, and may mistake parts of a body for heads.
    Apart,
}

/// The HTTP messages in a capture file, in the order in which tshark shows them.
pub fn messages(capture: &Path, bodies: Bodies) -> Vec<Message> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(capture).args(["-Y", "http.request || http.response || _ws.malformed"]);
    // Only PDML keeps the messages of a frame apart. `-J` leaves other protocols' fields out.
    tshark.args(["-T", "pdml", "-J", "ip ipv6 tcp tcp.segments http"]);
    let desegment = if bodies == Bodies::Whole { "TRUE" } else { "FALSE" };
    for preference in [
        "http.decompress_body:FALSE",
        "tcp.reassemble_out_of_order:TRUE",
        &format!("http.desegment_body:{desegment}"),
    ] {
        tshark.args(["-o", preference]);
    }
    // The output is large, so it is read as it comes. On stderr tshark only reports that it runs as
    // root.
    let pipe = tshark.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut tshark = pipe.spawn().expect("tshark starts");
    let found = parse(BufReader::new(tshark.stdout.take().expect("a pipe")));
    let status = tshark.wait().expect("a child of ours");
    assert!(status.success(), "tshark: {status}");
    found
}

/// PDML has a line for each protocol of a frame and for each field of it.
fn parse(mut pdml: impl BufRead) -> Vec<Message> {
    let mut found: Vec<Message> = Vec::new();
    let mut frame = Message::default();
    // The segments of the frame's next message: the frame of each, and where in the message it
    // begins and ends.
    let mut segments: Vec<(u64, u64, u64)> = Vec::new();
    let mut is_http = false;
    let mut line = Vec::new();
    while pdml.read_until(b'\n', &mut line).expect("tshark goes on") > 0 {
        let bytes = std::mem::take(&mut line);
        let line = &*String::from_utf8_lossy(&bytes);
        let Some((_, rest)) = line.split_once(" name=\"") else { continue };
        let Some((name, _)) = rest.split_once('"') else { continue };
        if line.starts_with("  <proto ") {
            is_http = name == "http";
            if name == "geninfo" {
                frame = Message::default();
                segments.clear();
            } else if name == "_ws.malformed" && line.contains("Packet: HTTP") {
                found.pop_if(|last| last.frame == frame.frame);
                found.push(Message { is_malformed: true, ..frame.clone() });
            } else if is_http {
                let mut message = frame.clone();
                if let Some((first, last)) = first_copies(&segments) {
                    (message.first_frame, message.last_frame) = (first, last);
                }
                segments.clear();
                found.push(message);
            }
            continue;
        }
        let show = || text(line, "show");
        match name {
            "num" => {
                let number = number(&show());
                (frame.frame, frame.first_frame, frame.last_frame) = (number, number, number);
            }
            "ip.src" | "ipv6.src" => frame.from = show(),
            "ip.dst" | "ipv6.dst" => frame.to = show(),
            "tcp.srcport" => frame.from += &format!(" {}", show()),
            "tcp.dstport" => frame.to += &format!(" {}", show()),
            // A FIN without data counts as a segment, and so may a retransmission.
            "tcp.segment" if text(line, "size") != "0" => {
                let start = number(&text(line, "pos"));
                segments.push((number(&show()), start, start + number(&text(line, "size"))));
            }
            _ => {}
        }
        if is_http && let Some(message) = found.last_mut() {
            fill(message, name, line);
        }
    }
    found.retain(|message| message.is_malformed || !message.line.is_empty());
    found
}

/// The frames with the first copies of a message's first byte and of its last one. tshark also
/// lists retransmitted segments, even in other pieces, by their position in the message.
fn first_copies(segments: &[(u64, u64, u64)]) -> Option<(u64, u64)> {
    let until = segments.iter().map(|(_, _, end)| *end).max()?;
    let first = segments.iter().filter(|(_, start, _)| *start == 0).map(|(frame, ..)| *frame).min();
    let last = segments.iter().filter(|(.., end)| *end == until).map(|(frame, ..)| *frame).min();
    first.zip(last)
}

/// Stores a field of the HTTP protocol.
fn fill(message: &mut Message, name: &str, line: &str) {
    let show = || text(line, "show");
    let size = || number(&text(line, "size"));
    match name {
        "http.request.method" => {
            message.is_request = true;
            message.line = show();
        }
        "http.response.code" => message.line = show(),
        "http.request.version" | "http.response.phrase" => message.line += &format!(" {}", show()),
        // tshark 4.4 repeats the URI of the request in the response.
        "http.request.uri" if message.is_request => message.line += &format!(" {}", show()),
        "http.file_data" => message.body_bytes = size(),
        // A body that stays compressed has no `http.file_data`.
        "" if show().starts_with("Content-encoded entity body") => message.body_bytes = size(),
        "http.request_in" => message.request_in = Some(number(&show())),
        "http.time" => message.since_request_ns = nanoseconds(&show()),
        _ => {}
    }
}

/// The value of an attribute in a line of XML; empty if it is missing.
fn text(line: &str, name: &str) -> String {
    let marks = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#x27;", "'"), ("&amp;", "&")];
    let rest = line.split_once(&format!(" {name}=\"")).map_or("", |(_, rest)| rest);
    // It may continue in the next line; this is its beginning.
    let written = rest.split('"').next().unwrap_or_default();
    marks.iter().fold(written.to_string(), |text, (mark, plain)| text.replace(mark, plain))
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("no number: {text:?}"))
}

/// Parses `SECONDS.NANOSECONDS`, with all nine digits; `None` for negative values, which occur if
/// the timestamps of frames run backwards.
fn nanoseconds(text: &str) -> Option<u64> {
    let (seconds, fraction) = text.split_once('.').expect("a fraction");
    assert_eq!(fraction.len(), 9, "{text}");
    let is_negative = seconds.starts_with('-');
    (!is_negative).then(|| number(seconds) * 1_000_000_000 + number(fraction))
}

#[test]
fn a_response_is_the_same_from_every_version() {
    let response = |repeated: &str| {
        let pdml = format!(
            r#"
  <proto name="geninfo" pos="0" showname="General information" size="219">
    <field name="num" pos="0" show="27" showname="Number" value="1b" size="219"/>
  <proto name="http" showname="Hypertext Transfer Protocol" size="147" pos="66">
      <field name="http.response.code" showname="Status Code: 200" size="3" pos="75" show="200"/>
      <field name="http.response.phrase" showname="Response Phrase: OK" size="2" show="OK"/>
    <field name="http.request_in" showname="Request in frame: 19" size="0" pos="66" show="19"/>
{repeated}    <field name="http.file_data" showname="File Data: 6 bytes" size="6" pos="213"/>
"#
        );
        let found = parse(pdml.as_bytes());
        assert_eq!(found.len(), 1);
        (found[0].line.clone(), found[0].is_request, found[0].body_bytes)
    };
    let of_4_0 = response("");
    let uri =
        r#"    <field name="http.request.uri" showname="Request URI: /a" size="0" show="/a"/>"#;
    assert_eq!(of_4_0, ("200 OK".to_string(), false, 6));
    assert_eq!(response(&format!("{uri}\n")), of_4_0);
}
