//! Bytes of TLS 1.3 that tests make themselves.

/// A record of this kind.
pub fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind, 3, 3], &(content.len() as u16).to_be_bytes()[..], content].concat()
}

fn with_len(content: &[u8], len_bytes: usize) -> Vec<u8> {
    [&(content.len() as u32).to_be_bytes()[4 - len_bytes..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &with_len(content, 2)].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &with_len(body, 3)].concat()
}

/// A record with a ClientHello that asks for `name`, and is padded by this many bytes.
pub fn client_hello(name: &str, padding_bytes: usize) -> Vec<u8> {
    let name = with_len(&[&[0][..], &with_len(name.as_bytes(), 2)].concat(), 2);
    let extensions = [
        extension(0, &name),
        extension(16, &with_len(b"\x02h2\x08http/1.1", 2)),
        extension(43, &[4, 3, 4, 3, 3]),
        extension(21, &vec![0; padding_bytes]),
    ];
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0, 0, 4, 0x13, 1, 0xc0, 0x2f, 1, 0],
        &with_len(&extensions.concat(), 2),
    ];
    record(22, &message(1, &body.concat()))
}

/// The answer of a server of TLS 1.3, with `secret_bytes` of what is encrypted.
pub fn server_hello(secret_bytes: usize) -> Vec<u8> {
    let key_share = [&[0, 29, 0, 32][..], &[5; 32]].concat();
    let extensions = [extension(43, &[3, 4]), extension(51, &key_share)].concat();
    let body = [&[3, 3][..], &[9; 32], &[0, 0x13, 1, 0], &with_len(&extensions, 2)];
    let mut answer = record(22, &message(2, &body.concat()));
    answer.extend(record(20, &[1]));
    data(secret_bytes).into_iter().for_each(|byte| answer.push(byte));
    answer
}

/// The client's Finished of TLS 1.3.
pub fn finished() -> Vec<u8> {
    [record(20, &[1]), record(23, &[0xee; 53])].concat()
}

/// This many bytes in records of 16 KiB at most, without their heads.
pub fn data(len_bytes: usize) -> Vec<u8> {
    vec![0x55; len_bytes].chunks(1 << 14).flat_map(|content| record(23, content)).collect()
}
