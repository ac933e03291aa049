//! Calls of gRPC over HTTP/2, in every shape: each is read in whole segments and byte by byte, and
//! gives the same records.

use crate::http2::{chosen, told};
use crate::support::conversation::Side::{Client, Server};
use crate::support::hpack::Pair;
use crate::support::http2::{
    DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, RST_STREAM, Talk, WHOLE, fields, frame, padded,
};
use crate::support::reported::{records_as, reported_of};
use httplines::config::EmitConfig;
use serde_json::{Value, json};

/// What a record tells of a call.
const TOLD: [&str; 5] = [
    "grpc_status",
    "grpc_message",
    "grpc_request_messages",
    "grpc_response_messages",
    "grpc_encoding",
];

/// The head of a call.
fn call(path: &str) -> Vec<Pair> {
    fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "a.example"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ])
}

/// A message with its prefix.
pub fn message(flags: u8, content: &[u8]) -> Vec<u8> {
    [&[flags][..], &(content.len() as u32).to_be_bytes(), content].concat()
}

const ANSWER: [(&str, &str); 2] = [(":status", "200"), ("content-type", "application/grpc")];

/// A connection on which a call has begun, and its response.
fn begun() -> Talk {
    let mut talk = Talk::new();
    talk.ask(1, END_HEADERS, &call("/a.B/C"));
    talk
}

/// A call with these bodies and trailers.
fn talk_of(request: &[u8], response: &[u8], trailers: &[(&str, &str)]) -> Talk {
    let mut talk = begun();
    talk.client(frame(DATA, END_STREAM, 1, request));
    talk.answer(1, END_HEADERS, &ANSWER);
    talk.server(frame(DATA, 0, 1, response)).answer(1, WHOLE, trailers);
    talk
}

/// What the only record tells of the call.
fn only(talk: &Talk) -> Value {
    let records = told(talk);
    assert_eq!(records.len(), 1, "{records:?}");
    chosen(&records[0], &TOLD)
}

/// What the only record of a unary call with these trailers tells.
fn ended(trailers: &[(&str, &str)]) -> Value {
    only(&talk_of(&message(0, b"ask"), &message(0, b"answer"), trailers))
}

#[test]
fn a_unary_call() {
    assert_eq!(ended(&[("grpc-status", "0")]), json!([0, null, 1, 1, null]));
    let failed = [("grpc-status", "5"), ("grpc-message", "no such thing")];
    assert_eq!(ended(&failed), json!([5, "no such thing", 1, 1, null]));
    let mut talk = begun();
    talk.client(frame(DATA, END_STREAM, 1, &message(0, &[7; 100])));
    talk.answer(1, END_HEADERS, &ANSWER);
    talk.server([&frame(DATA, 0, 1, &message(0, b""))[..]].concat());
    talk.answer(1, WHOLE, &[("grpc-status", "0"), ("x-more", "1")]);
    let frames = talk.frames(1 << 14);
    let line = records_as(&EmitConfig::default(), &frames).remove(0);
    let names = ["target", "request_body_bytes", "response_body_bytes", "outcome", "version"];
    assert_eq!(chosen(&line, &names), json!(["/a.B/C", 105, 5, "complete", "HTTP/2"]));
    assert!(line["duration_ns"].as_u64().is_some_and(|ns| ns > 0));
}

#[test]
fn streams_of_messages_cut_anywhere() {
    let messages: Vec<u8> = (0..40).flat_map(|len: usize| message(0, &vec![1; len * 7])).collect();
    for frame_bytes in [1, 2, 4, 5, 6, 100, 1000, 16_000] {
        let mut talk = begun();
        talk.answer(1, END_HEADERS, &ANSWER);
        for part in messages.chunks(frame_bytes) {
            talk.client(frame(DATA, 0, 1, part));
        }
        for part in messages[..5 * 20].chunks(frame_bytes) {
            let padding = (part.len() % 7) as u8;
            talk.server(frame(DATA, PADDED, 1, &padded(part, padding)));
        }
        talk.client(frame(DATA, END_STREAM, 1, b""));
        talk.answer(1, WHOLE, &[("grpc-status", "0")]);
        // The sizes are 5, 12, 19, 26, 33: 95 bytes are five messages, and five more begin one.
        assert_eq!(only(&talk), json!([0, null, 40, 5, null]), "{frame_bytes}");
    }
}

