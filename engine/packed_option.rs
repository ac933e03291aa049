//! A leaf: an option in as few bytes as possible, for structures that exist a million times.

use std::fmt;

/// A value without alignment padding.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Packed<T>(T);

/// An `Option<T>` that takes one byte more than `T`, instead of a whole alignment unit more.
#[derive(Clone, Copy)]
pub struct PackedOption<T: Copy>(Option<Packed<T>>);

impl<T: Copy> PackedOption<T> {
    /// Nothing.
    pub const NONE: PackedOption<T> = PackedOption(None);

    /// The value as an `Option`.
    #[inline(always)]
    pub fn get(self) -> Option<T> {
        self.0.map(|packed| packed.0)
    }

    /// Whether there is no value.
    #[inline(always)]
    pub fn is_none(self) -> bool {
        self.0.is_none()
    }

    /// Replaces the content with `value`.
    #[inline(always)]
    pub fn set(&mut self, value: Option<T>) {
        self.0 = value.map(Packed);
    }

    /// Stores `value` if there is none yet.
    #[inline(always)]
    pub fn set_if_none(&mut self, value: T) {
        self.0.get_or_insert(Packed(value));
    }
}

impl<T: Copy> From<Option<T>> for PackedOption<T> {
    fn from(value: Option<T>) -> PackedOption<T> {
        PackedOption(value.map(Packed))
    }
}

impl<T: Copy> Default for PackedOption<T> {
    fn default() -> PackedOption<T> {
        PackedOption(None)
    }
}

impl<T: Copy + fmt::Debug> fmt::Debug for PackedOption<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_an_option_in_a_byte_more() {
        assert_eq!((size_of::<PackedOption<u32>>(), size_of::<PackedOption<u64>>()), (5, 9));
        let mut packed = PackedOption::NONE;
        assert_eq!((packed.get(), packed.is_none()), (None, true));
        packed.set_if_none(7_u64);
        packed.set_if_none(8);
        assert_eq!((packed.get(), packed.is_none()), (Some(7), false));
        packed.set(None);
        assert_eq!(
            format!("{packed:?} {:?}", PackedOption::from(Some(u64::MAX))),
            "None Some(18446744073709551615)"
        );
    }
}
