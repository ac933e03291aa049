//! Shared by the fuzz targets: scripts of bytes, and invariants that hold for any script. A target
//! panics if one is violated.

pub mod blocks;
pub mod capture;
pub mod frames;
pub mod http2;
pub mod record;
pub mod segments;
pub mod talk;
pub mod tls;
pub mod websocket;

/// The pieces of an input. They are separated by a mark and have no lengths, so that a deletion or
/// insertion leaves the rest unchanged.
pub fn pieces<'a>(data: &'a [u8], mark: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let piece = rest?;
        let at = piece.windows(mark.len()).position(|window| window == mark);
        rest = at.map(|at| &piece[at + mark.len()..]);
        Some(&piece[..at.unwrap_or(piece.len())])
    })
}
