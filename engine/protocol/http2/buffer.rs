//! [`Buffer`]: bytes that are appended.

use std::ops::Deref;

/// How much it can hold at least, once there is anything.
const LEN_BYTES_MIN: usize = 512;

/// Bytes that are appended. Unlike that of a vector, the length is set before bytes are copied: so
/// the copy comes last, and a function that appends a short value has no registers to keep.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    /// Zeros or old bytes behind `len_bytes`.
    memory: Vec<u8>,
    len_bytes: usize,
}

impl Buffer {
    /// Removes all bytes, and keeps the memory.
    pub fn clear(&mut self) {
        self.len_bytes = 0;
    }

    /// The number of bytes.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len_bytes
    }

    /// Appends these bytes.
    #[inline(always)]
    pub fn put(&mut self, bytes: &[u8]) {
        let end = self.len_bytes + bytes.len();
        let Some(place) = self.memory.get_mut(self.len_bytes..end) else {
            return self.put_beyond(bytes);
        };
        self.len_bytes = end;
        place.copy_from_slice(bytes);
    }

    /// Appends `front`, `value` and the end of a line.
    #[inline(always)]
    pub fn put_line<const N: usize>(&mut self, front: &'static [u8; N], value: &[u8]) {
        let end = self.len_bytes + N + value.len() + 2;
        if let Some(line) = self.memory.get_mut(self.len_bytes..end)
            && let Some((name, rest)) = line.split_first_chunk_mut()
            && let Some((place, line_end)) = rest.split_last_chunk_mut()
            && place.len() == value.len()
        {
            self.len_bytes = end;
            (*name, *line_end) = (*front, *b"\r\n");
            place.copy_from_slice(value);
        } else {
            self.put_line_beyond(front, value);
        }
    }

    /// The same beyond the memory that there is.
    #[cold]
    #[inline(never)]
    fn put_beyond(&mut self, bytes: &[u8]) {
        self.memory.truncate(self.len_bytes);
        self.memory.extend_from_slice(bytes);
        self.len_bytes = self.memory.len();
        self.memory.resize(self.len_bytes.next_power_of_two().max(LEN_BYTES_MIN), 0);
    }

    #[cold]
    #[inline(never)]
    fn put_line_beyond(&mut self, front: &[u8], value: &[u8]) {
        self.put_beyond(front);
        self.put_beyond(value);
        self.put_beyond(b"\r\n");
    }

    /// Removes what is behind the first `len_bytes`.
    pub fn truncate(&mut self, len_bytes: usize) {
        self.len_bytes = self.len_bytes.min(len_bytes);
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        &self.memory[..self.len_bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::Buffer;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_holds_what_a_vector_holds(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..12),
            keep in prop::collection::vec(0..2000_usize, 12),
        ) {
            let (mut buffer, mut vector) = (Buffer::default(), Vec::new());
            for (at, (part, keep)) in parts.iter().zip(keep).enumerate() {
                match at % 3 {
                    0 => {
                        buffer.put(part);
                        vector.extend_from_slice(part);
                    }
                    1 => {
                        buffer.put_line(b"name: ", part);
                        vector.extend_from_slice(&[b"name: ", &part[..], b"\r\n"].concat());
                    }
                    _ => {
                        buffer.truncate(keep);
                        vector.truncate(keep);
                    }
                }
                prop_assert_eq!(buffer.len(), vector.len());
                prop_assert_eq!(&buffer[..], &vector[..]);
            }
            buffer.clear();
            prop_assert!(buffer.is_empty());
        }
    }
}
