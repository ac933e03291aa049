//! What a loss may do to pairing, places and times, and what it may not.

use super::tests::talk;
use super::*;
use crate::ids::Direction;
use Direction::Reverse;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[test]
fn a_loss_before_a_batch_does_not_touch_its_pairing() {
    let notes = talk()
        .ask("GET /1 HTTP/1.1\r\n\r\n")
        .lose(Reverse, 300)
        .ask("GET /2 HTTP/1.1\r\n\r\nGET /3 HTTP/1.1\r\n\r\n")
        .answer(OK)
        .answer("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
        .end(End::Exit);
    assert_eq!(notes, ["GET /1 0 - - no_response gap=300", "GET /2 0 200 0", "GET /3 0 404 0"]);
}
