//! The values of `grpc-status` and `grpc-message`, and the trailers of gRPC-Web, which are text.

use memchr::{memchr, memchr_iter};

/// The number that a status is, if it is one.
pub(super) fn status_of(value: &[u8]) -> Option<u32> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let mut digits = value.iter().filter(|_| is_number).map(|byte| u32::from(byte - b'0'));
    let number = digits.try_fold(0_u32, |sum, digit| sum.checked_mul(10)?.checked_add(digit));
    number.filter(|_| is_number)
}

/// Undoes percent-encoding. What is not a percent sign and two hexadecimal digits stays as it is.
pub(super) fn percent_decoded(value: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| (*byte as char).to_digit(16));
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = memchr(b'%', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        match (digit(rest.get(1)), digit(rest.get(2))) {
            (Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                rest = &rest[3..];
            }
            _ => {
                out.push(b'%');
                rest = &rest[1..];
            }
        }
    }
    out.extend_from_slice(rest);
    out
}

/// The name and value of each line of the trailers in a body, or of a head. A last line without a
/// line feed counts if `is_whole`: nothing is missing behind it. Folded lines are no fields.
pub(super) fn web_trailers(text: &[u8], is_whole: bool) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut start = 0;
    let last = is_whole.then_some(text.len());
    memchr_iter(b'\n', text).chain(last).filter_map(move |end| {
        let line = text.get(start..end)?;
        start = end + 1;
        let colon = memchr(b':', line).filter(|_| !matches!(line[0], b' ' | b'\t'))?;
        Some((line[..colon].trim_ascii(), line[colon + 1..].trim_ascii()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        for (value, status) in [
            ("0", Some(0)),
            ("16", Some(16)),
            ("007", Some(7)),
            ("4294967295", Some(u32::MAX)),
            ("4294967296", None),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1 2", None),
            ("OK", None),
        ] {
            assert_eq!(status_of(value.as_bytes()), status, "{value}");
        }
    }

    #[test]
    fn percent_encoding() {
        for (value, decoded) in [
            ("no%20such%20%22thing%22%20%C3%A9", "no such \"thing\" é".as_bytes()),
            ("%e2%82%AC", "€".as_bytes()),
            ("100%", b"100%"),
            ("%4", b"%4"),
            ("%zz%4x%%41", b"%zz%4x%A"),
            ("%00%0a%ff", b"\0\n\xff"),
            ("a+b", b"a+b"),
            ("", b""),
        ] {
            assert_eq!(percent_decoded(value.as_bytes()), decoded, "{value}");
        }
    }

    #[test]
    fn lines_of_trailers() {
        let text =
            b"grpc-status: 5\r\n folded: 1\r\ngrpc-message:a: b\r\nbare:1\nnothing\r\n\r\nlast:2";
        let lines = |is_whole: bool| -> Vec<_> { web_trailers(text, is_whole).collect() };
        let expected: [(&[u8], &[u8]); 4] =
            [(b"grpc-status", b"5"), (b"grpc-message", b"a: b"), (b"bare", b"1"), (b"last", b"2")];
        assert_eq!(lines(true), expected);
        assert_eq!(lines(false), expected[..3]);
    }
}
