//! The shapes that HTTP/1 messages have on the wire, each as a conversation: what RFC 9112 allows,
//! and what senders do in addition.

use super::tests::{TestConnection, connection};
use crate::flow::Chunk;
use crate::flow::End;
use crate::ids::Direction::{Forward, Reverse};
use crate::protocol::{Carried, Context, FlowRef, Kind};

const EMPTY_OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// What the records show for a conversation that begins with `request` and continues with another
/// one.
#[track_caller]
fn assert_request(request: &str, note: &str) {
    let whole = format!("{request}GET /next HTTP/1.1\r\n\r\n");
    let notes = connection().ask(&whole).answer(EMPTY_OK).answer(EMPTY_OK).end(End::Exit);
    assert_eq!(notes, [note, "GET /next 0 200 0"], "{request:?}");
    // The same byte by byte.
    let mut slow = connection();
    whole.bytes().for_each(|byte| {
        slow.say(Forward, &[byte]);
    });
    assert_eq!(slow.answer(EMPTY_OK).answer(EMPTY_OK).end(End::Exit), notes, "{request:?}");
}

/// The same for a response to `GET /a`, and another one.
#[track_caller]
fn assert_response(response: &str, note: &str) {
    let asked = |connection: &mut TestConnection| {
        connection.ask("GET /a HTTP/1.1\r\n\r\nGET /next HTTP/1.1\r\n\r\n");
    };
    let whole = format!("{response}{EMPTY_OK}");
    let mut fast = connection();
    asked(&mut fast);
    let notes = fast.answer(&whole).end(End::Exit);
    assert_eq!(notes, [note, "GET /next 0 200 0"], "{response:?}");
    let mut slow = connection();
    asked(&mut slow);
    whole.bytes().for_each(|byte| {
        slow.say(Reverse, &[byte]);
    });
    assert_eq!(slow.end(End::Exit), notes, "{response:?}");
}

/// A response to `GET /a` that is not accepted as one.
#[track_caller]
fn assert_no_response(response: &str) {
    let mut connection = connection();
    connection.ask("GET /a HTTP/1.1\r\n\r\n").answer(response);
    let notes = connection.take(Reverse, Chunk::Fin).end(End::Exit);
    assert_eq!(notes, ["GET /a 0 - - no_response fin"], "{response:?}");
}

#[test]
fn methods_and_targets_are_taken_as_they_are() {
    for (line, note) in [
        ("GET /", "GET /"),
        ("get /lower", "get /lower"),
        ("M-SEARCH *", "M-SEARCH *"),
        ("!#$%&'*+-.^_`|~09 /", "!#$%&'*+-.^_`|~09 /"),
        ("UPDATEREDIRECTREF /", "UPDATEREDIRECTREF /"),
        ("OPTIONS *", "OPTIONS *"),
        ("GET http://user:word@a.test:8080/b?c#d", "GET http://user:word@a.test:8080/b?c#d"),
        ("GET a.test:443", "GET a.test:443"),
        ("GET /with some spaces", "GET /with some spaces"),
        ("GET /\u{e4}\u{20ac}\0\u{7f}", "GET /\u{e4}\u{20ac}\0\u{7f}"),
        ("GET  /two", "GET /two"),
        ("GET /behind ", "GET /behind"),
        ("GET /HTTP/1.1 HTTP/1.0", "GET /HTTP/1.1 HTTP/1.0"),
    ] {
        assert_request(&format!("{line} HTTP/1.1\r\n\r\n"), &format!("{note} 0 200 0"));
    }
}

