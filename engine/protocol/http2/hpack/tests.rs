//! The examples of RFC 7541 appendix C, and the rules of a table that is partly unknown.

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
    format!("{}: {}", text(field.name()), text(field.value()))
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

/// A block that inserts an entry of this size, with the name `n`.
fn insertion(size_bytes: usize) -> String {
    let value = "61".repeat(size_bytes - 33);
    let length = match value.len() / 2 {
        bytes @ ..127 => format!("{bytes:02x}"),
        bytes => format!("7f{:02x}{:02x}", 0x80 | (bytes - 127) & 0x7f, (bytes - 127) >> 7),
    };
    format!("40016e{length}{value}")
}

/// Inserts an entry of this size.
#[track_caller]
fn insert(decoder: &mut Decoder, size_bytes: usize) {
    let (fields, end) = decode(decoder, &insertion(size_bytes));
    assert_eq!((fields.len(), end), (1, Ok(())));
}

fn joined_late() -> Decoder {
    let mut decoder = Decoder::default();
    decoder.lose();
    decoder
}

#[test]
fn after_a_late_join_new_entries_are_known() {
    let mut decoder = joined_late();
    assert_fields(&mut decoder, &[("82be", &[":method: GET", "?: ?"])]);
    assert_fields(&mut decoder, &[("40016101 62", &["a: b"]), ("bebf", &["a: b", "?: ?"])]);
    assert!(!decoder.is_known());
}

#[test]
fn an_entry_whose_name_is_unknown_has_a_place() {
    let mut decoder = joined_late();
    // The name is that of the third entry of the dynamic table.
    assert_fields(&mut decoder, &[("7f01 01 62", &["?: b"]), ("40016301 64", &["c: d"])]);
    assert_fields(&mut decoder, &[("bebfc0", &["c: d", "?: b", "?: ?"])]);
    // And so has one that takes its name from that one.
    assert_fields(&mut decoder, &[("7f00 01 65", &["?: e"]), ("7e 01 66", &["?: f"])]);
}

#[test]
fn a_size_of_0_makes_the_table_known() {
    let mut decoder = joined_late();
    assert_fields(&mut decoder, &[("20 3fe11f", &[]), ("40016101 62 be", &["a: b", "a: b"])]);
    assert!(decoder.is_known());
    assert_eq!(decode(&mut decoder, "bf"), (vec![], Err(Fault::Index)));
    // The connection goes on as one that was joined late.
    assert_fields(&mut decoder, &[("bf", &["?: ?"])]);
}

#[test]
fn a_table_without_room_for_what_is_missing_is_known() {
    for (size_bytes, is_known) in [(68, false), (69, true)] {
        let mut decoder = joined_late();
        // A maximum of 100 bytes.
        assert_fields(&mut decoder, &[("3f45", &[])]);
        insert(&mut decoder, size_bytes);
        assert_eq!(decoder.is_known(), is_known, "{size_bytes}");
    }
    let mut decoder = joined_late();
    assert_fields(&mut decoder, &[("3f45", &[])]);
    (0..3).for_each(|_| insert(&mut decoder, 40));
    assert!(decoder.is_known(), "the first one was evicted, and so was all before it");
    assert_eq!(decode(&mut decoder, "c0"), (vec![], Err(Fault::Index)));
}

#[test]
fn an_entry_larger_than_the_table_empties_it() {
    let mut decoder = decoder_256();
    insert(&mut decoder, 100);
    assert_eq!(decode(&mut decoder, &insertion(257)).1, Ok(()));
    assert!(decoder.is_known());
    assert_eq!(decode(&mut decoder, "be"), (vec![], Err(Fault::Index)));
}