#[test]
fn both_sides_stream_at_the_same_time() {
    let mut talk = begun();
    talk.answer(1, END_HEADERS, &ANSWER);
    for count in 0..5 {
        talk.client(frame(DATA, 0, 1, &message(0, b"ping")));
        talk.server(frame(DATA, 0, 1, &message(0, b"pong").repeat(count)));
    }
    talk.client(frame(DATA, END_STREAM, 1, &[]));
    talk.answer(1, WHOLE, &[("grpc-status", "0")]);
    let record = told(&talk).remove(0);
    assert_eq!(chosen(&record, &TOLD), json!([0, null, 5, 10, null]));
    let times = ["early_response", "outcome"];
    assert_eq!(chosen(&record, &times), json!([true, "complete"]));
}

#[test]
fn empty_messages_and_none() {
    let empty = message(0, b"");
    let told = |request: &[u8], response: &[u8]| {
        only(&talk_of(request, response, &[("grpc-status", "0")]))
    };
    assert_eq!(told(&empty.repeat(7), &empty), json!([0, null, 7, 1, null]));
    assert_eq!(told(b"", b""), json!([0, null, 0, 0, null]));
    // Not whole: in the prefix, and in a message.
    assert_eq!(told(&empty[..4], &message(0, b"abc")[..7]), json!([0, null, 0, 0, null]));
}

#[test]
fn a_length_beyond_any_body() {
    let huge = [&[0][..], &[0xff; 4], b"the beginning"].concat();
    let twice = [&message(0, b"whole")[..], &huge].concat();
    let talk = talk_of(&huge, &twice, &[("grpc-status", "0")]);
    assert_eq!(only(&talk), json!([0, null, 0, 1, null]));
}

#[test]
fn messages_that_are_compressed() {
    let zipped = |side: &[(&str, &str)], request: u8, response: u8| {
        let mut talk = Talk::new();
        let ask = [&call("/a.B/C")[..], &fields(side)].concat();
        talk.ask(1, END_HEADERS, &ask);
        talk.client(frame(DATA, END_STREAM, 1, &message(request, b"x")));
        let head = [&ANSWER[..], &[("grpc-encoding", "deflate")]].concat();
        talk.answer(1, END_HEADERS, &head);
        talk.server(frame(DATA, 0, 1, &message(response, b"x")));
        talk.answer(1, WHOLE, &[("grpc-status", "0")]);
        only(&talk)[4].clone()
    };
    let gzip = [("grpc-encoding", "gzip")];
    assert_eq!(zipped(&gzip, 1, 0), "gzip");
    assert_eq!(zipped(&gzip, 0, 1), "deflate");
    assert_eq!(zipped(&gzip, 1, 1), "deflate", "that of the response");
    assert_eq!(zipped(&gzip, 0, 0), Value::Null, "no message was");
    assert_eq!(zipped(&[], 1, 0), Value::Null, "by nobody knows what");
}

#[test]
fn trailers_only() {
    let head = [&ANSWER[..], &[("grpc-status", "12"), ("grpc-message", "Method%20not found!")]];
    let mut talk = begun();
    talk.client(frame(DATA, END_STREAM, 1, &message(0, b"ask")));
    talk.answer(1, WHOLE, &head.concat());
    assert_eq!(only(&talk), json!([12, "Method not found!", 1, 0, null]));
    // A status in a head that a body follows is none.
    let mut talk = begun();
    talk.client(frame(DATA, END_STREAM, 1, b""));
    talk.answer(1, END_HEADERS, &head.concat());
    talk.server(frame(DATA, END_STREAM, 1, b""));
    assert_eq!(only(&talk), json!([null, null, 0, 0, null]));
}

#[test]
fn messages_of_errors_are_decoded() {
    for (sent, shown) in [
        ("no%20such%20%22thing%22%20%C3%A9", json!("no such \"thing\" é")),
        ("100% of %zz and %4", json!("100% of %zz and %4")),
        ("a%0Ab%00", json!("a\nb\0")),
        ("line%0A folded", json!("line\n folded")),
        ("", json!("")),
    ] {
        let told = ended(&[("grpc-status", "2"), ("grpc-message", sent)]);
        assert_eq!(told, json!([2, shown, 1, 1, null]), "{sent}");
    }
    let bytes = told(&talk_of(b"", b"", &[("grpc-status", "2"), ("grpc-message", "%FFa")]));
    assert_eq!(
        chosen(&bytes[0], &["grpc_message", "grpc_message_b64"]),
        json!(["\u{fffd}a", "/2E="])
    );
    let long = "%41".repeat(5000);
    let long = told(&talk_of(b"", b"", &[("grpc-status", "2"), ("grpc-message", &long)]));
    assert_eq!(long[0]["grpc_message_len"], 15_000, "on the wire");
    assert_eq!(long[0]["grpc_message"], "A".repeat(2048));
}

