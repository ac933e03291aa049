//! Formats times, addresses and numbers without `fmt` and without allocation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::time::TimestampNs;

/// The seconds of a day.
const DAY_S: u64 = 86_400;

/// Appends `value` in decimal.
#[inline]
pub fn append_decimal(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends `bytes` as hexadecimal digits, in lower case.
pub fn append_hexadecimal(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| DIGITS[usize::from(value & 15)];
    out.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]));
}

/// The eight decimal digits of `value`, which is below 10^8, with the first one in the lowest byte.
/// All digits are computed together: two numbers of four digits, then four of two, then eight of
/// one, each in a lane of its own. Each quotient is a product that is exact for numbers of that
/// many digits.
#[inline(always)]
pub fn eight_digits(value: u32) -> u64 {
    let fours = u64::from(value / 10_000) | u64::from(value % 10_000) << 32;
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = hundreds | (fours - hundreds * 100) << 16;
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    (tens | (twos - tens * 10) << 8) + u64::from_ne_bytes([b'0'; 8])
}

/// The eight hexadecimal digits of `value`, with the first one in the lowest byte.
#[inline(always)]
pub fn eight_hex_digits(value: u32) -> u64 {
    let word = u64::from(value.swap_bytes());
    let word = (word | word << 16) & 0x0000_ffff_0000_ffff;
    let word = (word | word << 8) & 0x00ff_00ff_00ff_00ff;
    let nibbles = (word >> 4 | word << 8) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = (nibbles + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    nibbles + u64::from_ne_bytes([b'0'; 8]) + letters * u64::from(b'a' - b'0' - 10)
}

/// The digits of each number of up to three digits, and their count in the last byte.
static SMALL: [[u8; 4]; 1000] = {
    let mut small = [[0; 4]; 1000];
    let mut value = 0;
    while value < 1000 {
        let digits = [value / 100, value / 10 % 10, value % 10];
        let skipped = if value >= 100 { 0 } else { 2 - (value >= 10) as usize };
        let mut at = skipped;
        while at < 3 {
            small[value][at - skipped] = b'0' + digits[at] as u8;
            at += 1;
        }
        small[value][3] = 3 - skipped as u8;
        value += 1;
    }
    small
};

/// The digits of `value`, which is below 1000, in the first bytes, and their count.
#[inline(always)]
pub fn three_digits(value: u32) -> ([u8; 4], usize) {
    let digits = SMALL.get(value as usize).copied().unwrap_or_default();
    (digits, usize::from(digits[3]))
}

/// Writes RFC 3339 times in UTC with nanoseconds. Exchanges come nearly in order, so the part down
/// to the second is cached, and only computed again when the second changes.
#[derive(Debug)]
pub struct Rfc3339 {
    second: u64,
    /// `2026-11-23T14:00:00.`.
    digits: [u8; 20],
}

/// `time` in RFC 3339.
pub fn rfc3339(time: TimestampNs) -> String {
    let mut out = Vec::with_capacity(Rfc3339::BYTES);
    Rfc3339::default().append(time, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

impl Rfc3339 {
    /// The length of every time it writes. The year has four digits until 2554, where 64 bits end.
    pub const BYTES: usize = 30;

    /// Appends `time`.
    #[inline]
    pub fn append(&mut self, time: TimestampNs, out: &mut Vec<u8>) {
        let (whole, most, last) = self.parts(time);
        out.extend_from_slice(whole);
        out.extend_from_slice(&most);
        out.extend_from_slice(&last);
    }

    /// `time` in three parts: up to the point, the next eight digits, and the last digit with the
    /// end of the time. They are separate because copying them from one buffer would have to wait
    /// until the writes to it have reached the cache.
    #[inline(always)]
    pub fn parts(&mut self, time: TimestampNs) -> (&[u8; 20], [u8; 8], [u8; 2]) {
        let second = time.0 / 1_000_000_000;
        if second != self.second {
            self.second = second;
            self.set_second(second);
        }
        let nanoseconds = (time.0 % 1_000_000_000) as u32;
        let most = eight_digits(nanoseconds / 10).to_le_bytes();
        (&self.digits, most, [b'0' + (nanoseconds % 10) as u8, b'Z'])
    }

    #[cold]
    fn set_second(&mut self, second: u64) {
        let (year, month, day) = civil_from_days(second / DAY_S);
        let of_day = (second % DAY_S) as u32;
        put_decimal(&mut self.digits[0..4], year);
        put_decimal(&mut self.digits[5..7], month);
        put_decimal(&mut self.digits[8..10], day);
        put_decimal(&mut self.digits[11..13], of_day / 3600);
        put_decimal(&mut self.digits[14..16], of_day / 60 % 60);
        put_decimal(&mut self.digits[17..19], of_day % 60);
    }
}

impl Default for Rfc3339 {
    fn default() -> Rfc3339 {
        Rfc3339 { second: 0, digits: *b"1970-01-01T00:00:00." }
    }
}

/// Fills `digits` with the last decimal digits of `value`.
#[inline]
fn put_decimal(digits: &mut [u8], mut value: u32) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// The Gregorian date of the day that is `days` after 1970-01-01. Counts years from March, so that
/// the leap day is the last day of its year, in eras of 400 years or 146,097 days.
pub(crate) fn civil_from_days(days: u64) -> (u32, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year as u32, month as u32, day as u32)
}

/// The length of the longest address: `ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff`.
pub const IP_BYTES_MAX: usize = 39;

/// Appends an address, in dotted decimal or as defined in RFC 5952.
#[inline]
pub fn append_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => append_ipv4(ip, out),
        IpAddr::V6(ip) => append_ipv6(ip, out),
    }
}

