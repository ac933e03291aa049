//! TCP sequence numbers (RFC 9293 section 3.4): positions in a stream, modulo 2^32.

/// A sequence number. Sequence numbers have a distance but no total order, so there is no `Ord`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct SeqNumber(pub u32);

impl SeqNumber {
    /// How far `self` lies after `other`; negative if it lies before. Correct for distances below
    /// 2^31, which is twice the largest TCP window (RFC 7323).
    #[inline]
    pub fn distance(self, other: SeqNumber) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }

    /// Whether `self` lies before `other`. If two numbers are 2^31 apart, which only forged
    /// segments are, neither precedes the other.
    #[inline]
    pub fn precedes(self, other: SeqNumber) -> bool {
        other.distance(self) > 0
    }

    /// The sequence number `bytes` further on.
    #[inline]
    pub fn plus(self, bytes: u32) -> SeqNumber {
        SeqNumber(self.0.wrapping_add(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_goes_through_the_wrap() {
        let before = SeqNumber(u32::MAX - 9);
        let after = before.plus(30);
        assert_eq!(after, SeqNumber(20));
        assert_eq!(after.distance(before), 30);
        assert_eq!(before.distance(after), -30);
        assert!(before.precedes(after));
        assert!(!after.precedes(before));
        assert!(!after.precedes(after));
    }

    #[test]
    fn numbers_on_opposite_sides_do_not_precede_each_other() {
        let (here, there) = (SeqNumber(7), SeqNumber(7).plus(1 << 31));
        assert!(!(here.precedes(there) && there.precedes(here)));
    }
}