#[test]
fn what_is_beyond_the_limit_of_memory_is_unknown() {
    let mut late = joined_late();
    let mut large = Decoder::default();
    large.set_size_max(1 << 20);
    // A maximum of 1 MiB.
    assert_fields(&mut large, &[("3fe1ff3f", &[])]);
    for decoder in [&mut late, &mut large] {
        (0..40).for_each(|_| insert(decoder, 2000));
        assert!(!decoder.is_known());
        // 32 entries of 2,000 bytes fit into 64 KiB.
        let (fields, end) = decode(decoder, "bedd");
        assert_eq!(end, Ok(()));
        assert!(fields.iter().all(|field| field.starts_with("n: aaa")), "{fields:?}");
        assert_fields(decoder, &[("de", &["?: ?"])]);
        assert!(decoder.held_bytes() < 100 << 10);
    }
}

#[test]
fn a_block_that_was_cut_makes_the_table_unknown() {
    let mut decoder = Decoder::default();
    insert(&mut decoder, 100);
    let mut fields = Vec::new();
    // The second field is not whole.
    let beginning = bytes("40016101 62 40016305 64");
    decoder.cut_block(&beginning, &mut Vec::new(), |field| fields.push(line(field)));
    assert_eq!(fields, ["a: b"]);
    assert!(!decoder.is_known());
    assert_fields(&mut decoder, &[("be", &["?: ?"])]);
    // The maximum size is still known, since a change comes before the first field.
    insert(&mut decoder, 4065);
    assert!(decoder.is_known());
}

#[test]
fn a_block_that_was_cut_before_its_fields_may_have_changed_the_size() {
    for beginning in ["", "20", "3fe1", "3fe11f"] {
        let mut decoder = Decoder::default();
        decoder.cut_block(&bytes(beginning), &mut Vec::new(), |_| unreachable!("no field"));
        (0..3).for_each(|_| insert(&mut decoder, 2000));
        assert!(!decoder.is_known(), "{beginning}");
        let (fields, end) = decode(&mut decoder, "c0");
        assert_eq!((fields.len(), end), (1, Ok(())));
        assert!(fields[0].starts_with("n: aaa"), "{beginning}: {fields:?}");
    }
}

#[test]
fn a_table_that_was_freed_is_unknown() {
    let mut decoder = Decoder::default();
    decoder.relieve();
    assert!(decoder.is_known(), "it was empty");
    insert(&mut decoder, 100);
    assert!(decoder.held_bytes() > 0);
    decoder.relieve();
    assert_eq!(decoder.held_bytes(), 0);
    assert!(!decoder.is_known());
    assert_fields(&mut decoder, &[("be", &["?: ?"]), ("40016101 62 be", &["a: b", "a: b"])]);
    // Whatever is relieved once all has been evicted.
    assert_fields(&mut decoder, &[("20 3fe11f", &[])]);
    decoder.relieve();
    assert!(decoder.is_known());
    (0..9).for_each(|_| insert(&mut decoder, 1000));
}

#[test]
fn faults_end_the_block_and_make_the_table_unknown() {
    for (hex, fault) in [
        ("82 80", Fault::Index),
        ("82 be", Fault::Index),
        ("82 7f00 0161", Fault::Index),
        ("82 20", Fault::SizeUpdate),
        ("82 ff8080808080", Fault::Integer),
        ("82 048180", Fault::Huffman),
        ("82 0405 61", Fault::Truncated),
        ("82 04", Fault::Truncated),
        ("82 ff", Fault::Truncated),
    ] {
        let mut decoder = Decoder::default();
        assert_eq!(decode(&mut decoder, hex), (vec![":method: GET".into()], Err(fault)), "{hex}");
        assert!(!decoder.is_known(), "{hex}");
        assert_fields(&mut decoder, &[("be", &["?: ?"])]);
    }
}

#[test]
fn a_size_update_names_what_the_reader_allows() {
    let mut decoder = Decoder::default();
    assert_eq!(decode(&mut decoder, "3fe21f"), (vec![], Err(Fault::SizeUpdate)), "4,097 bytes");
    let mut decoder = Decoder::default();
    decoder.set_size_max(4097);
    // The encoder may not have read this one yet.
    decoder.set_size_max(0);
    assert_fields(&mut decoder, &[("3fe21f", &[])]);
    assert_fields(&mut joined_late(), &[("3fe0ffffff0f", &[])]);
}
