//! A leaf: the only kind of time. Every time in httplines is packet time, in nanoseconds.

/// Nanoseconds since the Unix epoch, as the kernel or the capture file stamped a frame.
///
/// 64 bits reach the year 2554; arithmetic saturates, because timestamps come from untrusted files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct TimestampNs(pub u64);

impl TimestampNs {
    /// From the two words of a capture header: seconds and nanoseconds.
    pub const fn from_parts(seconds: u64, nanoseconds: u64) -> Self {
        TimestampNs(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
    }

    /// Nanoseconds from `earlier` to `self`; 0 if the timestamps run backwards.
    pub fn since(self, earlier: TimestampNs) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment `milliseconds` after `self`.
    pub fn plus_ms(self, milliseconds: u64) -> TimestampNs {
        TimestampNs(self.0.saturating_add(milliseconds.saturating_mul(1_000_000)))
    }

    /// The moment `milliseconds` before `self`.
    pub fn minus_ms(self, milliseconds: u64) -> TimestampNs {
        TimestampNs(self.0.saturating_sub(milliseconds.saturating_mul(1_000_000)))
    }
}
