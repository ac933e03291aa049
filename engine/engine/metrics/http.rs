//! The little of HTTP that a scrape needs: what was asked, and the answer. RFC 9112.

use std::fmt::Write;

/// A request may have so many bytes up to the end of its head.
pub(super) const REQUEST_BYTES_MAX: usize = 8 << 10;

/// The media type of the text format of Prometheus.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Page {
    /// `/`: where the others are.
    Index,
    /// `/metrics`.
    Metrics,
    /// `/healthz`.
    Health,
}

/// A request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Request {
    pub(super) page: Page,
    /// HEAD: the answer has no body.
    pub(super) is_head: bool,
}

/// Status, reason and body of an answer, and the type of the body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    status: u16,
    reason: &'static str,
    media_type: &'static str,
    body: String,
    is_head: bool,
}

impl Answer {
    fn plain(status: u16, reason: &'static str, sentence: impl Into<String>) -> Answer {
        let (media_type, body) = ("text/plain; charset=utf-8", sentence.into() + "\n");
        Answer { status, reason, media_type, body, is_head: false }
    }

    /// The metrics.
    pub(super) fn metrics(text: String) -> Answer {
        Answer { media_type: EXPOSITION, body: text, ..Answer::plain(200, "OK", "") }
    }

    /// A sentence about a run that is well, or where the pages are.
    pub(super) fn ok(sentence: impl Into<String>) -> Answer {
        Answer::plain(200, "OK", sentence)
    }

    /// The run is not well.
    pub(super) fn unavailable(sentence: impl Into<String>) -> Answer {
        Answer::plain(503, "Service Unavailable", sentence)
    }

    /// The request did not come in time.
    pub(super) fn late() -> Answer {
        Answer::plain(408, "Request Timeout", "the request took too long")
    }

    /// The same answer without its body, if the request was HEAD.
    pub(super) fn to(self, request: Request) -> Answer {
        Answer { is_head: request.is_head, ..self }
    }

    /// What goes on the wire.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        let Answer { status, reason, media_type, body, is_head } = self;
        let allow = if status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
        let mut text = String::with_capacity(256 + body.len());
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "HTTP/1.1 {status} {reason}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\
             {allow}Cache-Control: no-store\r\nConnection: close\r\n\r\n",
            body.len(),
        );
        if !is_head {
            text += &body;
        }
        text.into_bytes()
    }
}

/// What `bytes`, the beginning of what a client has sent, ask for. `None`: more is needed. That is
/// known of the first `known_bytes` of them.
pub(super) fn parse(bytes: &[u8], known_bytes: usize) -> Option<Result<Request, Answer>> {
    let is_whole = |bytes: &[u8]| {
        bytes.windows(4).any(|it| it == b"\r\n\r\n") || bytes.windows(2).any(|it| it == b"\n\n")
    };
    let end = bytes.len().min(REQUEST_BYTES_MAX);
    if !is_whole(&bytes[known_bytes.saturating_sub(3).min(end)..end]) {
        let is_too_long = bytes.len() >= REQUEST_BYTES_MAX;
        let answer = || Answer::plain(431, "Request Header Fields Too Large", "at most 8 KiB");
        return is_too_long.then(|| Err(answer()));
    }
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Some(parse_line(line))
}

fn parse_line(line: &[u8]) -> Result<Request, Answer> {
    let no_http = || Answer::plain(400, "Bad Request", "this is no request of HTTP/1");
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { return Err(no_http()) };
    if method.is_empty() || !version.starts_with(b"HTTP/1.") {
        return Err(no_http());
    }
    let is_head = method == b"HEAD";
    if !is_head && method != b"GET" {
        return Err(Answer::plain(405, "Method Not Allowed", "only GET and HEAD"));
    }
    let path = path_of(target);
    let page = match path {
        b"/metrics" => Page::Metrics,
        b"/healthz" => Page::Health,
        b"/" => Page::Index,
        [b'/', ..] => {
            return Err(Answer::plain(404, "Not Found", "there are /metrics and /healthz"));
        }
        _ => return Err(no_http()),
    };
    Ok(Request { page, is_head })
}

