//! Fields: those of requests and responses, and any.

use super::Pair;
use super::random::Random;
use super::tables::STATIC;

const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789-_/.=";

fn pair(name: &str, value: impl AsRef<[u8]>) -> Pair {
    (name.as_bytes().to_vec(), value.as_ref().to_vec())
}

/// The fields of a request. Those of one connection differ in a few values.
pub fn request(random: &mut Random) -> Vec<Pair> {
    let path_bytes = 4 + random.below(40);
    let mut path = b"/".to_vec();
    path.extend(random.text(LETTERS, path_bytes));
    let is_post = random.is_in(20);
    let mut fields = vec![
        pair(":method", if is_post { "POST" } else { "GET" }),
        pair(":scheme", "http"),
        pair(":authority", "www.example.com"),
        pair(":path", path),
        pair(
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        ),
        pair("accept", random.one_of(&["*/*", "image/avif,image/webp,*/*", "text/css,*/*;q=0.1"])),
        pair("accept-language", "en-US,en;q=0.5"),
        pair("accept-encoding", "gzip, deflate"),
        pair("referer", "http://www.example.com/articles/"),
    ];
    if is_post {
        fields.push(pair("content-length", random.below(100_000).to_string()));
    }
    if random.is_in(60) {
        let mut cookie = b"session=".to_vec();
        cookie.extend(Random(random.below(3) as u64).text(LETTERS, 32));
        fields.push(pair("cookie", cookie));
    }
    fields
}

/// The fields of a response.
pub fn response(random: &mut Random) -> Vec<Pair> {
    let second = random.below(4);
    let mut fields = vec![
        pair(":status", random.one_of(&["200", "200", "200", "304", "404", "302"])),
        pair("server", "nginx/1.29.3"),
        pair("date", format!("Mon, 21 Oct 2013 20:13:2{second} GMT")),
        pair("content-type", random.one_of(&["text/html; charset=utf-8", "image/png", "text/css"])),
        pair("content-length", random.below(100_000).to_string()),
        pair("last-modified", format!("Sun, 20 Oct 2013 10:1{}:00 GMT", random.below(10))),
        pair("cache-control", "public, max-age=86400"),
    ];
    if random.is_in(40) {
        fields.push(pair("etag", random.text(LETTERS, 18)));
    }
    if random.is_in(15) {
        let mut cookie = b"id=".to_vec();
        cookie.extend(random.text(LETTERS, 24));
        cookie.extend(b"; Path=/; HttpOnly");
        fields.push(pair("set-cookie", cookie));
    }
    fields
}

/// Any fields, of which some come again and again.
pub fn any_fields(random: &mut Random) -> Vec<Pair> {
    let count = random.below(9);
    (0..count).map(|_| (any_name(random), any_value(random))).collect()
}

fn any_name(random: &mut Random) -> Vec<u8> {
    match random.below(4) {
        0 | 1 => random.one_of(&STATIC).0.as_bytes().to_vec(),
        2 => random.one_of(&["x-a", "x-b", "grpc-status", ""]).as_bytes().to_vec(),
        _ => {
            let len_bytes = random.below(20);
            random.text(LETTERS, len_bytes)
        }
    }
}

fn any_value(random: &mut Random) -> Vec<u8> {
    let all: Vec<u8> = (0..=255).collect();
    match random.below(8) {
        0 | 1 => random.one_of(&STATIC).1.as_bytes().to_vec(),
        2 | 3 => random.one_of(&["", "1", "application/grpc", "trailers"]).as_bytes().to_vec(),
        4 => {
            let len_bytes = random.below(40);
            random.text(&all, len_bytes)
        }
        // Longer than any table that is chosen here, at times.
        5 if random.is_in(20) => {
            let len_bytes = random.below(6000);
            random.text(LETTERS, len_bytes)
        }
        _ => {
            let len_bytes = random.below(60);
            random.text(LETTERS, len_bytes)
        }
    }
}
