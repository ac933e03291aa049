//! The fast ways through a head beside their naive twins.

use super::*;
use memchr::memchr_iter;
use proptest::prelude::*;

/// Names that differ from `name` in case, in a byte, in a bit, or not at all.
fn nearly(name: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    (0..name.len(), 0..8_u32, any::<u32>(), any::<bool>()).prop_map(|(at, bit, cases, is_other)| {
        let upper = |(n, byte): (usize, &u8)| match cases >> n & 1 {
            1 => byte.to_ascii_uppercase(),
            _ => *byte,
        };
        let mut found: Vec<u8> = name.iter().enumerate().map(upper).collect();
        found[at] ^= u8::from(is_other) << bit;
        found
    })
}

/// [`trimmed`] byte by byte.
fn naive_trimmed(line: &[u8], at: usize) -> Vec<u8> {
    let is_space = |byte: &u8| b" \t\r\n".contains(byte);
    let mut value = line[at..].to_vec();
    while value.last().is_some_and(is_space) {
        value.pop();
    }
    let leading = value.iter().take_while(|byte| is_space(byte)).count();
    value[leading..].to_vec()
}

macro_rules! names_agree {
    ($($name:literal $found:ident),*) => {
        proptest! {
            #[test]
            fn names_are_told_as_by_std($($found in nearly($name)),*) {
                $(
                    let found = $found.first_chunk().unwrap();
                    prop_assert_eq!(is_name(found, $name), found.eq_ignore_ascii_case($name));
                )*
            }
        }
    };
}

names_agree!(
    b"host" a, b"user-agent" b, b"referer" c, b"server" d, b"location" e, b"content-type" f,
    b"content-length" g, b"transfer-encoding" h, b"expect" i
);

proptest! {
    #[test]
    fn lines_end_where_memchr_says(
        bytes in prop::collection::vec(prop_oneof![3 => Just(b'a'), 1 => Just(b'\n')], 0..300),
        at in 0..300_usize,
    ) {
        let at = at.min(bytes.len());
        let mut ends = LineEnds::new(&bytes, at);
        let found: Vec<usize> = std::iter::from_fn(|| ends.next()).collect();
        let wanted: Vec<usize> = memchr_iter(b'\n', &bytes[at..]).map(|end| at + end).collect();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn values_are_trimmed(line in "x:[ \t\r\nab]{0,6}") {
        let (start, end) = trimmed(line.as_bytes(), 2);
        prop_assert_eq!(&line.as_bytes()[start..end], naive_trimmed(line.as_bytes(), 2));
    }

    #[test]
    fn lengths_are_read(value in "[0-9, x]{0,12}") {
        let mut framing = FramingFields::default();
        framing.note_length(value.as_bytes());
        let parts = value.split(',').map(|part| part.trim().parse().ok());
        let parts: Option<Vec<u64>> = parts.collect();
        match parts {
            Some(parts) if parts.iter().all(|part| *part == parts[0]) => {
                prop_assert_eq!(framing.content_length, Some(parts[0]));
                prop_assert!(!framing.is_length_invalid);
            }
            _ => prop_assert!(framing.is_length_invalid),
        }
    }
}