/// The path of a target without its query; of `http://host/path`, too: RFC 9112 section 3.2.2.
fn path_of(target: &[u8]) -> &[u8] {
    let target = match target.strip_prefix(b"http://") {
        Some(rest) => &rest[rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len())..],
        None => target,
    };
    target.split(|byte| *byte == b'?').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_of(request: &str) -> Option<Result<Request, u16>> {
        let bytes = request.as_bytes();
        let whole = parse(bytes, 0);
        // However it comes, it is the same.
        let parts = (1..=bytes.len()).find_map(|end| parse(&bytes[..end], end - 1));
        assert_eq!(parts.is_some(), whole.is_some());
        Some(whole?.map_err(|answer| answer.status))
    }

    #[test]
    fn pages_are_found() {
        let page = |page| Some(Ok(Request { page, is_head: false }));
        for (request, expected) in [
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", page(Page::Metrics)),
            ("GET /metrics?x=/y HTTP/1.0\n\nmore", page(Page::Metrics)),
            ("GET http://a:1/metrics?x HTTP/1.1\r\n\r\n", page(Page::Metrics)),
            ("GET /healthz HTTP/1.1\r\n\r\n", page(Page::Health)),
            ("GET / HTTP/1.1\r\n\r\n", page(Page::Index)),
            (
                "HEAD /healthz HTTP/1.1\r\n\r\n",
                Some(Ok(Request { page: Page::Health, is_head: true })),
            ),
            ("GET /metrics/ HTTP/1.1\r\n\r\n", Some(Err(404))),
            ("POST /metrics HTTP/1.1\r\n\r\n", Some(Err(405))),
            ("get /metrics HTTP/1.1\r\n\r\n", Some(Err(405))),
            ("GET /metrics HTTP/2\r\n\r\n", Some(Err(400))),
            ("GET  /metrics HTTP/1.1\r\n\r\n", Some(Err(400))),
            ("GET * HTTP/1.1\r\n\r\n", Some(Err(400))),
            ("GET http://a HTTP/1.1\r\n\r\n", Some(Err(400))),
            ("\r\n\r\n", Some(Err(400))),
            ("\u{16}\u{3}\u{1}\n\n", Some(Err(400))),
            ("", None),
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n", None),
        ] {
            assert_eq!(status_of(request), expected, "{request:?}");
        }
    }

    #[test]
    fn a_request_is_bounded() {
        let begin = "GET /metrics HTTP/1.1\r\nX: ".to_string();
        let filled = |bytes: usize| begin.clone() + &"x".repeat(bytes - begin.len() - 4);
        let fits = filled(REQUEST_BYTES_MAX) + "\r\n\r\n";
        assert!(matches!(status_of(&fits), Some(Ok(_))));
        assert_eq!(status_of(&(filled(REQUEST_BYTES_MAX + 1) + "\r\n\r\n")), Some(Err(431)));
        assert_eq!(status_of(&"x".repeat(REQUEST_BYTES_MAX - 1)), None);
        assert_eq!(status_of(&"x".repeat(REQUEST_BYTES_MAX)), Some(Err(431)));
    }

    #[test]
    fn an_answer_tells_its_length_and_head_has_no_body() {
        let request = Request { page: Page::Health, is_head: true };
        let whole = String::from_utf8(Answer::ok("ok").into_bytes()).unwrap();
        let head = String::from_utf8(Answer::ok("ok").to(request).into_bytes()).unwrap();
        assert!(whole.starts_with("HTTP/1.1 200 OK\r\n") && whole.ends_with("\r\n\r\nok\n"));
        assert!(head.contains("\r\nContent-Length: 3\r\n") && head.ends_with("\r\n\r\n"));
        let refused = parse(b"PUT / HTTP/1.1\n\n", 0).unwrap().unwrap_err().into_bytes();
        assert!(String::from_utf8(refused).unwrap().contains("\r\nAllow: GET, HEAD\r\n"));
    }
}