#[test]
fn versions_are_those_that_senders_write() {
    for version in
        ["HTTP/1.0", "HTTP/1.9", "http/1.1", "HTTP/1.0.8", "HTTP/1.10", "HTTP/1.", "HTTP/1"]
    {
        assert_request(&format!("GET /a {version}\r\n\r\n"), "GET /a 0 200 0");
        assert_response(
            &format!("{version} 200 OK\r\nContent-Length: 0\r\n\r\n"),
            "GET /a 0 200 0",
        );
    }
    // Where only a response is possible, its version does not matter.
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/1.x", "http/3"] {
        assert_response(
            &format!("{version} 404 No\r\nContent-Length: 2\r\n\r\nno"),
            "GET /a 0 404 2",
        );
    }
    for line in ["GET / HTTP/2.0", "GET / HTTP/x", "GET / RTSP/1.0", "HTTP/2.0 200 OK"] {
        let mut connection = connection();
        assert_eq!(connection.ask(&format!("{line}\r\n\r\n")).end(End::Exit), [""; 0], "{line}");
    }
}

#[test]
fn status_lines_may_lack_their_reason() {
    for (line, status) in [
        ("HTTP/1.1 200", 200),
        ("HTTP/1.1 200 ", 200),
        ("HTTP/1.1  200  OK", 200),
        ("HTTP/1.1\t200 OK", 200),
        ("HTTP/1.1 999 Linkedin", 999),
        ("HTTP/1.1 200 HTTP/1.1 200 OK", 200),
    ] {
        let note = format!("GET /a 0 {status} 3");
        assert_response(&format!("{line}\r\nContent-Length: 3\r\n\r\nabc"), &note);
    }
    for line in [
        "HTTP/1.1 099 No",
        "HTTP/1.1 1000 No",
        "HTTP/1.1 2xx No",
        "HTTP/1.1",
        "HTTP/1.1\r 200 OK",
        "ICY 200 OK",
    ] {
        assert_no_response(&format!("{line}\r\nContent-Length: 0\r\n\r\n"));
    }
}

#[test]
fn lines_end_in_what_senders_send() {
    for end in ["\r\n", "\n", "\r\r\n"] {
        let head = |lines: &[&str]| lines.iter().map(|line| format!("{line}{end}")).collect();
        let request: String = head(&["POST /a HTTP/1.1", "Host: b", "Content-Length: 3", ""]);
        assert_request(&format!("{request}abc"), "POST /a 3 200 0");
        let response: String = head(&["HTTP/1.1 200 OK", "Content-Length: 3", ""]);
        assert_response(&format!("{response}abc"), "GET /a 0 200 3");
        let coded = format!("HTTP/1.1 200 OK{end}Transfer-Encoding: chunked{end}{end}");
        assert_response(&format!("{coded}3{end}abc{end}0{end}{end}"), "GET /a 0 200 3");
    }
    let mixed = "POST /a HTTP/1.1\nHost: b\r\nContent-Length: 3\n\r\r\nabc";
    assert_request(mixed, "POST /a 3 200 0");
    // Empty lines before and between messages; a line end that old browsers send after a body.
    assert_request("\r\n\r\n\nGET /a HTTP/1.1\r\n\r\n\r\n", "GET /a 0 200 0");
    assert_request("POST /a HTTP/1.1\r\nContent-Length: 1\r\n\r\nx\r\n", "POST /a 1 200 0");
    assert_response(&format!("\r\n{EMPTY_OK}\r\n\n"), "GET /a 0 200 0");
}

#[test]
fn header_lines_may_be_odd() {
    for lines in [
        "Host: a\r\n b\r\n",
        "Host:\r\nHost: b\r\n",
        "under_score: 1\r\nwith space: 2\r\n",
        "no colon\r\n: no name\r\n",
        "nul: a\0b\r\n\0: c\r\n",
        " folded before any\r\n",
        "X-Content-Length: 9\r\nContent-Lengthy: 9\r\n",
    ] {
        let request = format!("POST /a HTTP/1.1\r\n{lines}Content-Length: 2\r\n\r\nab");
        assert_request(&request, "POST /a 2 200 0");
    }
    let many: String = (0..300).map(|number| format!("X-{number}: {number}\r\n")).collect();
    assert_request(&format!("GET /a HTTP/1.1\r\n{many}\r\n"), "GET /a 0 200 0");
    assert_request("POST /a HTTP/1.1\r\ncontent-length\t: 1\r\n\r\nx", "POST /a 1 200 0");
    assert_request(
        "POST /a HTTP/1.1\r\nTransfer-Encoding:\r\n\tchunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        "POST /a 1 200 0",
    );
}

