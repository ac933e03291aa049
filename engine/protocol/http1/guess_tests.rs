//! Connections whose beginning is unknown: what later messages say about the first that was found.

use super::tests::{TestConnection, connection};
use crate::decode::{SeqNumber, TunnelPath};
use crate::flow::{Chunk, End, Handshake, SegmentMeta};
use crate::ids::Direction::{Forward, Reverse};
use crate::ids::IfaceId;
use crate::protocol::{Carried, Context, FlowRef, Interest, Kind};
use crate::time::TimestampNs;
use proptest::prelude::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const FAKE: &str = "GET /fake HTTP/1.1\r\nHost: f\r\n\r\n";

/// A connection of which the handshake was not captured.
fn late() -> TestConnection {
    let mut connection = connection();
    connection.handshake = Handshake::default();
    connection
}

fn get(n: usize) -> String {
    format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// Three exchanges follow, and are told as they were.
#[track_caller]
fn assert_goes_on(connection: &mut TestConnection, before: &[&str]) {
    for n in 0..3 {
        connection.ask(&get(n)).answer(OK);
    }
    let after = (0..3).map(|n| format!("GET /{n} 0 200 5"));
    let expected: Vec<String> = before.iter().map(|note| note.to_string()).chain(after).collect();
    assert_eq!(connection.end(End::Exit), expected);
}

#[test]
fn text_in_the_body_of_a_response_is_no_request() {
    assert_goes_on(late().answer(FAKE), &[]);
    assert_goes_on(late().answer("text").answer(FAKE), &[]);
    assert_goes_on(late().answer(FAKE).answer("and more text"), &[]);
    assert_goes_on(late().answer(&format!("{FAKE}and more text")), &[]);
    assert_goes_on(late().answer(FAKE).answer(FAKE).answer("\0\0\0"), &[]);
    let put = "PUT /fake HTTP/1.1\r\nContent-Length: 999999\r\n\r\n";
    assert_goes_on(late().answer(put).answer("body"), &[]);
    assert_goes_on(late().answer(&put[..20]).answer("body"), &[]);
    // What is withdrawn counts for nothing.
    let mut upload = late();
    upload.ask("HTTP/1.1 100 Continue\r\n\r\ntext");
    assert_eq!(upload.shared.stats().exchanges.heads(), 0);
    assert_eq!(upload.shared.stats().http1.guesses_withdrawn, 1);
}

/// What looks like a response there announces a body, but does not take the responses that follow.
#[test]
fn text_in_the_body_of_a_response_is_no_response_for_long() {
    for framing in ["Content-Length: 99999\r\n", "Content-Length: 30\r\n", ""] {
        let fake = format!("HTTP/1.1 200 OK\r\n{framing}\r\n");
        for head in ["", "HTTP/1.1 203 OK\r\nContent-Length: 999\r\n\r\n"] {
            let mut download = late();
            for text in [head, &fake, "text"] {
                download.answer(text);
            }
            let before = ["- - - 203 0 no_request", "- - - 200 4 no_request"];
            assert_goes_on(&mut download, &before[usize::from(head.is_empty())..]);
        }
    }
}

/// Nor do pieces of a real one, however small, withdraw what came before.
#[test]
fn a_head_in_small_pieces_is_no_text() {
    let [first, second] = [get(1), get(2)];
    for at in 1..second.len() {
        let mut batch = late();
        for text in [&first, &second[..at], &second[at..]] {
            batch.say(Forward, text.as_bytes());
        }
        batch.answer(&numbered(1, "")).answer(&numbered(2, "")).ask(&get(3));
        let notes = batch.answer(&numbered(3, "")).end(End::Exit);
        assert_eq!(notes, ["GET /1 0 200 1", "GET /2 0 200 2", "GET /3 0 200 3"], "{at}");
    }
    let [first, second] = [numbered(1, ""), numbered(2, "")];
    for at in 1..20 {
        let mut answers = late();
        answers.answer(&first).answer(&second[..at]).answer(&second[at..]);
        let expected = ["- - - 200 1 no_request", "- - - 200 2 no_request"];
        assert_goes_on(&mut answers, &expected);
    }
}

/// A late start at the first piece of a line whose method is unusual.
#[test]
fn any_token_may_begin_a_line_in_pieces() {
    let line = "x_Method /a HTTP/1.1\r\n";
    for at in "x_Method /".len()..line.len() {
        let mut asked = late();
        asked.ask(&line[..at]).ask(&line[at..]).ask("\r\n").answer(OK);
        assert_goes_on(&mut asked, &["x_Method /a 0 200 5"]);
    }
    for text in ["x_Method /a and more", "x_Method /a HTTP/2", "x_Method /a HTTP/1.1 and"] {
        assert_goes_on(late().ask(text).ask("\r\n\r\n").answer(OK), &["- - - 200 5 no_request"]);
    }
}

/// A server that refuses an upload does not wait for its end. But one that answers again has found
/// requests in it.
#[test]
fn a_refused_request_does_not_take_those_behind_it() {
    let mut upload = late();
    upload.ask("POST /fake HTTP/1.1\r\nContent-Length: 99999\r\n\r\n");
    upload.answer("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n").ask(&get(7)).answer(OK);
    assert_goes_on(&mut upload, &["- - - 404 0 no_request", "- - - 200 5 no_request"]);
    let mut refused = late();
    refused.ask("POST /a HTTP/1.1\r\nContent-Length: 28\r\n\r\n");
    refused.answer("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n").ask(&get(7));
    assert_goes_on(&mut refused, &["POST /a 28 404 0 early"]);
}

/// The response whose interim response has withdrawn a guess.
#[test]
fn what_withdraws_a_guess_is_not_behind_a_loss() {
    let mut upload = late();
    upload.ask(OK).answer("HTTP/1.1 100 Continue\r\n\r\n").answer(OK);
    assert_goes_on(&mut upload, &["- - - 200 5 no_request [100]"]);
}

#[test]
fn text_in_the_body_of_a_request_is_no_message() {
    for fake in [FAKE, OK, "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 101 Switching\r\n\r\n"] {
        let mut upload = late();
        upload.ask(fake).ask("and more text").answer(OK);
        assert_goes_on(&mut upload, &["- - - 200 5 no_request"]);
        let mut upload = late();
        upload.ask(&format!("{fake}and more text")).answer(OK);
        assert_goes_on(&mut upload, &["- - - 200 5 no_request"]);
    }
    let mut upload = late();
    upload.ask("POST /fake HTTP/1.1\r\nContent-Length: 99999\r\n\r\n").ask("text").answer(OK);
    assert_goes_on(&mut upload, &["- - - 200 5 no_request"]);
    let mut upload = late();
    upload.ask("HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n").ask("text").answer(OK);
    assert_goes_on(&mut upload, &["- - - 200 5 no_request"]);
}

/// The body of its response is the request itself (RFC 9110 section 9.3.8).
#[test]
fn the_body_of_a_trace_is_no_request() {
    let trace = "TRACE /t HTTP/1.1\r\nHost: h\r\n\r\n";
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", trace.len());
    let mut connection = late();
    connection.answer(trace).ask(trace).answer(&head).answer(trace);
    assert_goes_on(&mut connection, &[&format!("TRACE /t 0 200 {}", trace.len())]);
}

#[test]
fn nothing_is_told_on_the_word_of_one_direction() {
    let lines = |connection: &TestConnection| connection.shared.recorder.sink.lines.len();
    let exchanges = |connection: &TestConnection| connection.shared.recorder.sink.exchanges.len();
    let mut both = late();
    assert_eq!(lines(both.ask(&get(0))), 0);
    assert_eq!(both.interest(), Interest::Undecided);
    assert_eq!(lines(both.answer(OK)), 2);
    assert_eq!(both.interest(), Interest::Wanted);
    assert_eq!(both.end(End::Exit), ["GET /0 0 200 5"]);

    // Whoever answers has read more each time.
    let mut one = late();
    one.ask(&get(0)).sent[1] += 50;
    assert_eq!(lines(&one), 0);
    assert_eq!(lines(one.ask(&get(1))), 2);
    let expected = ["GET /0 0 - - no_response exit", "GET /1 0 - - no_response exit"];
    assert_eq!(one.end(End::Exit), expected);
    let mut one = late();
    one.answer(OK).sent[0] += 50;
    assert_eq!((lines(&one), exchanges(&one)), (0, 0));
    one.answer(OK);
    assert_eq!((lines(&one), exchanges(&one)), (2, 2));
    assert_eq!(one.end(End::Exit), ["- - - 200 5 no_request"; 2]);

    // Its time is over with the connection.
    let mut one = late();
    one.ask(&get(0)).ask(&get(1));
    assert_eq!((lines(&one), exchanges(&one)), (0, 0));
    let expected = ["GET /0 0 - - no_response rst", "GET /1 0 - - no_response rst"];
    assert_eq!(one.take(Forward, Chunk::Reset).end(End::Exit), expected);
    assert_eq!(lines(&one), 2);
    let notes = late().answer(OK).answer(OK).end(End::Idle);
    assert_eq!(notes, ["- - - 200 5 no_request"; 2]);
    assert_eq!(late().ask("GET /a HTTP/1.1\r\n").end(End::Rst), ["GET /a ? - - truncated rst"]);
}

#[test]
fn an_interim_response_that_waits_is_a_line_and_is_bounded() {
    let proceed = "HTTP/1.1 100 Continue\r\n\r\n";
    let mut one = late();
    one.answer(proceed).answer(OK).ask(&get(1)).answer(OK);
    let lines = ["HTTP/1.1 100 Continue", "HTTP/1.1 200 OK", "GET /1 HTTP/1.1", "HTTP/1.1 200 OK"];
    assert_eq!(one.shared.recorder.sink.lines, lines);
    assert_eq!(one.end(End::Fin), ["- - - 200 5 no_request [100]", "GET /1 0 200 5"]);
    let mut withdrawn = late();
    withdrawn.ask(proceed).answer(OK);
    assert_eq!(withdrawn.end(End::Fin), ["- - - 200 5 no_request"]);
    assert_eq!(withdrawn.shared.stats().exchanges.heads(), 1);
    let mut many = late();
    let limit = many.shared.limits.pending_count_max;
    for _ in 0..limit + 2 {
        many.answer(proceed);
    }
    assert!(many.shared.recorder.sink.lines.len() >= limit);
    assert_eq!((many.end(End::Fin).len(), many.shared.held_bytes()), (1, 0));
}

/// Memory is short.
fn relieve(connection: &mut TestConnection) -> bool {
    let TestConnection { state, shared, key, handshake, .. } = connection;
    state.relieve(&mut Context { flow: FlowRef { key, handshake }, shared })
}

/// A direction that does not end must not pile up what waits.
#[test]
fn what_waits_for_a_confirmation_is_bounded() {
    let mut one = late();
    let limit = one.shared.limits.pending_count_max;
    for _ in 0..limit + 2 {
        one.answer("HTTP/1.1 204 No\r\n\r\n");
    }
    assert!(one.shared.recorder.sink.exchanges.len() >= limit);
    assert_eq!(one.end(End::Exit).len(), limit + 2);
    // If memory is short, it is told at once.
    let mut one = late();
    assert!(!relieve(&mut one));
    one.answer(OK);
    assert!(relieve(&mut one) && !relieve(&mut one));
    assert_eq!(one.shared.held_bytes(), 0);
    assert_eq!(one.shared.recorder.sink.exchanges, ["- - - 200 5 no_request"]);
    let mut batch = late();
    batch.ask(&get(1)).ask(&get(2)).answer(OK);
    assert!(relieve(&mut batch));
    assert_eq!(batch.shared.recorder.sink.exchanges, ["- - - 200 5 no_request"]);
}

#[test]
fn what_is_another_protocol_stays_one() {
    let inner = [FAKE, OK];
    for (asked, answered) in [
        ("RESPMOD icap://i/x ICAP/1.0\r\nHost: i\r\n\r\n", "ICAP/1.0 200 OK\r\nISTag: x\r\n\r\n"),
        ("ANNOUNCE rtsp://h/a RTSP/1.0\r\nCSeq: 1\r\n\r\n", "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"),
        ("MESSAGE sip:a@b SIP/2.0\r\nVia: x\r\n\r\n", "SIP/2.0 200 OK\r\nVia: x\r\n\r\n"),
        ("MRCP/2.0 83 SPEAK 54\r\nA: b\r\n\r\n", "MRCP/2.0 79 54 200 COMPLETE\r\n\r\n"),
    ] {
        let mut whole = connection();
        whole.ask(asked).ask(inner[0]).ask(inner[1]).answer(answered).answer(inner[1]);
        whole.ask(inner[0]).answer(inner[1]);
        assert_eq!(whole.interest(), Interest::Foreign);
        assert_eq!(whole.carried(), Carried::Unknown);
        assert_eq!(whole.end(End::Fin).len(), 0, "{asked:?}");
        // The beginning of a head is given back when the other side shows the protocol.
        let mut begun = connection();
        begun.ask("GET /inner HTTP/1.1\r\nHo").answer(answered).ask("st: a\r\n\r\n");
        assert_eq!(begun.end(End::Fin).len(), 0, "{asked:?}");
        assert_eq!(begun.shared.held_bytes(), 0);
        // Joined late, in the middle of a message.
        let mut late = late();
        late.ask(inner[0]).ask(inner[1]).answer(answered).answer(inner[1]).ask(asked);
        assert_eq!(late.end(End::Fin).len(), 0, "{asked:?}");
    }
}

/// Where the capture ends with a message inside, none of it is told.
#[test]
fn another_protocol_of_both_sides_is_surely_one() {
    let (asked, answered) = ("REQMOD icap://i/x ICAP/1.0\r\n\r\n", "ICAP/1.0 200 OK\r\n\r\n");
    for inner in [FAKE, OK] {
        let mut late = late();
        for _ in 0..2 {
            late.ask(asked).ask(FAKE).answer(answered).answer(inner);
        }
        assert_eq!(late.interest(), Interest::Foreign);
        assert_eq!(late.end(End::Fin).len(), 0, "{inner:?}");
    }
    // The text of one side is none.
    let mut upload = late();
    upload.ask(asked).ask(asked).answer(OK);
    assert_goes_on(&mut upload, &["- - - 200 5 no_request"]);
}

#[test]
fn heads_that_another_protocol_cuts_are_freed() {
    for is_late in [false, true] {
        let mut cut = if is_late { late() } else { connection() };
        cut.answer("ICAP/1.0 200 OK\r\n").answer("GET /a").ask("REQMOD icap://i/x ICAP/1.0\r\n");
        assert_eq!(cut.end(End::Fin).len(), 0);
        assert_eq!(cut.shared.held_bytes(), 0);
    }
    for (begun, answer) in [
        ("anything", "HTTP/1.1 101 Switching\r\n\r\n"),
        ("any", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ] {
        let mut left = connection();
        left.ask(begun).answer(&answer[..9]).answer(&answer[9..]);
        left.end(End::Fin);
        assert_eq!(left.shared.held_bytes(), 0, "{answer:?}");
    }
    let mut cut = connection();
    cut.answer("GE").ask("REQMOD icap://i/x ICAP/1.0\r\n");
    assert_eq!(cut.end(End::Fin).len(), 0);
    assert_eq!(cut.shared.held_bytes(), 0);
}

#[test]
fn text_that_the_other_side_does_not_answer_in_http_is_no_request() {
    let mut mail = connection();
    mail.answer("220 mail\r\n").ask("EHLO a\r\n").answer("250 ok\r\n").ask("DATA\r\n");
    mail.answer("354 go\r\n").ask(FAKE).answer("250 ok\r\n").ask("QUIT\r\n");
    assert_eq!(mail.end(End::Fin).len(), 0);
    // What is answered is one.
    let mut socks = connection();
    socks.ask("\x05\x01\0").answer("\x05\0");
    assert_goes_on(&mut socks, &[]);
}

/// A server that does not speak the protocol of its client says so in its own.
#[test]
fn an_answer_in_http_to_another_protocol_is_told() {
    let refusal = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n<html>";
    for hello in ["\x16\x03\x01\0\x05\x01\0\0\x01\x03", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut refused = connection();
        refused.ask(hello).ask("\0\0\0\x04").answer(refusal);
        refused.ask("\x15\x03\x01\0\x02\x02\x16").take(Reverse, Chunk::Fin);
        assert_eq!(refused.carried(), Carried::Protocol(Kind::Http1));
        assert_eq!(refused.end(End::Exit), ["- - - 400 6 no_request"], "{hello:?}");
        let mut split = connection();
        split.ask(hello).answer(&refusal[..4]).answer(&refusal[4..]).take(Reverse, Chunk::Fin);
        assert_eq!(split.end(End::Exit), ["- - - 400 6 no_request"], "{hello:?}");
        // Inside the protocol, it is data.
        let mut spoken = connection();
        spoken.ask(hello).answer("\x16\x03\x03\0\x05").answer(refusal);
        assert_eq!(spoken.end(End::Exit).len(), 0, "{hello:?}");
    }
}

fn numbered(n: usize, more: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{more}Content-Length: {n}\r\n\r\n{}", "x".repeat(n))
}

/// Of a batch that was joined in its middle, the first responses belong to requests from before.
#[test]
fn a_batch_is_paired_once_all_of_its_responses_were_read() {
    let [one, two] = [numbered(1, ""), numbered(2, "")];
    let batch = |connection: &mut TestConnection| {
        let read = connection.sent[1];
        for n in 1..3 {
            connection.ask(&get(n));
            assert_eq!(connection.sent[1], read);
        }
    };
    let whole = ["GET /1 0 200 1", "GET /2 0 200 2"];
    // The client has read two responses, and goes on.
    let mut goes_on = late();
    batch(&mut goes_on);
    goes_on.answer(&one).answer(&two).ask(&get(3)).answer(&numbered(3, ""));
    assert_eq!(goes_on.shared.recorder.sink.exchanges, [&whole[..], &["GET /3 0 200 3"]].concat());
    // The server closes.
    let mut closed = late();
    batch(&mut closed);
    closed.answer(&one).answer(&two).take(Reverse, Chunk::Fin);
    assert_eq!(closed.end(End::Fin), whole);
    let lost = [
        "- - - 200 1 no_request",
        "- - - 200 2 no_request",
        "GET /1 0 - - no_response fin",
        "GET /2 0 - - no_response fin",
    ];
    // It closes early, before it has answered all.
    let mut early = late();
    batch(&mut early);
    early.answer(&one).answer(&numbered(2, "Connection: close\r\n")).take(Reverse, Chunk::Fin);
    assert_eq!(early.end(End::Fin), lost);
    // There was one more request than was captured.
    let mut more = late();
    batch(&mut more);
    more.answer(&numbered(0, "")).answer(&one).answer(&two).ask(&get(3));
    let notes = more.answer(&numbered(3, "")).end(End::Fin);
    assert_eq!(notes[..3], ["- - - 200 0 no_request", lost[0], lost[1]]);
    assert_eq!(notes.last().map(String::as_str), Some("GET /3 0 200 3"));
}

proptest! {
    /// Wherever a client that sends batches is joined, no response goes to another request than its
    /// own. The length of its body says which that is. (Where only the last request of a batch was
    /// captured, it looks like one that was sent alone.)
    #[test]
    fn late_starts_give_no_response_to_another_request(
        batches in prop::collection::vec((1..5_usize, any::<bool>(), any::<bool>()), 1..5),
        joined_at in 0..16_usize,
        closes_early: bool,
    ) {
        let (mut said, mut n) = (Vec::new(), 1);
        for (at, (count, is_joined, is_answered_at_once)) in batches.iter().enumerate() {
            let numbers: Vec<usize> = (n..n + count).collect();
            n += count;
            let is_last = at + 1 == batches.len();
            let answered = if is_last && closes_early { &numbers[..1] } else { &numbers[..] };
            let close = if is_last && closes_early { "Connection: close\r\n" } else { "" };
            let requests: Vec<String> = numbers.iter().map(|n| get(*n)).collect();
            let responses: Vec<String> = answered.iter().map(|n| numbered(*n, close)).collect();
            for (way, texts, is_one) in
                [(Forward, requests, is_joined), (Reverse, responses, is_answered_at_once)]
            {
                let texts = if *is_one { vec![texts.concat()] } else { texts };
                said.extend(texts.into_iter().map(|text| (way, text)));
            }
        }
        let is_request = |at: usize| said.get(at).is_some_and(|(way, _)| *way == Forward);
        let is_last_alone = joined_at > 0
            && is_request(joined_at - 1)
            && is_request(joined_at)
            && !is_request(joined_at + 1);
        let joined_at = joined_at - usize::from(is_last_alone);
        let mut connection = late();
        for (at, (way, text)) in said.iter().enumerate() {
            if at < joined_at {
                connection.sent[way.index()] += text.len() as u32;
            } else {
                connection.say(*way, text.as_bytes());
            }
        }
        connection.take(Reverse, Chunk::Fin);
        for note in connection.end(End::Fin) {
            let words: Vec<&str> = note.split(' ').collect();
            if let ["GET", target, _, "200", bytes] = words[..] {
                prop_assert_eq!(&target[1..], bytes, "{}", note);
            }
        }
    }
}

/// What waits for the client to be known is not taken from the list and put back without end.
#[test]
fn a_batch_may_end_before_the_client_is_known() {
    for end in [End::Exit, End::Fin] {
        let mut cut = late();
        cut.ask("GET / HTTP/1.1\n\nPUT /p HTTP/1.1\nTransfer-Encoding:\n\n");
        let meta = SegmentMeta {
            timestamp: TimestampNs(2_000_000),
            iface: IfaceId(0),
            tunnel: TunnelPath::default(),
            ack: None,
            seq: SeqNumber(0),
            is_frame_start: true,
        };
        cut.take(Reverse, Chunk::Bytes(b"HTTP/1.1 100 \n", &meta));
        if end == End::Fin {
            cut.take(Reverse, Chunk::Fin);
        }
        assert_eq!(cut.end(end).len(), 3);
    }
}
