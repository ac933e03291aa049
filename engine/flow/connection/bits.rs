//! [`Bits`]: what is known of a connection in one byte.

use crate::ids::Direction;

/// The direction of the first segment of a connection that was joined late, and whether the
/// connection is only counted; in one byte, because there may be a million connections.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bits(u8);

impl Bits {
    /// Only its end and its length are wanted.
    pub const COUNTED: u8 = 1;
    /// The last segment was passed over: a filter need not have let it through.
    pub const PASSED_OVER: u8 = 2;
    /// The forward direction has left its first bytes; the next bit is for the other one.
    pub const LONG: u8 = 4;
    /// The first segment came in the reverse direction.
    const JOINED_BY_REVERSE: u8 = 16;

    /// Those of a connection whose first segment came in this direction.
    pub fn joined_by(direction: Direction) -> Bits {
        Bits(if direction == Direction::Reverse { Bits::JOINED_BY_REVERSE } else { 0 })
    }

    /// The index of that direction.
    pub fn joined_by_index(self) -> usize {
        usize::from(self.has(Bits::JOINED_BY_REVERSE))
    }

    /// Whether only its end and its length are wanted.
    pub fn is_counted(self) -> bool {
        self.has(Bits::COUNTED)
    }

    /// Whether a bit is set.
    pub fn has(self, mark: u8) -> bool {
        self.0 & mark != 0
    }

    /// Sets a bit, or not.
    pub fn set(&mut self, mark: u8, is_set: bool) {
        self.0 = self.0 & !mark | if is_set { mark } else { 0 };
    }
}