#[test]
fn lengths_that_agree_are_one_and_others_are_no_length() {
    for value in ["3", "003", "3, 3", "3,3", "3\r\nContent-Length: 3", " 3 \t"] {
        let request = format!("POST /a HTTP/1.1\r\nContent-Length: {value}\r\n\r\nabc");
        assert_request(&request, "POST /a 3 200 0");
    }
    for value in
        ["+3", "-3", "0x3", "3 3", "", "3;", "3, 4", "18446744073709551616", "99999999999999999999"]
    {
        let mut connection = connection();
        connection.ask(&format!("POST /a HTTP/1.1\r\nContent-Length: {value}\r\n\r\nabc"));
        connection.ask("GET /next HTTP/1.1\r\n\r\n").answer(EMPTY_OK).answer(EMPTY_OK);
        let notes = connection.end(End::Exit);
        assert_eq!(notes, ["POST /a ? 200 0 conflict", "GET /next 0 200 0"], "{value:?}");
    }
    // 2^64 - 1 bytes are a valid length, even though nobody will see the end of the body.
    let mut connection = connection();
    connection.ask("POST /a HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n");
    let notes = connection.ask("GET /in HTTP/1.1\r\n\r\n").end(End::Exit);
    assert_eq!(notes, ["POST /a 20 - - truncated exit"]);
}