#[test]
fn statuses_that_are_none() {
    for (status, expected) in [
        ("OK", Value::Null),
        ("", Value::Null),
        ("-1", Value::Null),
        ("99999999999", Value::Null),
        ("99", json!(99)),
        ("00", json!(0)),
    ] {
        assert_eq!(ended(&[("grpc-status", status)]), json!([expected, null, 1, 1, null]));
    }
    assert_eq!(ended(&[("x-trailer", "1")]), json!([null, null, 1, 1, null]));
}

#[test]
fn two_statuses_are_none_unless_they_agree() {
    let twice = |first: &str, second: &str| {
        let trailers = [("grpc-status", first), ("grpc-status", second), ("grpc-status", second)];
        let record = told(&talk_of(b"", b"", &trailers)).remove(0);
        chosen(&record, &["grpc_status", "conflict"])
    };
    assert_eq!(twice("3", "3"), json!([3, null]));
    assert_eq!(twice("0", "13"), json!([null, true]));
    assert_eq!(twice("0", "x"), json!([null, true]));
}

#[test]
fn calls_that_are_reset_say_by_whom() {
    let reset = |side, code: u32| {
        let mut talk = begun();
        talk.client(frame(DATA, 0, 1, &message(0, b"one").repeat(2)));
        talk.answer(1, END_HEADERS, &ANSWER);
        talk.server(frame(DATA, 0, 1, &message(0, b"answer")));
        talk.sent.push((side, frame(RST_STREAM, 0, 1, &code.to_be_bytes())));
        // It acknowledges the reset.
        talk.server(frame(6, 0, 0, &[0; 8]));
        let record = told(&talk).remove(0);
        let names = ["reset_by", "reset_code", "outcome", "end_reason"];
        (chosen(&record, &TOLD), chosen(&record, &names))
    };
    let (call, end) = reset(Client, 8);
    assert_eq!(call, json!([null, null, 2, 1, null]));
    assert_eq!(end, json!(["client", "cancel", "truncated", "reset"]));
    let (call, end) = reset(Server, 2);
    assert_eq!(call, json!([null, null, 2, 1, null]));
    assert_eq!(end, json!(["server", "internal_error", "truncated", "reset"]));
}

#[test]
fn a_call_that_is_ended_before_its_answer_has_none() {
    let mut talk = begun();
    talk.client(frame(DATA, END_STREAM, 1, &message(0, b"ask")));
    talk.client(frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes()));
    talk.server(frame(6, 0, 0, &[0; 8]));
    let record = told(&talk).remove(0);
    assert_eq!(chosen(&record, &TOLD), json!([null, null, 1, 0, null]));
    let names = ["outcome", "reset_by", "reset_code"];
    assert_eq!(chosen(&record, &names), json!(["no_response", "client", "cancel"]));
}

#[test]
fn a_status_of_the_server_with_a_reset_behind_it() {
    // As servers end calls whose requests go on.
    let mut talk = begun();
    talk.client(frame(DATA, 0, 1, &message(0, b"one")));
    talk.answer(1, WHOLE, &[&ANSWER[..], &[("grpc-status", "8")]].concat());
    talk.server(frame(RST_STREAM, 0, 1, &0_u32.to_be_bytes()));
    let record = told(&talk).remove(0);
    assert_eq!(chosen(&record, &TOLD), json!([8, null, 1, 0, null]));
    let names = ["outcome", "reset_by", "reset_code"];
    assert_eq!(chosen(&record, &names), json!(["complete", "server", "no_error"]));
}