fn append_ipv4(ip: Ipv4Addr, out: &mut Vec<u8>) {
    for (index, octet) in ip.octets().into_iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        let (digits, len) = three_digits(octet.into());
        out.extend_from_slice(&digits[..len]);
    }
}

fn append_ipv6(ip: Ipv6Addr, out: &mut Vec<u8>) {
    if let Some(mapped) = ip.to_ipv4_mapped() {
        out.extend_from_slice(b"::ffff:");
        return append_ipv4(mapped, out);
    }
    let groups = ip.segments();
    let (hole, hole_len) = longest_zeros(&groups);
    let mut index = 0;
    while index < groups.len() {
        if hole_len > 1 && index == hole {
            out.extend_from_slice(b"::");
            index += hole_len;
            continue;
        }
        if index > 0 && !(hole_len > 1 && index == hole + hole_len) {
            out.push(b':');
        }
        append_group(groups[index], out);
        index += 1;
    }
}

/// The start and length of the longest run of zero groups; the first one if several are equally
/// long (RFC 5952 section 4.2).
fn longest_zeros(groups: &[u16; 8]) -> (usize, usize) {
    let mut longest = (0, 0);
    let mut current = (0, 0);
    for (index, group) in groups.iter().enumerate() {
        if *group == 0 {
            if current.1 == 0 {
                current.0 = index;
            }
            current.1 += 1;
            if current.1 > longest.1 {
                longest = current;
            }
        } else {
            current.1 = 0;
        }
    }
    longest
}

/// A group in lower-case hexadecimal without leading zeros.
fn append_group(group: u16, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut is_leading = true;
    for shift in [12, 8, 4, 0] {
        let nibble = group >> shift & 15;
        is_leading &= nibble == 0 && shift > 0;
        if !is_leading {
            out.push(DIGITS[nibble as usize]);
        }
    }
}

/// Appends a list of numbers after `key`, which contains the opening bracket.
pub fn append_list(key: &[u8], values: impl Iterator<Item = u16>, out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    for (index, value) in values.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        append_decimal(u64::from(value), out);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time(nanoseconds: u64) -> String {
        let mut out = Vec::new();
        Rfc3339::default().append(TimestampNs(nanoseconds), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_known_from_elsewhere() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(time(951_782_399_999_999_999), "2000-02-28T23:59:59.999999999Z");
        assert_eq!(time(951_782_400_000_000_000), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(time(1_795_442_400_123_456_789), "2026-11-23T14:00:00.123456789Z");
        assert_eq!(time(4_107_542_400_000_000_000), "2100-03-01T00:00:00.000000000Z");
        assert_eq!(time(u64::MAX), "2554-07-21T23:34:33.709551615Z");
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes minutes under Miri")]
    fn every_day_follows_the_one_before() {
        let mut before = (1969, 12, 31);
        for days in 0..213_600 {
            let (year, month, day) = civil_from_days(days);
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let is_next = match (month, day) {
                (1, 1) => before == (year - 1, 12, 31),
                (3, 1) => before == (year, 2, if is_leap { 29 } else { 28 }),
                (5 | 7 | 10 | 12, 1) => before == (year, month - 1, 30),
                (_, 1) => before == (year, month - 1, 31),
                _ => before == (year, month, day - 1),
            };
            assert!(is_next, "{before:?} then {year}-{month}-{day}");
            before = (year, month, day);
        }
    }

    #[test]
    fn the_cached_second_is_left_and_entered() {
        let mut times = Rfc3339::default();
        let mut out = Vec::new();
        for nanoseconds in [1_000_000_000, 1_000_000_001, 86_400_000_000_000, 1_000_000_002] {
            out.clear();
            times.append(TimestampNs(nanoseconds), &mut out);
            assert_eq!(out, time(nanoseconds).as_bytes());
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes minutes under Miri")]
    fn eight_digits_of_each_number_of_four_and_of_some_of_eight() {
        for four in 0..10_000 {
            for value in [four, four * 10_000, four * 10_001, 99_999_999 - four] {
                let digits = eight_digits(value).to_le_bytes();
                assert_eq!(digits, format!("{value:08}").as_bytes());
            }
        }
    }

    fn ip_text(ip: IpAddr) -> String {
        let mut out = Vec::new();
        append_ip(ip, &mut out);
        assert!(out.len() <= IP_BYTES_MAX);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn addresses_match_std(
            v4 in any::<[u8; 4]>(),
            v6 in prop::array::uniform8(prop_oneof![Just(0_u16), 0..16_u16, any::<u16>()]),
            number in any::<u64>(),
        ) {
            let (v4, v6) = (IpAddr::from(v4), IpAddr::from(v6));
            prop_assert_eq!(ip_text(v4), v4.to_string());
            prop_assert_eq!(ip_text(v6), v6.to_string());
            let mut out = Vec::new();
            append_decimal(number, &mut out);
            prop_assert_eq!(out, number.to_string().into_bytes());
            let hex = eight_hex_digits(number as u32).to_le_bytes().to_vec();
            prop_assert_eq!(hex, format!("{:08x}", number as u32).into_bytes());
        }
    }

    #[test]
    fn addresses_with_a_name() {
        for text in ["::", "::1", "1::", "::ffff:1.2.3.4", "2001:db8::1:0:0:1", "1:0:2:0:3:0:4:0"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(ip_text(ip), text);
        }
    }
}
