//! `Upgrade: h2c` (RFC 7540 section 3.2): taken, never answered, not taken.

use crate::http2::{chosen, stats, told};
use crate::support::conversation::Side::Server;
use crate::support::http2::{
    DATA, END_HEADERS, END_STREAM, PREFACE, SETTINGS, Talk, WHOLE, frame, get,
};
use serde_json::{Value, json};

const UPGRADE: &str = "GET /first HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade, \
                       HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n\r\n";

#[test]
fn an_upgrade_goes_on_as_stream_one() {
    let mut talk = Talk::bare();
    talk.client(UPGRADE);
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    talk.server([switch.as_bytes(), &frame(SETTINGS, 0, 0, &[])].concat());
    // The client has allowed a larger table in HTTP2-Settings.
    talk.encoder(Server).set_size_max(16_384);
    talk.answer(1, END_HEADERS, &[(":status", "200"), ("x-a", "b")]);
    talk.client([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    talk.server(frame(DATA, END_STREAM, 1, b"first"));
    talk.ask(3, WHOLE, &get("/second")).answer(3, WHOLE, &[(":status", "200"), ("x-a", "b")]);
    let names = [
        "n",
        "stream",
        "upgraded",
        "version",
        "target",
        "status",
        "interim",
        "response_body_bytes",
        "outcome",
    ];
    let all: Vec<_> = told(&talk).iter().map(|record| chosen(record, &names)).collect();
    assert_eq!(
        Value::from(all),
        json!([
            [0, 1, "h2c", "HTTP/1.1", "/first", 200, [101], 5, "complete"],
            [1, 3, null, "HTTP/2", "/second", 200, null, 0, "complete"]
        ])
    );
    assert_eq!(stats(&talk).stats.protocol.http2.fields_unknown, 0);
}

#[test]
fn an_upgrade_that_is_never_answered_ends_with_its_101() {
    let mut talk = Talk::bare();
    talk.client(UPGRADE);
    let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nServer: x\r\n\r\n";
    talk.server([switch.as_bytes(), &frame(SETTINGS, 0, 0, &[])].concat());
    talk.client([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    let names = ["upgraded", "status", "reason", "server", "interim", "switched", "outcome"];
    let reason = "Switching Protocols";
    assert_eq!(
        chosen(&told(&talk)[0], &names),
        json!(["h2c", 101, reason, "x", null, true, "complete"])
    );
}

#[test]
fn an_upgrade_that_is_not_taken_changes_nothing() {
    let mut talk = Talk::bare();
    talk.client(UPGRADE).server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    talk.client("GET /next HTTP/1.1\r\n\r\n")
        .server("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
    let names = ["stream", "upgraded", "target", "status", "outcome"];
    let all: Vec<_> = told(&talk).iter().map(|record| chosen(record, &names)).collect();
    assert_eq!(
        Value::from(all),
        json!([[null, null, "/first", 200, "complete"], [null, null, "/next", 404, "complete"]])
    );
}
