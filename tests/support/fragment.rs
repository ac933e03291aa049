//! IP packets in fragments.

use super::packet::checksum;

/// The part `start..end` of the payload of the IP packet `whole`, as a fragment.
pub fn fragment(whole: &[u8], id: u16, start: usize, end: usize) -> Vec<u8> {
    let is_v6 = whole[0] >> 4 == 6;
    let (header, payload) = whole.split_at(if is_v6 { 40 } else { 20 });
    let mut header = header.to_vec();
    let more = end < payload.len();
    let part = &payload[start..end];
    if is_v6 {
        let next = std::mem::replace(&mut header[6], 44);
        header[4..6].copy_from_slice(&(8 + part.len() as u16).to_be_bytes());
        let word = (start as u16 | u16::from(more)).to_be_bytes();
        let extension = [next, 0, word[0], word[1], 0, 0];
        return [&header[..], &extension, &id.to_be_bytes(), part].concat();
    }
    header[2..4].copy_from_slice(&(20 + part.len() as u16).to_be_bytes());
    header[4..6].copy_from_slice(&id.to_be_bytes());
    let word = (start as u16 / 8 + if more { 0x2000 } else { 0 }).to_be_bytes();
    header[6..8].copy_from_slice(&word);
    header[10..12].fill(0);
    let sum = checksum(&header).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    [&header[..], part].concat()
}

/// A packet in fragments that end at `cuts` (multiples of 8) and at its end.
pub fn fragments(whole: &[u8], id: u16, cuts: &[usize]) -> Vec<Vec<u8>> {
    let header_bytes = if whole[0] >> 4 == 6 { 40 } else { 20 };
    let bounds = [&[0], cuts, &[whole.len() - header_bytes]].concat();
    bounds.windows(2).map(|ends| fragment(whole, id, ends[0], ends[1])).collect()
}
