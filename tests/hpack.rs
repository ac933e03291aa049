//! HPACK against a naive decoder: whole talks, talks with losses, any bytes; and the blocks of
//! other encoders.

use crate::support::hpack::encoder::{Encoder, Habit, huffman};
use crate::support::hpack::naive::Naive;
use crate::support::hpack::random::Random;
use crate::support::hpack::told::{HELD_BYTES_MAX, Told, block, cut_block, is_true, knowable};
use crate::support::hpack::{Pair, talk};
use crate::support::skip;
use httplines::protocol::http2::hpack::{Decoder, Fault};
use proptest::prelude::*;
use std::path::Path;

/// Checks that all that was told is so, though some of it may be unknown.
#[track_caller]
fn assert_true(told: &[Told], fields: &[Pair]) {
    let is_so =
        |told: &Option<Vec<u8>>, text: &Vec<u8>| told.as_ref().is_none_or(|told| told == text);
    let is_true =
        |(told, field): (&Told, &Pair)| is_so(&told.0, &field.0) && is_so(&told.1, &field.1);
    assert!(told.iter().zip(fields).all(is_true), "{told:?} of {fields:?}");
}

fn all_known(fields: &[Pair]) -> Vec<Told> {
    fields.iter().cloned().map(|(name, value)| (Some(name), Some(value))).collect()
}

/// The bytes of hexadecimal digits.
fn bytes(hex: &str) -> Vec<u8> {
    let octet = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
    (0..hex.len()).step_by(2).map(octet).collect()
}

/// A block that has one field, with this value as a string in Huffman code.
fn block_of(code: &[u8]) -> Vec<u8> {
    let mut block = vec![0x04];
    match code.len() {
        len_bytes @ ..127 => block.push(0x80 | len_bytes as u8),
        len_bytes => {
            let rest = len_bytes - 127;
            block.extend([0xff, 0x80 | (rest & 127) as u8, (rest >> 7) as u8]);
        }
    }
    block.extend_from_slice(code);
    block
}

/// The value of [`block_of`], however many octets follow it in the block.
fn decoded(code: &[u8]) -> Result<Vec<u8>, Fault> {
    let (told, end) = block(&mut Decoder::default(), &block_of(code));
    let followed = [block_of(code), vec![0x82; 8]].concat();
    let (told_followed, end_followed) = block(&mut Decoder::default(), &followed);
    assert_eq!(end_followed, end);
    assert_eq!(told_followed.first(), told.first());
    let (naive, naive_end) = Naive::default().block(&block_of(code));
    assert_eq!((&told, end), (&knowable(&naive), naive_end));
    end.map(|()| told[0].1.clone().expect("a value"))
}

#[test]
fn every_symbol_has_its_code() {
    for first in 0..=255 {
        for second in [0, b'a', b'~', 0xff, first] {
            for text in [vec![first], vec![first, second], vec![first, second, first, second]] {
                assert_eq!(decoded(&huffman(&text)), Ok(text));
            }
        }
    }
    let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    assert_eq!(decoded(&huffman(&all)), Ok(all));
}

#[test]
fn padding_has_less_than_8_bits_all_of_them_ones() {
    // 'a' is 00011.
    assert_eq!(decoded(&[0b0001_1111]), Ok(b"a".to_vec()));
    assert_eq!(decoded(&[0b0001_1110]), Err(Fault::Huffman));
    assert_eq!(decoded(&[0b0001_1111, 0xff]), Err(Fault::Huffman));
    // '&' is 11111000, so the string has no padding.
    assert_eq!(decoded(&[0b1111_1000]), Ok(b"&".to_vec()));
    assert_eq!(decoded(&[0b1111_1000, 0xff]), Err(Fault::Huffman));
    assert_eq!(decoded(&[]), Ok(vec![]));
    assert_eq!(decoded(&[0xff]), Err(Fault::Huffman));
    // The end of a string is not to be there.
    assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), Err(Fault::Huffman));
    assert_eq!(decoded(&[0x1f, 0xff, 0xff, 0xff, 0xf8, 0xff]), Err(Fault::Huffman));
}

#[test]
fn long_codes_far_from_the_end_of_a_long_string() {
    let text: Vec<u8> = (0..400).map(|at| if at % 3 == 0 { b'|' } else { 10 }).collect();
    assert_eq!(decoded(&huffman(&text)), Ok(text));
}

/// A talk of any fields: each block is encoded, and a change of the table's size may precede it.
struct Talk {
    encoder: Encoder,
    random: Random,
    size_choices: &'static [usize],
}

impl Talk {
    fn new(seed: u64, size_choices: &'static [usize]) -> Talk {
        let encoder = Encoder::new(Habit::Wild, seed);
        Talk { encoder, random: Random(seed ^ 1), size_choices }
    }

