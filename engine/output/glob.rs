//! [`Glob`]: a pattern that a whole text must match.

/// A pattern in which `*` stands for any bytes, also none, and `?` for any single one.
///
/// A match takes one step for each byte of the text, whatever the pattern is: all places in the
/// pattern that the text so far may have led to are followed at once, as the bits of a number.
#[derive(Clone)]
pub struct Glob {
    /// For each byte, the places that it may follow: bit `n` is the place before the `n`th byte of
    /// the pattern, not counting stars.
    takes: Box<[u128; 256]>,
    /// The places with a star, where any bytes may be skipped.
    stars: u128,
    /// The place behind the last byte.
    end: u128,
}

impl Glob {
    /// The longest pattern, in bytes. Longer ones are cut.
    pub const BYTES_MAX: usize = u128::BITS as usize - 1;

    /// A pattern. If `is_any_case`, letters match in upper and lower case.
    pub fn new(pattern: &[u8], is_any_case: bool) -> Glob {
        let mut glob = Glob { takes: Box::new([0; 256]), stars: 0, end: 1 };
        for byte in pattern.iter().take(Glob::BYTES_MAX) {
            match byte {
                b'*' => {
                    glob.stars |= glob.end;
                    continue;
                }
                b'?' => glob.takes.iter_mut().for_each(|places| *places |= glob.end),
                letter if is_any_case => {
                    for byte in [letter.to_ascii_lowercase(), letter.to_ascii_uppercase()] {
                        glob.takes[usize::from(byte)] |= glob.end;
                    }
                }
                byte => glob.takes[usize::from(*byte)] |= glob.end,
            }
            glob.end <<= 1;
        }
        glob
    }

    /// Whether all of `text` matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        let mut places = 1;
        for byte in text {
            if places & self.stars & self.end != 0 {
                return true;
            }
            places = (places & self.takes[usize::from(*byte)]) << 1 | places & self.stars;
            if places == 0 {
                return false;
            }
        }
        places & self.end != 0
    }
}

impl std::fmt::Debug for Glob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Glob").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The twin, as plainly as possible. Its time is exponential in the number of stars.
    fn matches(pattern: &[u8], text: &[u8], is_any_case: bool) -> bool {
        let is_same = |a: &u8, b: &u8| a == b || is_any_case && a.eq_ignore_ascii_case(b);
        match (pattern, text) {
            ([], _) => text.is_empty(),
            ([b'*', rest @ ..], _) => {
                (0..=text.len()).any(|skipped| matches(rest, &text[skipped..], is_any_case))
            }
            ([_, ..], []) => false,
            ([one, rest @ ..], [byte, behind @ ..]) => {
                (*one == b'?' || is_same(one, byte)) && matches(rest, behind, is_any_case)
            }
        }
    }

    #[test]
    fn globs_of_all_kinds() {
        for (pattern, matched, others) in [
            ("/healthz", vec!["/healthz"], vec!["/healthz/", "/health", "", "/HEALTHZ"]),
            ("/api/*", vec!["/api/", "/api/a?b"], vec!["/api", "x/api/"]),
            ("*.js", vec![".js", "/a.js", "/.js.js"], vec!["/a.jsx", "js"]),
            ("*/a*b*", vec!["/ab", "x/aab/b"], vec!["/ba", "ab"]),
            ("?", vec!["/", "?"], vec!["", "//"]),
            ("", vec![""], vec!["/"]),
            ("*", vec!["", "x"], vec![]),
            ("?*", vec!["x", "xy"], vec![""]),
            ("/[a]\\", vec!["/[a]\\"], vec!["/a"]),
        ] {
            let glob = Glob::new(pattern.as_bytes(), false);
            for text in matched {
                assert!(glob.matches(text.as_bytes()), "{pattern} {text}");
            }
            for text in others {
                assert!(!glob.matches(text.as_bytes()), "{pattern} {text}");
            }
        }
        assert!(Glob::new(b"A.Test*", true).matches(b"a.tEST:80"));
    }

    #[test]
    fn the_longest_pattern_matches_to_its_end() {
        let longest = [b'a'; Glob::BYTES_MAX];
        let glob = Glob::new(&longest, false);
        assert!(glob.matches(&longest) && !glob.matches(&longest[1..]));
        assert!(!glob.matches(&[b'a'; Glob::BYTES_MAX + 1]));
    }

    /// A pattern that takes a backtracking matcher longer than the universe is old.
    #[test]
    fn many_stars_take_no_longer() {
        let glob = Glob::new("*a".repeat(60).as_bytes(), false);
        assert!(!glob.matches(&[&[b'a'; 1 << 16][..], b"b"].concat()));
    }

    proptest! {
        #[test]
        fn a_glob_is_its_twin(
            pattern in "[abA?*]{0,9}", text in "[abAB]{0,12}", is_any_case: bool,
        ) {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            let glob = Glob::new(pattern, is_any_case);
            prop_assert_eq!(glob.matches(text), matches(pattern, text, is_any_case));
        }
    }
}
