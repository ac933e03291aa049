//! Talks of WebSocket on streams of HTTP/2: what is told if streams are given up, or a part of the
//! connection was lost.

use crate::http2::chosen;
use crate::support::conversation::Side::{Client, Server};
use crate::support::hpack::Pair;
use crate::support::http2::{
    DATA, END_HEADERS, HEADERS, PING, Talk, WHOLE, fields, frame as http2_frame, get,
};
use crate::support::reported::{Reported, reported_with};
use crate::support::websocket::{FIN, TEXT, close, frame};
use httplines::config::{EmitConfig, RecordKinds};
use serde_json::{Value, json};

fn emit() -> EmitConfig {
    let records = RecordKinds { http: true, websocket: true, tls: false, is_tls_early: false };
    EmitConfig { records, ..EmitConfig::default() }
}

fn connect() -> Vec<Pair> {
    fields(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "a.example"),
        (":path", "/chat"),
    ])
}

/// A talk on stream 1 that was asked for.
fn asked() -> Talk {
    let mut talk = Talk::new();
    talk.ask(1, END_HEADERS, &connect());
    talk
}

fn talk_of(told: &Reported) -> &Value {
    told.records.iter().find(|it| it["type"] == "websocket").expect("a talk")
}

const ENDS: [&str; 3] = ["outcome", "end_reason", "close_by"];

#[test]
fn a_stream_with_a_talk_is_given_up_last() {
    let mut talk = asked();
    talk.answer(1, END_HEADERS, &[(":status", "200")]);
    for number in 1..1030_u32 {
        talk.ask(2 * number + 1, WHOLE, &get("/a"));
    }
    talk.client(http2_frame(DATA, 0, 1, &close(Client, 1000, "")));
    talk.server(http2_frame(DATA, 0, 1, &close(Server, 1000, "")));
    let told = reported_with(&talk.frames(1460), &emit());
    assert_eq!(told.stats.protocol.http2.streams_given_up, 6);
    assert_eq!(chosen(talk_of(&told), &ENDS), json!(["complete", null, "client"]));
    // Their answers may have come later.
    let given_up = told.records.iter().find(|it| it["stream"] == 3).expect("it is told");
    let names = ["outcome", "end_reason", "request_body_bytes", "response_body_bytes"];
    assert_eq!(chosen(given_up, &names), json!(["no_response", null, 0, null]));
}

#[test]
fn a_talk_that_is_given_up_may_go_on() {
    let mut talk = asked();
    talk.answer(1, END_HEADERS, &[(":status", "200")]);
    for number in 1..1026_u32 {
        talk.ask(2 * number + 1, END_HEADERS, &connect());
        talk.answer(2 * number + 1, END_HEADERS, &[(":status", "200")]);
    }
    let told = reported_with(&talk.frames(1460), &emit());
    let stats = &told.stats.protocol;
    assert_eq!((stats.http2.streams_given_up, stats.websocket.talks), (2, 1026));
    assert_eq!(stats.websocket.talks_unclear, 2);
    assert_eq!(chosen(talk_of(&told), &ENDS), json!([null, null, null]));
}

/// The client's close is lost, and this is known only behind the server's: nobody knows whose was
/// the first.
#[test]
fn a_close_before_a_hole_is_found_may_not_be_the_first() {
    let close_by = |is_lost: bool| {
        let mut talk = asked();
        talk.answer(1, END_HEADERS, &[(":status", "200")]);
        let lost = http2_frame(DATA, 0, 1, &close(Client, 1000, "lost"));
        talk.client(lost.clone());
        talk.server(http2_frame(DATA, 0, 1, &close(Server, 1000, "")));
        talk.client(http2_frame(PING, 0, 0, &[0; 8]).repeat(2));
        let mut frames = talk.frames(1460);
        let at = frames.iter().position(|it| it.bytes.ends_with(&lost)).expect("it is there");
        if is_lost {
            frames.remove(at);
        }
        let told = reported_with(&frames, &emit());
        chosen(talk_of(&told), &ENDS)
    };
    assert_eq!(close_by(false), json!(["complete", null, "client"]));
    assert_eq!(close_by(true), json!([null, "fin", null]));
}

/// A field of the response that is not known may have agreed upon an extension.
#[test]
fn an_unknown_field_may_be_an_extension() {
    let conflict = |block: &[u8]| {
        let mut talk = Talk::bare();
        let pings = http2_frame(PING, 0, 0, &[0; 8]).repeat(2);
        talk.joined_after(0).client(pings.clone()).server(pings);
        talk.ask(1, END_HEADERS, &connect());
        talk.server(http2_frame(HEADERS, END_HEADERS, 1, block));
        talk.server(http2_frame(DATA, 0, 1, &frame(Server, FIN | 0x40 | TEXT, b"hi")));
        let told = reported_with(&talk.frames(1460), &emit());
        talk_of(&told)["conflict"].clone()
    };
    assert_eq!(conflict(&[0x88]), true, "a status alone: no extension was agreed upon");
    assert_eq!(conflict(&[0x88, 0xbe]), Value::Null, "and an entry of a table not known");
}
