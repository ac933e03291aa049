//! What a loss may do to pairing, positions and times, and what it must not do; and bodies that
//! look like heads at positions where a head may begin.

use super::tests::{TestConnection, connection, connection_with};
use crate::config::HttpConfig;
use crate::flow::Chunk;
use crate::flow::End;
use crate::ids::Direction;
use Direction::{Forward, Reverse};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

impl TestConnection {
    /// Bytes of a direction that no chunk reports: the stream had not started for us.
    fn miss(&mut self, direction: Direction, len_bytes: u32) -> &mut TestConnection {
        self.sent[direction.index()] += len_bytes;
        self
    }
}

#[test]
fn a_loss_before_a_batch_does_not_touch_its_pairing() {
    let notes = connection()
        .ask("GET /1 HTTP/1.1\r\n\r\n")
        .lose(Reverse, 300)
        .ask("GET /2 HTTP/1.1\r\n\r\nGET /3 HTTP/1.1\r\n\r\n")
        .answer(OK)
        .answer("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
        .end(End::Exit);
    assert_eq!(notes, ["GET /1 0 - - no_response gap=300", "GET /2 0 200 0", "GET /3 0 404 0"]);
}

#[test]
fn a_request_lost_from_a_batch_leaves_no_wrong_pair() {
    let notes = connection()
        .ask("GET /1 HTTP/1.1\r\n\r\n")
        .lose(Forward, 40)
        .ask("GET /3 HTTP/1.1\r\n\r\n")
        .answer(OK)
        .answer("HTTP/1.1 500 to 2\r\nContent-Length: 0\r\n\r\n")
        .answer("HTTP/1.1 403 to 3\r\nContent-Length: 0\r\n\r\n")
        .ask("GET /4 HTTP/1.1\r\n\r\n")
        .answer(OK)
        .end(End::Exit);
    let expected = [
        "GET /1 0 200 0",
        "- - - 500 0 no_request",
        "- - - 403 0 no_request",
        "GET /3 0 - - no_response",
        "GET /4 0 200 0",
    ];
    assert_eq!(notes, expected);
}

#[test]
fn the_first_request_of_a_batch_may_be_the_lost_one() {
    let notes = connection()
        .ask("GET /1 HTTP/1.1\r\n\r\n")
        .answer(OK)
        .lose(Forward, 40)
        .ask("GET /3 HTTP/1.1\r\n\r\n")
        .answer("HTTP/1.1 500 to 2\r\nContent-Length: 0\r\n\r\n")
        .end(End::Exit);
    let expected = ["GET /1 0 200 0", "- - - 500 0 no_request", "GET /3 0 - - no_response exit"];
    assert_eq!(notes, expected);
}

#[test]
fn a_direction_that_is_seen_late_answers_what_it_can() {
    let mut connection = connection();
    connection.handshake.client_isn.set(None);
    let notes = connection
        .ask("GET /1 HTTP/1.1\r\n\r\n")
        .miss(Reverse, 300)
        .ask("GET /2 HTTP/1.1\r\n\r\n")
        .answer(OK)
        .end(End::Exit);
    assert_eq!(notes, ["GET /1 0 - - no_response gap=300", "GET /2 0 200 0"]);
}

#[test]
fn answers_to_requests_that_were_given_up_are_not_given_to_others() {
    let mut connection =
        connection_with(HttpConfig { pending_count_max: 10, ..HttpConfig::default() });
    for number in 0..25 {
        connection.ask(&format!("GET /{number} HTTP/1.1\r\n\r\n"));
    }
    for number in 0..25 {
        connection.answer(&format!("HTTP/1.1 {} OK\r\nContent-Length: 0\r\n\r\n", 200 + number));
    }
    let notes = connection.end(End::Exit);
    assert_eq!(notes[14], "GET /14 0 - - no_response");
    assert_eq!(notes[15], "- - - 200 0 no_request");
    assert_eq!(notes[30], "GET /15 0 215 0");
    assert_eq!(notes[39], "GET /24 0 224 0");
}

#[test]
fn a_response_under_way_is_not_given_up_for_want_of_room() {
    let mut connection =
        connection_with(HttpConfig { pending_count_max: 3, ..HttpConfig::default() });
    connection.ask("GET /0 HTTP/1.1\r\n\r\n");
    connection.answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1234");
    for number in 1..5 {
        connection.ask(&format!("GET /{number} HTTP/1.1\r\n\r\n"));
    }
    connection.answer("56789").answer(&OK.repeat(3)).answer("HTTP/1.1 404 No\r\n\r\n");
    let expected = [
        "GET /1 0 - - no_response",
        "GET /2 0 - - no_response",
        "GET /0 0 200 9",
        "- - - 200 0 no_request",
        "- - - 200 0 no_request",
        "GET /3 0 200 0",
        "GET /4 0 404 0 truncated exit",
    ];
    assert_eq!(connection.end(End::Exit), expected);
}

#[test]
fn a_hole_in_the_head_of_an_answer_without_body_is_told() {
    for method in ["HEAD", "GET"] {
        let notes = connection()
            .ask(&format!("{method} /1 HTTP/1.1\r\n\r\n"))
            .answer("HTTP/1.1 304 OK\r\nServer: ")
            .lose(Reverse, 40)
            .ask("GET /2 HTTP/1.1\r\n\r\n")
            .answer(OK)
            .end(End::Exit);
        assert_eq!(notes[0], format!("{method} /1 0 304 0 gap=40"));
        assert_eq!(notes[1], "GET /2 0 200 0");
    }
}

/// Wherever the cut is, also within the fields themselves.
#[test]
#[cfg_attr(miri, ignore = "takes minutes there")]
fn framing_that_stands_behind_the_cut_of_a_long_head_is_read() {
    let body = "GET /in/it HTTP/1.1\r\n\r\n";
    let length = body.len();
    let chunks = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    for (fields, body, note) in [
        (format!("Content-Length: {length}\r\n"), body, ""),
        (format!("content-length:\r\n\t{length}\r\nZ: z\r\n"), body, ""),
        ("Transfer-Encoding: chunked\r\n".to_string(), &*chunks, ""),
        ("Transfer-Encoding:\r\n gzip,\r\n chunked\r\n".to_string(), &*chunks, ""),
        (format!("Content-Length: {length}\r\nContent-Length: 1\r\n"), body, " conflict"),
    ] {
        for padding in (900..1024).chain([5000]) {
            let more = "x".repeat(padding);
            let head = format!("X: {more}\r\n{fields}\r\n{body}");
            let mut connection =
                connection_with(HttpConfig { head_bytes_max: 1024, ..HttpConfig::default() });
            connection.ask(&format!("POST /1 HTTP/1.1\r\n{head}")).answer(OK);
            connection.ask("GET /2 HTTP/1.1\r\n\r\n");
            let notes = connection.answer(&format!("HTTP/1.1 200 OK\r\n{head}")).end(End::Exit);
            // If the lengths differ, the end is unknown.
            let (known, open) = match note {
                "" => (length.to_string(), ""),
                _ => ("?".to_string(), " truncated exit"),
            };
            let expected = [
                format!("POST /1 {known} 200 0{note}"),
                format!("GET /2 0 200 {known}{open}{note}"),
            ];
            assert_eq!(notes, expected, "{padding} {fields:?}");
        }
    }
}

#[test]
fn the_body_behind_a_target_that_is_longer_than_what_is_kept_is_no_head() {
    let mut connection =
        connection_with(HttpConfig { head_bytes_max: 1024, ..HttpConfig::default() });
    let long = "x".repeat(5000);
    connection.ask(&format!("POST /{long} HTTP/1.1\r\nHost: a\r\nContent-Length: 29\r\n\r\n"));
    connection.ask("GET /in/the/body HTTP/1.1\r\n\r\n").ask("GET /2 HTTP/1.1\r\n\r\n");
    let notes = connection.answer(OK).answer(OK).end(End::Exit);
    assert!(notes[0].starts_with("POST /xxx") && notes[0].ends_with("x 29 200 0"), "{}", notes[0]);
    assert_eq!(notes[1..], ["GET /2 0 200 0"]);
}

#[test]
fn a_gap_in_a_long_head_leaves_its_body_unknown() {
    let mut connection =
        connection_with(HttpConfig { head_bytes_max: 1024, ..HttpConfig::default() });
    let long = "x".repeat(2000);
    let notes = connection
        .ask("GET /1 HTTP/1.1\r\n\r\n")
        .answer(&format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX: {long}"))
        .lose(Reverse, 50)
        .ask("GET /2 HTTP/1.1\r\n\r\n")
        .answer(OK)
        .end(End::Exit);
    assert_eq!(notes, ["GET /1 0 200 ? gap=50", "GET /2 0 200 0"]);
}

#[test]
fn the_end_of_a_long_head_may_stand_on_the_bound() {
    for padding in 980..1040 {
        let mut connection =
            connection_with(HttpConfig { head_bytes_max: 1024, ..HttpConfig::default() });
        connection.ask(&format!("GET /1 HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(padding)));
        let notes = connection.ask("GET /2 HTTP/1.1\r\n\r\n").end(End::Exit);
        assert_eq!(notes.len(), 2, "with {padding} bytes: {notes:?}");
    }
}

#[test]
fn http2_leaves_no_exchange_behind() {
    let notes = connection()
        .answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        .ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .end(End::Exit);
    assert_eq!(notes, ["- - - 200 3 truncated exit"]);
}

#[test]
fn an_interim_answer_without_request_waits_for_the_final_one() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    let notes = connection().answer(interim).answer(OK).end(End::Exit);
    assert_eq!(notes, ["- - - 200 0 no_request [100]"]);
    // The lost bytes may have contained the final response.
    let notes = connection().answer(interim).lose(Reverse, 38).answer(OK).end(End::Exit);
    assert_eq!(notes, ["- - - - - no_request gap=38 [100]", "- - - 200 0 no_request"]);
}

#[test]
fn a_chunked_body_that_is_withheld_is_not_waited_for() {
    let notes = connection()
        .ask("PUT /b HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
        .answer("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
        .ask("GET /next HTTP/1.1\r\n\r\n")
        .answer(OK)
        .end(End::Exit);
    assert_eq!(notes, ["PUT /b 0 417 0 early", "GET /next 0 200 0"]);
}

#[test]
fn the_data_of_a_first_chunk_is_no_head() {
    let notes = connection()
        .answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n15\r\n")
        .answer("HTTP/1.1 599 fake\r\n\r\n")
        .answer("\r\n0\r\n\r\n")
        .end(End::Exit);
    assert_eq!(notes, ["- - - 200 21 no_request"]);
}

#[test]
fn an_empty_body_until_close_ended_with_its_head() {
    let mut connection = connection();
    connection
        .ask("GET / HTTP/1.1\r\n\r\n")
        .answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
    connection.ask("GET / HTTP/1.0\r\n\r\n").answer("HTTP/1.0 200 OK\r\n\r\n");
    connection.take(Reverse, Chunk::Fin);
    let spans = connection.shared.recorder.sink.response_spans.clone();
    assert_eq!(spans, [(Some(2), Some(2)), (Some(4), Some(4))]);
}

#[test]
fn a_body_until_close_whose_end_was_lost_has_no_last_byte() {
    let mut connection = connection();
    connection.ask("GET / HTTP/1.0\r\n\r\n").answer("HTTP/1.0 200 OK\r\n\r\nabc").lose(Reverse, 7);
    connection.take(Reverse, Chunk::Fin);
    assert_eq!(connection.shared.recorder.sink.response_spans, [(Some(2), None)]);
    assert_eq!(connection.end(End::Fin), ["GET / 0 200 10 gap=7"]);
}

#[test]
fn a_body_that_was_asked_for_is_one_whatever_it_looks_like() {
    let head = "PUT /b HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 19\r\n\r\n";
    let body = "GET /a HTTP/1.1\r\n\r\n";
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let asked_for = connection()
        .ask(head)
        .answer("HTTP/1.1 100 Continue\r\n\r\n")
        .answer(ok)
        .ask(body)
        .end(End::Exit);
    assert_eq!(asked_for, ["PUT /b 19 200 0 early [100]"]);
}

#[test]
fn a_body_that_was_sent_before_the_answer_was_read_is_one_whatever_it_looks_like() {
    let mut connection = connection();
    connection.ask("PUT /b HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 19\r\n\r\n");
    let unread = connection.sent[1];
    connection.answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let read = std::mem::replace(&mut connection.sent[1], unread);
    connection.ask("GET /a HTTP/1.1\r\n\r\n");
    connection.sent[1] = read;
    let notes = connection.ask("GET /c HTTP/1.1\r\n\r\n").end(End::Exit);
    assert_eq!(notes, ["PUT /b 19 200 0 early", "GET /c 0 - - no_response exit"]);
}

#[test]
fn a_body_that_goes_on_behind_the_servers_fin_is_no_head() {
    let notes = connection()
        .ask("POST /1 HTTP/1.1\r\nContent-Length: 20\r\n\r\n")
        .answer(OK)
        .take(Reverse, Chunk::Fin)
        .ask("GET /body HTTP/1.1\r\n")
        .ask("GET /2 HTTP/1.1\r\n\r\n")
        .end(End::Exit);
    assert_eq!(notes, ["POST /1 20 200 0 early", "GET /2 0 - - no_response exit"]);
}

#[test]
fn a_batch_that_nothing_shows_to_be_one_leaves_no_wrong_pair() {
    // The response to 0 and request 1 are lost; 1 and 2 were sent together.
    let notes = connection()
        .ask("GET /0 HTTP/1.1\r\n\r\n")
        .lose(Reverse, 49)
        .lose(Forward, 19)
        .ask("GET /2 HTTP/1.1\r\n\r\n")
        .answer("HTTP/1.1 500 to 1\r\nContent-Length: 0\r\n\r\n")
        .answer("HTTP/1.1 403 to 2\r\nContent-Length: 0\r\n\r\n")
        .ask("GET /3 HTTP/1.1\r\n\r\n")
        .answer(OK)
        .end(End::Exit);
    let expected = [
        "GET /0 0 - - no_response gap=49",
        "- - - 500 0 no_request",
        "- - - 403 0 no_request",
        "GET /2 0 - - no_response",
        "GET /3 0 200 0",
    ];
    assert_eq!(notes, expected);
}

#[test]
fn what_was_lost_for_the_body_of_an_answer_to_head_may_have_been_an_answer() {
    let notes = connection()
        .ask("GET /0 HTTP/1.1\r\n\r\n")
        .answer(OK)
        .lose(Forward, 20)
        .answer("HTTP/1.1 200 to HEAD /1\r\nContent-Length: 49\r\n\r\n")
        .ask("GET /2 HTTP/1.1\r\nX: y")
        .lose(Reverse, 49)
        .lose(Forward, 4 + 19)
        .answer("HTTP/1.1 403 to 3\r\nContent-Length: 0\r\n\r\n")
        .end(End::Exit);
    let expected = [
        "GET /0 0 200 0",
        "- - - 200 49 no_request gap=49",
        "- - - 403 0 no_request",
        "GET /2 ? - - truncated exit gap=23",
    ];
    assert_eq!(notes, expected);
}

#[test]
fn an_answer_that_was_passed_over_in_search_may_have_been_to_the_first_request() {
    let notes = connection()
        .ask("GET /0 HTTP/1.1\r\n\r\n")
        .answer(OK)
        .lose(Forward, 19)
        .answer("HTTP/1.1 200 to 1\r\nContent-Length: 4\r\n\r\nHTTP")
        .ask("GET /2 HTTP/1.1\r\n\r\n")
        .answer("HTTP/1.1")
        .answer(" 500 to 2\r\nContent-Length: 0\r\n\r\n")
        .lose(Forward, 19)
        .answer("HTTP/1.1 403 to 3\r\nContent-Length: 0\r\n\r\n")
        .end(End::Exit);
    let expected = [
        "GET /0 0 200 0",
        "- - - 200 4 no_request",
        "- - - 403 0 no_request",
        "GET /2 0 - - no_response exit",
    ];
    assert_eq!(notes, expected);
}

#[test]
fn answers_alone_in_one_segment_are_all_told() {
    let one = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
    let notes = connection().answer(&one.repeat(3)).end(End::Exit);
    assert_eq!(notes, ["- - - 200 3 no_request"; 3]);
}

#[test]
fn a_first_request_that_was_lost_in_part_leaves_the_batch_behind_it_whole() {
    let notes = connection()
        .lose(Forward, 20)
        .ask("ntent-Length: 0\r\n\r\n")
        .answer(OK)
        .ask("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n")
        .answer(OK)
        .answer("HTTP/1.1 403 to 2\r\nContent-Length: 0\r\n\r\n")
        .end(End::Exit);
    assert_eq!(notes, ["- - - 200 0 no_request", "GET /1 0 200 0", "GET /2 0 403 0"]);
}

#[test]
fn what_was_passed_over_where_a_connection_was_joined_may_have_been_the_answer() {
    let mut connection = connection();
    connection.handshake.client_isn.set(None);
    let notes = connection
        .ask("GET /0 HTTP/1.1\r\n\r\n")
        .answer("HTTP/1.1")
        .answer(" 204 to 0\r\n\r\n")
        .lose(Forward, 19)
        .answer("HTTP/1.1 403 to 1\r\nContent-Length: 0\r\n\r\n")
        .ask("GET /2 HTTP/1.1\r\n\r\n")
        .answer(OK)
        .end(End::Exit);
    assert_eq!(notes, ["- - - 403 0 no_request", "GET /0 0 - - no_response", "GET /2 0 200 0"]);
}

/// Any token is a method, but not the tail of a body in front of one.
#[test]
fn a_request_is_found_again_whatever_its_method_is() {
    for method in ["Get", "get", "BITS_POST", "RPC_IN_DATA", "VERSION-CONTROL", "x", "M2m!", "pOsT"]
    {
        let request = |target: &str| format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut connection = connection();
        connection.ask(&request("/0")).answer(OK).lose(Forward, 40).answer(OK);
        let notes = connection.ask(&request("/1")).answer(OK).end(End::Exit);
        let told = |target: &str| format!("{method} {target} 0 200 0");
        assert_eq!(notes[notes.len() - 1], told("/1"));
        assert_eq!(notes[0], told("/0"));
    }
    for text in [
        "abcGET / HTTP/1.1\r\n\r\n",
        "=GET / HTTP/1.1\r\n\r\n",
        "T / HTTP/1.1\r\n\r\n",
        "EAD / HTTP/1.1\r\n\r\n",
        "OST /a?b=",
        "Some text about HTTP/1.1\r\n\r\n",
        "Get it from here HTTP/1.1\r\n\r\n",
        "Get it. HTTP/1.1\r\n\r\n",
        "two /words and more",
    ] {
        let mut connection = connection();
        connection.ask("GET /0 HTTP/1.1\r\n\r\n").answer(OK).lose(Forward, 40).ask(text);
        assert_eq!(connection.end(End::Exit), ["GET /0 0 200 0"], "{text:?}");
    }
}