    /// The next block, and its fields.
    fn next(&mut self) -> (Vec<u8>, Vec<Pair>) {
        while self.random.is_in(10) {
            let bytes = self.random.one_of(self.size_choices);
            self.encoder.set_size_max(bytes);
        }
        let fields = talk::any_fields(&mut self.random);
        (self.encoder.block(&fields), fields)
    }
}

/// Sizes that are kept whole.
const SIZES: &[usize] = &[0, 31, 32, 64, 256, 1000, 4096, 16_384, 65_536];
/// Some that are larger.
const LARGE_SIZES: &[usize] = &[0, 4096, 65_536, 65_537, 200_000, u32::MAX as usize];

/// How a reader gets a block.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Whole,
    Lost,
    /// Only this part of it, in percent.
    Cut(usize),
    /// Whole; before it the table is dropped.
    Relieved,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        12 => Just(Fate::Whole),
        1 => Just(Fate::Lost),
        1 => (0..=100usize).prop_map(Fate::Cut),
        1 => Just(Fate::Relieved),
    ]
}

fn beginning(block: &[u8], percent: usize) -> &[u8] {
    &block[..block.len() * percent / 100]
}

/// Reads a talk of which something is missing. With `is_exact`, what was inserted after a loss must
/// be known again.
fn assert_never_wrong(mut talk: Talk, fates: &[Fate], is_exact: bool) -> Result<(), TestCaseError> {
    let (mut decoder, mut naive) = (Decoder::default(), Naive::default());
    decoder.set_size_max(u32::MAX);
    naive.allowed_bytes_max = u32::MAX.into();
    for fate in fates {
        let (bytes, fields) = talk.next();
        if let Fate::Relieved = fate {
            decoder.relieve();
            prop_assert_eq!(decoder.held_bytes(), 0);
            naive.forget();
        }
        let whole_count = match fate {
            Fate::Whole | Fate::Relieved => usize::MAX,
            Fate::Lost => 0,
            Fate::Cut(percent) => naive.clone().block(beginning(&bytes, *percent)).0.len(),
        };
        let (expected, end) = naive.block(&bytes);
        prop_assert_eq!(end, Ok(()));
        let known: Vec<Pair> =
            expected.iter().map(|f| (f.name.bytes.clone(), f.value.bytes.clone())).collect();
        prop_assert_eq!(&known, &fields, "the naive decoder sees all");
        let told = match fate {
            Fate::Whole | Fate::Relieved => {
                let (told, end) = block(&mut decoder, &bytes);
                prop_assert_eq!(end, Ok(()));
                told
            }
            Fate::Lost => {
                decoder.lose();
                vec![]
            }
            Fate::Cut(percent) => cut_block(&mut decoder, beginning(&bytes, *percent)),
        };
        let count = whole_count.min(fields.len());
        prop_assert_eq!(told.len(), count);
        prop_assert!(is_true(&told, &expected), "{:?} of {:?}", told, fields);
        if is_exact {
            prop_assert_eq!(&told, &knowable(&expected[..count]));
        }
        if let Fate::Lost | Fate::Cut(_) = fate {
            naive.forget();
        }
        prop_assert!(decoder.held_bytes() <= HELD_BYTES_MAX, "{}", decoder.held_bytes());
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_string_in_huffman_code(text in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(decoded(&huffman(&text)), Ok(text));
    }

    #[test]
    fn any_bytes_as_huffman_code(code in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = decoded(&code);
    }

    #[test]
    fn every_block_decodes_to_its_fields(seed: u64, count in 1..40usize) {
        let mut talk = Talk::new(seed, LARGE_SIZES);
        let mut decoder = Decoder::default();
        decoder.set_size_max(u32::MAX);
        for _ in 0..count {
            let (bytes, fields) = talk.next();
            prop_assert_eq!(block(&mut decoder, &bytes), (all_known(&fields), Ok(())));
        }
        prop_assert!(decoder.is_known());
    }

    #[test]
    fn what_is_inserted_after_a_loss_is_known(
        seed: u64,
        fates in prop::collection::vec(fate(), 1..30),
    ) {
        assert_never_wrong(Talk::new(seed, SIZES), &fates, true)?;
    }

    #[test]
    fn with_tables_larger_than_are_kept_nothing_is_wrong(
        seed: u64,
        fates in prop::collection::vec(fate(), 1..30),
    ) {
        assert_never_wrong(Talk::new(seed, LARGE_SIZES), &fates, false)?;
    }

    /// Blocks of any bytes, and blocks of which a few were changed.
    #[test]
    fn any_bytes_decode_as_the_naive_decoder_says(
        seed: u64,
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut talk = Talk::new(seed, SIZES);
        let mut blocks: Vec<Vec<u8>> =
            (0..4).map(|_| talk.next().0).chain(blocks).collect();
        for (at, octet) in changes {
            let block = at.index(blocks.len());
            if let Some(last) = blocks[block].len().checked_sub(1) {
                let place = at.index(last + 1);
                blocks[block][place] = octet;
            }
        }
        let (mut decoder, mut naive) = (Decoder::default(), Naive::default());
        decoder.set_size_max(1 << 14);
        naive.allowed_bytes_max = 1 << 14;
        let mut is_over = false;
        for bytes in blocks {
            let (told, end) = block(&mut decoder, &bytes);
            prop_assert!(decoder.held_bytes() <= HELD_BYTES_MAX);
            if is_over {
                continue;
            }
            let (expected, expected_end) = naive.block(&bytes);
            prop_assert_eq!((told, end), (knowable(&expected), expected_end));
            is_over = end.is_err();
            prop_assert_eq!(decoder.is_known(), end.is_ok());
        }
    }
}

#[test]
fn a_table_of_any_size_keeps_64_kib() {
    let mut encoder = Encoder::new(Habit::Wild, 7);
    let mut decoder = Decoder::default();
    decoder.set_size_max(u32::MAX);
    encoder.set_size_max(200_000);
    let (mut random, mut unknown_count) = (Random(7), 0);
    for number in 0..2000_usize {
        let mut fields = vec![(b"x".to_vec(), number.to_string().into_bytes())];
        fields.push((b"y".to_vec(), vec![b'v'; random.below(100)]));
        let old = number.saturating_sub(random.below(1500)).to_string().into_bytes();
        fields.push((b"x".to_vec(), old));
        let (told, end) = block(&mut decoder, &encoder.block(&fields));
        assert_eq!(end, Ok(()));
        assert_true(&told, &fields);
        unknown_count += told.iter().filter(|(_, value)| value.is_none()).count();
        assert!(decoder.held_bytes() <= HELD_BYTES_MAX, "{}", decoder.held_bytes());
    }
    assert!(unknown_count > 50, "{unknown_count}");
    assert!(!decoder.is_known());
}

#[test]
fn blocks_of_another_encoder() {
    let text = include_str!("support/hpack/python.json");
    let connections: Vec<Vec<serde_json::Value>> = serde_json::from_str(text).expect("JSON");
    assert_eq!(connections.len(), 6);
    for blocks in connections {
        let mut decoder = Decoder::default();
        decoder.set_size_max(8192);
        for case in blocks {
            let fields: Vec<(String, String)> =
                serde_json::from_value(case["fields"].clone()).expect("names and values");
            let fields: Vec<Pair> =
                fields.into_iter().map(|(n, v)| (n.into_bytes(), v.into_bytes())).collect();
            let (told, end) = block(&mut decoder, &bytes(case["wire"].as_str().expect("digits")));
            assert_eq!((told, end), (all_known(&fields), Ok(())));
        }
    }
}

/// The header blocks of a story of hpack-test-case, and their fields.
fn story(path: &Path) -> Vec<(Vec<u8>, Vec<Pair>)> {
    let text = std::fs::read(path).expect("a story");
    let story: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let cases = story["cases"].as_array().expect("cases");
    let pair = |(name, value): (&String, &serde_json::Value)| {
        (name.clone().into_bytes(), value.as_str().expect("text").as_bytes().to_vec())
    };
    let fields = |case: &serde_json::Value| {
        let fields = case["headers"].as_array().expect("fields").iter();
        fields.flat_map(|field| field.as_object().expect("a field").iter().map(pair)).collect()
    };
    cases.iter().map(|case| (bytes(case["wire"].as_str().expect("digits")), fields(case))).collect()
}

/// The stories of eight encoders; and each without its first half.
#[test]
fn stories_of_eight_encoders() {
    let stories = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/protocols/stories");
    let Ok(folders) = std::fs::read_dir(stories) else {
        skip!("needs hpack-test-case's stories in ../shared")
    };
    let (mut story_count, mut field_count, mut known_count) = (0, 0, 0);
    for folder in folders.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir())
    {
        for file in std::fs::read_dir(folder).expect("stories") {
            let story = story(&file.expect("an entry").path());
            story_count += 1;
            let (mut whole, mut late) = (Decoder::default(), Decoder::default());
            whole.set_size_max(1 << 16);
            late.lose();
            for (number, (bytes, fields)) in story.iter().enumerate() {
                assert_eq!(block(&mut whole, bytes), (all_known(fields), Ok(())));
                if number < story.len() / 2 {
                    continue;
                }
                let (told, end) = block(&mut late, bytes);
                assert_eq!((told.len(), end), (fields.len(), Ok(())));
                assert_true(&told, fields);
                field_count += fields.len();
                known_count += told.iter().filter(|(name, _)| name.is_some()).count();
            }
        }
    }
    assert!(story_count > 200, "{story_count}");
    assert!(known_count > field_count * 9 / 10, "{known_count} of {field_count}");
}
