//! The examples of RFC 7541 appendix C, and the rules on which a table that is partly unknown rests.

use super::{Decoder, Fault, Field, integer};

/// The bytes of hexadecimal digits; spaces do not count.
pub(super) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> =
        hex.chars().filter(|c| *c != ' ').map(|c| c.to_digit(16).expect("a digit")).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

/// A field as text: `name: value`, with `?` for what is unknown.
fn line(field: Field<'_>) -> String {
    let text =
        |part: Option<&[u8]>| part.map_or("?".into(), |part| part.escape_ascii().to_string());
    format!("{}: {}", text(field.name), text(field.value))
}

/// The fields of a block, and how it ended.
fn decode(decoder: &mut Decoder, hex: &str) -> (Vec<String>, Result<(), Fault>) {
    let mut fields = Vec::new();
    let end = decoder.block(&bytes(hex), &mut Vec::new(), |field| fields.push(line(field)));
    (fields, end)
}

/// Decodes the blocks of a connection, which must have these fields.
#[track_caller]
fn assert_fields(decoder: &mut Decoder, blocks: &[(&str, &[&str])]) {
    for (hex, fields) in blocks {
        let (decoded, end) = decode(decoder, hex);
        assert_eq!(end, Ok(()), "{hex}");
        assert_eq!(decoded, *fields, "{hex}");
    }
}

#[test]
fn appendix_c_1_integers() {
    assert_eq!(integer::decode(&bytes("0a"), 5), Ok((10, &[][..])));
    assert_eq!(integer::decode(&bytes("1f9a0a 77"), 5), Ok((1337, &[0x77][..])));
    assert_eq!(integer::decode(&bytes("2a"), 8), Ok((42, &[][..])));
}

#[test]
fn integers_have_32_bits() {
    assert_eq!(integer::decode(&bytes("1fe0 ffff ff0f"), 5), Ok((u32::MAX, &[][..])));
    assert_eq!(integer::decode(&bytes("1fe1 ffff ff0f"), 5), Err(Fault::Integer));
    assert_eq!(integer::decode(&bytes("1fff ffff ff7f"), 5), Err(Fault::Integer));
    // Zeros that could be left out are allowed, as far as they fit.
    assert_eq!(integer::decode(&bytes("1f80 8080 8000"), 5), Ok((31, &[][..])));
    assert_eq!(integer::decode(&bytes("1f80 8080 8080 00"), 5), Err(Fault::Integer));
    assert_eq!(integer::decode(&bytes("1f80 80"), 5), Err(Fault::Truncated));
    assert_eq!(integer::decode(&[], 5), Err(Fault::Truncated));
}

#[test]
fn appendix_c_2_each_representation() {
    let literal = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
    let mut decoder = Decoder::default();
    assert_fields(
        &mut decoder,
        &[
            (literal, &["custom-key: custom-header"]),
            ("040c 2f73 616d 706c 652f 7061 7468", &[":path: /sample/path"]),
            ("1008 7061 7373 776f 7264 0673 6563 7265 74", &["password: secret"]),
            ("82", &[":method: GET"]),
            ("be", &["custom-key: custom-header"]),
        ],
    );
    assert_eq!(decode(&mut decoder, "bf"), (vec![], Err(Fault::Index)));
}

/// Appendices C.3 and C.4: requests, without and with Huffman code.
const REQUESTS: [&[&str]; 3] = [
    &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"],
    &[
        ":method: GET",
        ":scheme: http",
        ":path: /",
        ":authority: www.example.com",
        "cache-control: no-cache",
    ],
    &[
        ":method: GET",
        ":scheme: https",
        ":path: /index.html",
        ":authority: www.example.com",
        "custom-key: custom-value",
    ],
];

#[test]
fn appendix_c_3_requests() {
    assert_fields(
        &mut Decoder::default(),
        &[
            ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", REQUESTS[0]),
            ("8286 84be 5808 6e6f 2d63 6163 6865", REQUESTS[1]),
            (
                "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
                REQUESTS[2],
            ),
        ],
    );
}

#[test]
fn appendix_c_4_requests_in_huffman_code() {
    assert_fields(
        &mut Decoder::default(),
        &[
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", REQUESTS[0]),
            ("8286 84be 5886 a8eb 1064 9cbf", REQUESTS[1]),
            ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", REQUESTS[2]),
        ],
    );
}

/// Appendices C.5 and C.6: responses with a table of 256 bytes, which evicts.
const RESPONSES: [&[&str]; 3] = [
    &[
        ":status: 302",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:21 GMT",
        "location: https://www.example.com",
    ],
    &[
        ":status: 307",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:21 GMT",
        "location: https://www.example.com",
    ],
    &[
        ":status: 200",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:22 GMT",
        "location: https://www.example.com",
        "content-encoding: gzip",
        "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
    ],
];

/// A decoder whose encoder has chosen a table of 256 bytes.
fn decoder_256() -> Decoder {
    let mut decoder = Decoder::default();
    assert_fields(&mut decoder, &[("3fe1 01", &[])]);
    decoder
}

#[test]
fn appendix_c_5_responses() {
    assert_fields(
        &mut decoder_256(),
        &[
            (
                "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 \
                 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 \
                 6c65 2e63 6f6d",
                RESPONSES[0],
            ),
            ("4803 3330 37c1 c0bf", RESPONSES[1]),
            (
                "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d \
                 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 \
                 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e \
                 3d31",
                RESPONSES[2],
            ),
        ],
    );
}

#[test]
fn appendix_c_6_responses_in_huffman_code() {
    assert_fields(
        &mut decoder_256(),
        &[
            (
                "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 \
                 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                RESPONSES[0],
            ),
            ("4883 640e ffc1 c0bf", RESPONSES[1]),
            (
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab \
                 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f \
                 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
                RESPONSES[2],
            ),
        ],
    );
}
