//! What the fuzz targets share: scripts of bytes, and what must hold whatever they say. A target
//! panics where it does not.

pub mod capture;
pub mod frames;
pub mod record;
pub mod segments;
pub mod talk;

/// The pieces of an input. A mark and no lengths: what is cut or put in leaves the rest as it was.
pub fn pieces<'a>(data: &'a [u8], mark: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let piece = rest?;
        let at = piece.windows(mark.len()).position(|window| window == mark);
        rest = at.map(|at| &piece[at + mark.len()..]);
        Some(&piece[..at.unwrap_or(piece.len())])
    })
}