#[test]
fn each_side_is_what_its_own_type_says() {
    let typed = |ask: &str, answer: &str, status: &str| {
        let mut talk = Talk::new();
        let mut head = call("/a.B/C");
        head.last_mut().expect("a type").1 = ask.as_bytes().to_vec();
        talk.ask(1, END_HEADERS, &head);
        talk.client(frame(DATA, END_STREAM, 1, &message(0, b"ask")));
        talk.answer(1, END_HEADERS, &[(":status", status), ("content-type", answer)]);
        talk.server(frame(DATA, 0, 1, &message(0, b"answer")));
        talk.answer(1, WHOLE, &[("grpc-status", "0")]);
        only(&talk)
    };
    let grpc = "application/grpc";
    assert_eq!(typed(grpc, grpc, "200"), json!([0, null, 1, 1, null]));
    assert_eq!(typed("Application/GRPC+json; a=b", grpc, "200"), json!([0, null, 1, 1, null]));
    // The answer of a proxy.
    assert_eq!(typed(grpc, "text/html", "502"), json!([0, null, 1, null, null]));
    // How servers refuse what is no call.
    assert_eq!(typed("application/json", grpc, "415"), json!([0, null, null, 1, null]));
    assert_eq!(
        typed("application/json", "text/html", "200"),
        json!([null, null, null, null, null])
    );
    assert_eq!(typed("application/grpcx", "", "200"), json!([null, null, null, null, null]));
}

#[test]
fn a_body_that_is_none_of_grpc_is_not_counted() {
    let flagged = |flags: u8| {
        let odd = [message(0, b"one"), message(flags, b"two")].concat();
        only(&talk_of(&odd, &message(0, b"answer"), &[("grpc-status", "0")]))
    };
    assert_eq!(flagged(1), json!([0, null, 2, 1, null]));
    for flags in [2, 0x80, 0x81, 0xff] {
        assert_eq!(flagged(flags), json!([0, null, null, 1, null]), "{flags}");
    }
}

/// Both sides refer to fields of a first call, which was not captured.
fn late(first: &str, answer: &[(&str, &str)], more: &[(&str, &str)]) -> Value {
    let mut talk = begun();
    talk.client(frame(DATA, END_STREAM, 1, &message(0, b"ask")));
    talk.answer(1, END_HEADERS, &ANSWER).answer(1, WHOLE, &[(first, "0")]);
    let count = talk.sent.len();
    talk.ask(3, END_HEADERS, &call("/a.B/C"));
    talk.client(frame(DATA, END_STREAM, 3, &message(0, b"ask").repeat(2)));
    talk.answer(3, END_HEADERS, answer);
    talk.server(frame(DATA, 0, 3, &message(0, b"answer").repeat(3)));
    talk.answer(3, WHOLE, more);
    talk.joined_after(count);
    let records = reported_of(&talk.frames(1 << 14)).records;
    assert_eq!(records.len(), 1);
    chosen(&records[0], &TOLD)
}

#[test]
fn joined_late_the_types_may_not_be_known() {
    // Nothing shows that it is a call.
    assert_eq!(
        late("grpc-status", &ANSWER, &[("grpc-status", "0")]),
        json!([null, null, null, null, null])
    );
    // Its status shows that the answer is one; nothing does so of the request.
    assert_eq!(late("x-end", &ANSWER, &[("grpc-status", "7")]), json!([7, null, null, 3, null]));
    // The type of the answer shows it of both.
    let typed = [(":status", "200"), ("content-type", "application/grpc+proto")];
    assert_eq!(late("x-end", &typed, &[("grpc-status", "7")]), json!([7, null, 2, 3, null]));
    let refused = [(":status", "415"), ("content-type", "application/grpc+proto")];
    assert_eq!(late("x-end", &refused, &[("grpc-status", "7")]), json!([7, null, null, 3, null]));
    // It is none, whatever its trailers say.
    let json_type = [(":status", "200"), ("content-type", "application/json")];
    assert_eq!(
        late("x-end", &json_type, &[("grpc-status", "7")]),
        json!([null, null, null, null, null])
    );
}

#[test]
fn a_message_that_the_client_sent_is_given_back() {
    let mut talk = Talk::new();
    let count = talk.sent.len();
    // The server speaks first, so it is taken for the client, until a request shows who is.
    talk.server([frame(6, 0, 0, &[0; 8]), frame(6, 1, 0, &[0; 8])].concat());
    talk.client([frame(6, 1, 0, &[0; 8]), frame(6, 1, 0, &[0; 8])].concat());
    talk.server(frame(DATA, 0, 1, b"x"));
    let text = "m".repeat(3000);
    talk.ask(1, WHOLE, &fields(&[("grpc-message", &text)]));
    talk.ask(3, WHOLE, &crate::support::http2::get("/page"));
    talk.joined_after(count);
    // All is given back, which is checked there.
    assert!(!reported_of(&talk.frames(1 << 14)).records.is_empty());
}

