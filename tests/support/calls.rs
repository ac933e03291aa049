//! Calls of gRPC for random talk of HTTP/2: their heads, messages and trailers.

use super::hpack::Pair;
use super::hpack::random::Random;

/// What is true of a body of gRPC.
#[derive(Clone, Debug, Default)]
pub struct Body {
    pub bytes: Vec<u8>,
    pub message_count: u64,
    pub is_compressed: bool,
}

/// Some messages, empty and large ones.
pub fn body(random: &mut Random) -> Body {
    let mut body = Body::default();
    for _ in 0..random.below(8) {
        let len_bytes = match random.below(3) {
            0 => 0,
            1 => random.below(60),
            _ => random.below(3000),
        };
        let is_compressed = random.is_in(10);
        body.is_compressed |= is_compressed;
        body.message_count += 1;
        body.bytes.push(is_compressed.into());
        body.bytes.extend((len_bytes as u32).to_be_bytes());
        body.bytes.extend(vec![b'm'; len_bytes]);
    }
    body
}

/// Makes the head of a message one of gRPC.
pub fn head(fields: &mut Vec<Pair>, random: &mut Random) {
    fields.retain(|(name, _)| !name.starts_with(b"content-") && name != b":status");
    if let Some((_, method)) = fields.iter_mut().find(|(name, _)| name == b":method") {
        *method = b"POST".to_vec();
    } else {
        fields.insert(0, (b":status".to_vec(), b"200".to_vec()));
    }
    let kinds: [&[u8]; 2] = [b"application/grpc", b"application/grpc+proto"];
    fields.push((b"content-type".to_vec(), random.one_of(&kinds).to_vec()));
    fields.push((b"grpc-encoding".to_vec(), b"gzip".to_vec()));
}

/// The fields that end a call.
pub fn trailers(random: &mut Random) -> Vec<Pair> {
    let status = random.one_of(&["0", "0", "0", "5", "14"]);
    let mut fields = vec![(b"grpc-status".to_vec(), status.as_bytes().to_vec())];
    if status != "0" {
        let message = random.one_of(&["no such thing", "it is away"]);
        fields.push((b"grpc-message".to_vec(), message.as_bytes().to_vec()));
    }
    if random.is_in(20) {
        fields.insert(0, (b"x-trailer".to_vec(), b"end".to_vec()));
    }
    fields
}
