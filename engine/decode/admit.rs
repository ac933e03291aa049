//! placeholder until the kernel branch lands
/// See the kernel branch.
pub fn begins_like_message(payload: &[u8]) -> bool {
    let start = payload.iter().take(4).take_while(|b| matches!(b, b'\r' | b'\n')).count();
    let rest = &payload[start..];
    if rest.len() >= 5 && rest[..5].eq_ignore_ascii_case(b"HTTP/") {
        return true;
    }
    let token = rest
        .iter()
        .take(25)
        .take_while(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
        .count();
    (1..=24).contains(&token)
        && rest.get(token) == Some(&b' ')
        && rest.get(token + 1).is_some_and(|b| *b > 0x20)
}
