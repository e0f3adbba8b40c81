//! [`moment`]: when a row was written, as its text says.

use std::time::{Duration, SystemTime};

/// Reads RFC 3339 and what SQLite's `current_timestamp` writes, which is in UTC without saying so; `None` for anything
/// else. To have the server make a number of it would take as long as all other columns together.
pub(super) fn moment(text: &[u8]) -> Option<SystemTime> {
    let (date, time) = (text.get(..10)?, text.get(11..19)?);
    let (&[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1], &[h0, h1, b':', n0, n1, b':', s0, s1]) = (date, time)
    else {
        return None;
    };
    let year = number(&[y0, y1, y2, y3])?;
    let (month, day) = (number(&[m0, m1])?, number(&[d0, d1])?);
    let (hour, minute, second) = (number(&[h0, h1])?, number(&[n0, n1])?, number(&[s0, s1])?);
    let is_one = matches!(text[10], b'T' | b't' | b' ')
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !is_one {
        return None;
    }
    let (nanos, zone) = fraction(&text[19..])?;
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset(zone)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(u64::try_from(seconds).ok()?, nanos))
}

/// Nanoseconds, and what comes after them.
fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let Some(digits) = text.strip_prefix(b".") else { return Some((0, text)) };
    let count = digits.iter().take_while(|digit| digit.is_ascii_digit()).count();
    let (digits, rest) = digits.split_at(count);
    let shown = &digits[..count.min(9)];
    let nanos = number(shown).filter(|_| count > 0)? * 10_i64.pow(9 - shown.len() as u32);
    Some((u32::try_from(nanos).ok()?, rest))
}

/// How many seconds a zone is ahead of UTC.
fn offset(zone: &[u8]) -> Option<i64> {
    match *zone {
        [] | [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h0, h1, b':', m0, m1] => {
            let ahead = number(&[h0, h1])? * 3_600 + number(&[m0, m1])? * 60;
            Some(if sign == b'-' { -ahead } else { ahead })
        }
        _ => None,
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

/// The days from the Unix epoch to a date of the Gregorian calendar. Years are counted from March, so that a leap day
/// is the last of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    const TO_THE_EPOCH: i64 = 719_468;
    let year = if month <= 2 { year - 1 } else { year };
    let months = (month + 9) % 12;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (months * 153 + 2) / 5 + day - 1 - TO_THE_EPOCH
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nanos(text: &str) -> Option<u128> {
        Some(moment(text.as_bytes())?.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos())
    }

    #[test]
    fn what_we_and_go_write_is_read() {
        assert_eq!(nanos("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(nanos("2024-05-01T08:00:00.123Z"), Some(1_714_550_400_123_000_000));
        assert_eq!(nanos("2024-05-01T08:00:00.123456789Z"), Some(1_714_550_400_123_456_789));
        assert_eq!(nanos("2024-05-01T10:30:00.5+02:30"), Some(1_714_550_400_500_000_000));
        assert_eq!(nanos("2024-05-01T03:00:00-05:00"), Some(1_714_550_400_000_000_000));
        assert_eq!(nanos("2024-05-01 08:00:00"), Some(1_714_550_400_000_000_000));
        assert_eq!(nanos("2000-02-29T23:59:59Z"), Some(951_868_799_000_000_000));
        assert_eq!(nanos("2000-03-01T00:00:00Z"), Some(951_868_800_000_000_000));
        assert_eq!(nanos("2100-03-01T00:00:00Z"), Some(4_107_542_400_000_000_000));
    }

    #[test]
    fn what_is_no_moment_or_before_the_epoch_is_not_known() {
        let others = [
            "",
            "now",
            "2460432.5",
            "1714550400",
            "2024-05-01",
            "2024-05-01T08:00",
            "2024-13-01T08:00:00Z",
            "2024-05-00T08:00:00Z",
            "2024-05-01T24:00:00Z",
            "2024-05-01T08:00:00.Z",
            "2024-05-01T08:00:00 UTC",
            "1969-12-31T23:59:59Z",
            "2024-05-01T08:60:00Z",
            "2O24-05-01T08:00:00Z",
            "2024-05-01T08:00:00é",
        ];
        for text in others {
            assert_eq!(nanos(text), None, "{text}");
        }
    }
}