#[test]
fn a_body_that_passed_before_the_call_began_is_not_counted() {
    let mut talk = begun();
    talk.answer(1, WHOLE, &[("x-one", "1")]);
    let count = talk.sent.len();
    talk.client([frame(6, 0, 0, &[0; 8]), frame(6, 1, 0, &[0; 8])].concat());
    talk.server([frame(6, 1, 0, &[0; 8]), frame(6, 1, 0, &[0; 8])].concat());
    let static_only = fields(&[(":method", "POST"), (":scheme", "http"), (":path", "/new")]);
    talk.ask(3, END_HEADERS, &static_only);
    talk.client(frame(DATA, END_STREAM, 3, &message(0, b"x").repeat(3)));
    let typed = [(":status", "200"), ("x-one", "1"), ("content-type", "application/grpc+new")];
    talk.answer(3, END_HEADERS, &typed);
    talk.server(frame(DATA, 0, 3, &message(0, b"x")));
    talk.answer(3, WHOLE, &[("grpc-status", "0")]);
    talk.joined_after(count);
    let records = reported_of(&talk.frames(1 << 14)).records;
    assert_eq!(chosen(&records[0], &["headers_unknown"]), json!([1]));
    assert_eq!(chosen(&records[0], &TOLD), json!([0, null, null, 1, null]));
}

#[test]
fn lost_data_ends_the_count_of_its_direction() {
    let messages = message(0, &[1; 100]).repeat(30);
    let mut talk = begun();
    talk.client(frame(DATA, END_STREAM, 1, &messages));
    talk.answer(1, END_HEADERS, &ANSWER);
    talk.server(frame(DATA, 0, 1, &message(0, b"answer")));
    talk.answer(1, WHOLE, &[("grpc-status", "0"), ("grpc-message", "fine")]);
    let frames = talk.frames(500);
    let all = reported_of(&frames).records;
    assert_eq!(chosen(&all[0], &TOLD), json!([0, "fine", 30, 1, null]));
    let data: Vec<usize> = (0..frames.len())
        .filter(|at| frames[*at].bytes.windows(100).any(|it| it == [1; 100]))
        .collect();
    assert!(data.len() > 4);
    for lost in data {
        let mut frames = frames.clone();
        frames.remove(lost);
        let records = reported_of(&frames).records;
        let told = chosen(&records[0], &TOLD);
        assert_eq!(told, json!([0, "fine", null, 1, null]), "without frame {lost}");
    }
}

#[test]
fn a_pushed_response_and_other_exchanges_beside_calls() {
    let mut talk = begun();
    talk.ask(3, WHOLE, &crate::support::http2::get("/page"));
    talk.client(frame(DATA, END_STREAM, 1, &message(0, b"ask")));
    talk.answer(3, END_HEADERS, &[(":status", "200"), ("content-type", "text/html")]);
    talk.answer(1, END_HEADERS, &ANSWER);
    talk.server(frame(DATA, END_STREAM, 3, &message(0, b"no message")));
    talk.answer(1, WHOLE, &[("grpc-status", "0")]);
    let records = told(&talk);
    assert_eq!(chosen(&records[0], &TOLD), json!([null, null, null, null, null]));
    assert_eq!(chosen(&records[1], &TOLD), json!([0, null, 1, 0, null]));
}

#[test]
fn a_header_block_in_two_segments_of_one_frame() {
    let mut talk = begun();
    talk.client(frame(DATA, END_STREAM, 1, &message(0, b"ask")));
    let block = talk.block(Server, &fields(&[&ANSWER[..], &[("grpc-status", "3")]].concat()));
    let bytes = frame(HEADERS, WHOLE, 1, &block);
    talk.server(&bytes[..20]).server(&bytes[20..]);
    assert_eq!(only(&talk), json!([3, null, 1, 0, null]));
}

#[test]
fn metadata_of_bytes_is_no_conflict() {
    let conflict = |name: &str, value: &str| {
        let mut talk = begun();
        talk.answer(1, WHOLE, &[&ANSWER[..], &[("grpc-status", "0"), (name, value)]].concat());
        let record = reported_of(&talk.frames(1 << 14)).records.remove(0);
        record["conflict"].clone()
    };
    assert_eq!(conflict("trace-bin", "\0\n\r"), Value::Null);
    assert_eq!(conflict("trace-bin", "a\n"), true);
    assert_eq!(conflict("trace", "\0"), true);
    assert_eq!(conflict("a\n-bin", "\0"), true);
}