#[test]
fn transfer_codings_decide_where_chunked_is_the_last() {
    for coding in [
        "chunked",
        "Chunked",
        "gzip, chunked",
        "gzip,chunked ",
        "gzip\r\nTransfer-Encoding: chunked",
        ", gzip,, chunked, ,",
        "chunked\r\nTransfer-Encoding:",
    ] {
        let head = format!("Transfer-Encoding: {coding}\r\n\r\n2\r\nab\r\n0\r\n\r\n");
        assert_request(&format!("POST /a HTTP/1.1\r\n{head}"), "POST /a 2 200 0");
        assert_response(&format!("HTTP/1.1 200 OK\r\n{head}"), "GET /a 0 200 2");
    }
    // RFC 9112 section 6.3: the body of such a response ends where the server closes.
    for (coding, flag) in [
        ("chunked, identity", " conflict"),
        ("gzip", ""),
        ("identity", " conflict"),
        ("chunked\r\nTransfer-Encoding: gzip", ""),
        ("identity, gzip", " conflict"),
    ] {
        let mut connection = connection();
        connection.ask("GET /a HTTP/1.1\r\n\r\n");
        connection
            .answer(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n{EMPTY_OK}"));
        let notes = connection.take(Reverse, Chunk::Fin).end(End::Exit);
        assert_eq!(notes, [format!("GET /a 0 200 {}{flag}", EMPTY_OK.len())], "{coding:?}");
    }
    // `identity` is no coding: the other fields frame the body.
    for coding in ["identity", "Identity ,", "chunked, identity", "identity\r\nTransfer-Encoding:"]
    {
        let head = format!("Transfer-Encoding: {coding}\r\nContent-Length: 2\r\n\r\nab");
        assert_request(&format!("POST /a HTTP/1.1\r\n{head}"), "POST /a 2 200 0 conflict");
        assert_response(&format!("HTTP/1.1 200 OK\r\n{head}"), "GET /a 0 200 2 conflict");
    }
    // If the client goes on, the server has not closed.
    for coding in ["identity", "chunked, identity"] {
        let mut kept = connection();
        for path in ["/a", "/b"] {
            kept.ask(&format!("GET {path} HTTP/1.1\r\n\r\n"));
            kept.answer(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n"));
            kept.answer("3\r\nabc\r\n0\r\n\r\n");
        }
        let notes = kept.take(Reverse, Chunk::Fin).end(End::Exit);
        assert_eq!(notes, ["GET /a 0 200 13 conflict", "GET /b 0 200 13 conflict"]);
    }
    let head = "Transfer-Encoding: identity, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
    assert_request(&format!("POST /a HTTP/1.1\r\n{head}"), "POST /a 2 200 0 conflict");
    assert_request(
        "POST /a HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nab\r\n0\r\n\r\n",
        "POST /a 2 200 0 conflict",
    );
}

#[test]
fn chunk_lines_may_be_odd() {
    for body in [
        "0003\r\nabc\r\n0000\r\n\r\n",
        "00000000000000000000003\r\nabc\r\n0\r\n\r\n",
        "3  \r\nabc\r\n0 \r\n\r\n",
        "3;name=\"a;b\"; other\r\nabc\r\n0;last\r\n\r\n",
        "3\nabc\n0\n\n",
        "2\r\nab\r\n1\r\nc\r\n0\r\nTrailer: a\r\nOther: b\r\n\r\n",
    ] {
        let head = format!("Transfer-Encoding: chunked\r\n\r\n{body}");
        assert_request(&format!("POST /a HTTP/1.1\r\n{head}"), "POST /a 3 200 0");
        assert_response(&format!("HTTP/1.1 200 OK\r\n{head}"), "GET /a 0 200 3");
    }
    let ten = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\naBcd\r\n";
    let ten = format!("{ten}{}\r\n0\r\n\r\n", "x".repeat(0xabcd));
    assert_response(&ten, &format!("GET /a 0 200 {}", 0xabcd));
    // After an invalid chunk synchronisation is lost, until a head begins a frame.
    for body in ["x", "3\r\nabcd", "-1\r\n", "11111111111111111\r\nabc"] {
        let mut connection = connection();
        connection.ask("GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n");
        connection.answer(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}"));
        let notes = connection.answer(EMPTY_OK).end(End::Exit);
        assert_eq!(notes[0], "GET /a 0 200 ?", "{body:?}");
        assert_eq!(notes.len(), 2 + usize::from(notes[1].starts_with('-')), "{notes:?}");
    }
}

#[test]
fn interim_answers_come_in_chains() {
    assert_response(
        &format!(
            "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n\
             HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nHTTP/1.1 199 Odd\r\n\r\n{EMPTY_OK}"
        ),
        "GET /a 0 200 0 [102, 103, 100, 199]",
    );
}

#[test]
fn interim_answers_beyond_those_that_are_listed_are_counted() {
    for (sent, omitted) in [(25, 0), (32, 0), (33, 1), (1000, 968)] {
        let mut connection = connection();
        connection.ask("GET /a HTTP/1.1\r\n\r\n");
        connection.answer(&"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(sent));
        let listed = vec![103; sent - omitted];
        let count = if omitted > 0 { format!(" +{omitted}") } else { String::new() };
        let notes = connection.answer(EMPTY_OK).ask("GET /b HTTP/1.1\r\n\r\n").answer(EMPTY_OK);
        let expected = [format!("GET /a 0 200 0 {listed:?}{count}"), "GET /b 0 200 0".into()];
        assert_eq!(notes.end(End::Exit), expected);
    }
}

#[test]
fn statuses_without_body_have_none_whatever_the_head_says() {
    for status in [204, 304] {
        for field in ["Content-Length: 20", "Transfer-Encoding: chunked", "Content-Type: a"] {
            let head = format!("HTTP/1.1 {status} No\r\n{field}\r\n\r\n");
            assert_response(&head, &format!("GET /a 0 {status} 0"));
        }
    }
    // A server that sends a body after HEAD anyway is not synchronised until its next frame.
    let notes = connection()
        .ask("HEAD /a HTTP/1.1\r\n\r\n")
        .answer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
        .ask("GET /b HTTP/1.1\r\n\r\n")
        .answer(EMPTY_OK)
        .end(End::Exit);
    assert_eq!(notes, ["HEAD /a 0 200 0", "GET /b 0 200 0"]);
}

#[test]
fn what_leaves_http_ends_it() {
    let fake = "GET /fake HTTP/1.1\r\n\r\n";
    for (request, response, note) in [
        ("CONNECT a:1 HTTP/1.1\r\n\r\n", "HTTP/1.1 200 Go\r\n\r\n", "CONNECT a:1 0 200 0"),
        (
            "CONNECT a:1 HTTP/1.1\r\n\r\n",
            "HTTP/1.1 299 Go\r\nContent-Length: 9\r\n\r\n",
            "CONNECT a:1 0 299 0",
        ),
        ("GET /a HTTP/1.1\r\n\r\n", "HTTP/1.1 101 Switch\r\n\r\n", "GET /a 0 101 0"),
    ] {
        let notes =
            connection().ask(request).answer(response).ask(fake).answer(EMPTY_OK).end(End::Exit);
        assert_eq!(notes, [format!("{note} switched")]);
    }
    // Requested, but not granted.
    let request = "CONNECT a:1 HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\nUpgrade: h2c\r\n\r\n";
    let response = "HTTP/1.1 502 No\r\nContent-Length: 1\r\n\r\nx";
    let notes = connection().ask(request).answer(response).answer(EMPTY_OK).end(End::Exit);
    assert_eq!(notes, ["CONNECT a:1 0 502 1", "GET /b 0 200 0"]);
}

#[test]
fn a_response_may_come_before_its_request_ends() {
    let mut connection = connection();
    connection.ask("POST /a HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc");
    connection.answer("HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    connection.ask("def").take(Reverse, Chunk::Fin);
    connection.ask("gh");
    assert_eq!(connection.end(End::Rst), ["POST /a 8 413 0 truncated rst early"]);
}

/// The client may send what it has announced after the server has closed its direction.
#[test]
fn a_half_close_of_the_server_ends_no_request() {
    let request = "POST /a HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc";
    let mut it = connection();
    it.ask(request).answer("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n");
    it.take(Reverse, Chunk::Fin).ask("defghi");
    assert_eq!(it.end(End::Exit), ["POST /a 9 302 0 early"]);
    // There can be no response any more, and one that was cut does not go on.
    for (response, note) in [
        ("", "POST /a 9 - - no_response exit"),
        (
            "HTTP/1.1 302 Found\r\nContent-Length: 7\r\n\r\nabc",
            "POST /a 3 302 3 truncated fin early",
        ),
    ] {
        let mut it = connection();
        it.ask("GET /b HTTP/1.1\r\n\r\n").answer(EMPTY_OK).ask(request).answer(response);
        it.take(Reverse, Chunk::Fin).ask("defghi");
        assert_eq!(it.end(End::Exit), ["GET /b 0 200 0", note]);
    }
}

/// What began with a whole start line is told, whatever ends it.
#[test]
fn heads_that_never_end_are_truncated() {
    for cut in ["GET /a HTTP/1.1\r\n", "GET /a HTTP/1.1\r\nHost: a\r\n", "GET /a HTTP/1.1\r\nHo"] {
        for end in [End::Fin, End::Rst, End::Idle, End::Exit, End::Evicted] {
            let mut it = connection();
            let notes = it.ask(cut).end(end);
            assert_eq!(notes, [format!("GET /a ? - - truncated {}", end.name())], "{cut:?}");
            assert_eq!(it.shared.held_bytes(), 0);
        }
    }
    for cut in ["HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nServer: s\r\nContent-Le"] {
        let mut it = connection();
        it.ask("GET /a HTTP/1.1\r\n\r\n").answer(cut);
        assert_eq!(it.end(End::Rst), ["GET /a 0 200 ? truncated rst"]);
        let mut it = connection();
        it.ask("GET /a HTTP/1.1\r\n\r\n").answer(cut).take(Reverse, Chunk::Fin);
        assert_eq!(it.end(End::Exit), ["GET /a 0 200 ? truncated fin"]);
    }
    // A connection whose only message never ended counts as HTTP/1.
    let mut it = connection();
    it.ask("GET /a HTTP/1.1\r\n");
    assert_eq!(it.carried(), Carried::Unknown);
    let TestConnection { state, shared, key, handshake, .. } = &mut it;
    state.end(&mut Context { flow: FlowRef { key, handshake }, shared }, End::Rst);
    assert_eq!(it.carried(), Carried::Protocol(Kind::Http1));
    it.end(End::Rst);
    // It has not left HTTP before its head has ended.
    let mut it = connection();
    it.ask("GET /a HTTP/1.1\r\nUpgrade: x\r\n\r\n").answer("HTTP/1.1 101 Switching\r\n");
    assert_eq!(it.end(End::Rst), ["GET /a 0 101 0 truncated rst"]);
    // Without a whole start line nothing is certain.
    for cut in ["GET /a HTTP/1.1", "GET /a", "HTTP/1.1 200 OK"] {
        let mut it = connection();
        assert_eq!(it.ask(cut).end(End::Rst).len(), 0, "{cut:?}");
    }
}

/// A server need not wait for the end of a head that is too long for it.
#[test]
fn a_response_may_come_before_the_head_of_its_request_ends() {
    let refused = "HTTP/1.1 431 Too Large\r\nContent-Length: 0\r\n\r\n";
    let body = "GET /in/it HTTP/1.1\r\n\r\n";
    for body in ["", body] {
        let rest = format!("bc\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let mut connection = connection();
        connection.ask("GET /0 HTTP/1.1\r\n\r\n").answer(EMPTY_OK);
        connection.ask("POST /a HTTP/1.1\r\nCookie: a").answer(refused);
        connection.ask(&rest).ask("GET /b HTTP/1.1\r\n\r\n").answer(EMPTY_OK);
        let refused = format!("POST /a {} 431 0 early", body.len());
        assert_eq!(connection.end(End::Exit), ["GET /0 0 200 0", &refused, "GET /b 0 200 0"]);
    }
    // The server had read nothing of the head: it timed out.
    let mut connection = connection();
    connection.ask("GET /0 HTTP/1.1\r\n\r\n").answer(EMPTY_OK);
    let timeout = "HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n";
    connection.ask("GET /a HTTP/1.1\r\nCookie: a");
    let (read, sent) = (19, connection.sent[0]);
    connection.sent[0] = read;
    connection.answer(timeout);
    connection.sent[0] = sent;
    connection.ask("b: c\r\n\r\n");
    let notes = connection.end(End::Exit);
    assert_eq!(
        notes,
        ["GET /0 0 200 0", "- - - 408 0 no_request", "GET /a 0 - - no_response exit"]
    );
}

#[test]
fn other_protocols_of_like_form_make_no_record() {
    for (asked, answered) in [
        ("GET /old\r\n", "<html>HTTP/1.1 200 OK\r\n\r\n</html>"),
        ("GET /old\n\n", "HTTP is a protocol\n"),
        ("OPTIONS rtsp://a/b RTSP/1.0\r\nCSeq: 1\r\n\r\n", "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"),
        ("INVITE sip:a@b SIP/2.0\r\nContent-Length: 0\r\n\r\n", "SIP/2.0 200 OK\r\n\r\n"),
        ("REQMOD icap://a/b ICAP/1.0\r\n\r\nGET /in HTTP/1.1\r\n\r\n", "ICAP/1.0 204 No\r\n\r\n"),
        ("GET some key\r\n", "$-1\r\n"),
    ] {
        assert_eq!(connection().ask(asked).answer(answered).end(End::Exit), [""; 0], "{asked:?}");
    }
}

#[test]
fn bodies_may_hold_messages() {
    let inner = format!("GET /fake HTTP/1.1\r\n\r\n{EMPTY_OK}");
    let sized = format!("Content-Length: {}\r\n\r\n{inner}", inner.len());
    let coded =
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
    for rest in [&sized, &coded] {
        let request = format!("POST /a HTTP/1.1\r\n{rest}");
        assert_request(&request, &format!("POST /a {} 200 0", inner.len()));
        let response = format!("HTTP/1.1 200 OK\r\n{rest}");
        assert_response(&response, &format!("GET /a 0 200 {}", inner.len()));
    }
    // Until the server closes, even if parts have lengths of their own.
    let parts = "HTTP/1.1 206 Part\r\nContent-Type: multipart/byteranges; boundary=b\r\n\r\n";
    for head in ["HTTP/1.0 206 OK\r\n\r\n", parts] {
        let mut connection = connection();
        connection.ask("GET /a HTTP/1.1\r\n\r\n").answer(head).answer(&inner).answer(&inner);
        let notes = connection.take(Reverse, Chunk::Fin).end(End::Exit);
        assert_eq!(notes, [format!("GET /a 0 206 {}", 2 * inner.len())]);
    }
}

#[test]
fn proxy_headers_are_passed_over() {
    let two = |command: u8, rest: &[u8]| {
        let signature = b"\r\n\r\n\0\r\nQUIT\n";
        let length = (rest.len() as u16).to_be_bytes();
        [&signature[..], &[0x20 | command, 0x11], &length[..], rest].concat()
    };
    for header in [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 80\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        two(1, &[192, 0, 2, 1, 192, 0, 2, 2, 1, 2, 0, 80]),
        two(0, &[]),
        two(1, &[0xee; 300]),
    ] {
        let mut whole = header.clone();
        whole.extend(b"GET /a HTTP/1.1\r\n\r\n");
        for piece_bytes in [1, 5, 13, 16, 1000] {
            let mut connection = connection();
            whole.chunks(piece_bytes).for_each(|piece| {
                connection.say(Forward, piece);
            });
            assert_eq!(
                connection.answer(EMPTY_OK).end(End::Exit),
                ["GET /a 0 200 0"],
                "{piece_bytes}"
            );
        }
        let notes =
            connection().say(Forward, &header).ask("GET /a HTTP/1.1\r\n\r\n").end(End::Exit);
        assert_eq!(notes, ["GET /a 0 - - no_response exit"]);
    }
    // This rule applies to the sender of responses, not to the client.
    let notes = connection()
        .ask("GET /a HTTP/1.1\r\n\r\n")
        .answer(&format!("PROXY UNKNOWN\r\n{EMPTY_OK}"))
        .end(End::Exit);
    assert_eq!(notes, ["GET /a 0 - - no_response exit"]);
}

#[test]
fn what_stands_between_messages_is_passed_over() {
    let notes = connection()
        .ask("GET /a HTTP/1.1\r\n\r\n")
        .answer(EMPTY_OK)
        .ask("garbage\r\n\r\nGET /in/a/frame HTTP/1.1\r\n\r\n")
        .ask("GET /b HTTP/1.1\r\n\r\n")
        .answer(EMPTY_OK)
        .end(End::Exit);
    assert_eq!(notes, ["GET /a 0 200 0", "GET /b 0 200 0"]);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes there")]
fn a_thousand_requests_may_come_in_one_segment() {
    let requests: String = (0..1000).map(|n| format!("GET /{n} HTTP/1.1\r\n\r\n")).collect();
    let notes = connection().ask(&requests).answer(&EMPTY_OK.repeat(1000)).end(End::Exit);
    let expected: Vec<String> = (0..1000).map(|n| format!("GET /{n} 0 200 0")).collect();
    assert_eq!(notes, expected);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes there")]
fn heads_around_the_bound_keep_their_place() {
    for over in [-2_i64, -1, 0, 1, 2, 3, 70_000] {
        let line = "GET /a HTTP/1.1\r\nX: ";
        let fill = (65_536 + over) as usize - line.len() - 4;
        assert_request(&format!("{line}{}\r\n\r\n", "y".repeat(fill)), "GET /a 0 200 0");
    }
}
