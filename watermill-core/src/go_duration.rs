//! Durations as Go writes them, `1m30s` or `1.5s`: part of a few metadata entries shared with Go
//! Watermill.

use std::{error::Error, fmt, fmt::Write, time::Duration};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The longest duration that Go can hold, 292 years.
pub(crate) const MAX: Duration = Duration::from_nanos(i64::MAX as u64);

/// The text that Go's `Duration.String` gives. What is too long for Go is cut to Go's maximum.
///
/// ```
/// use std::time::Duration;
/// use watermill_core::go_duration;
///
/// assert_eq!(go_duration::format(Duration::from_millis(90_500)), "1m30.5s");
/// assert_eq!(go_duration::parse("1m30.5s").unwrap(), Duration::from_millis(90_500));
/// ```
pub fn format(duration: Duration) -> String {
    let nanos = duration.min(MAX).as_nanos() as u64;
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => decimal(nanos, 1, "ns"),
        1_000..1_000_000 => decimal(nanos, 1_000, "µs"),
        1_000_000..NANOS_PER_SECOND => decimal(nanos, 1_000_000, "ms"),
        _ => {
            let (hours, rest) = (nanos / (3600 * NANOS_PER_SECOND), nanos % (3600 * NANOS_PER_SECOND));
            let (minutes, rest) = (rest / (60 * NANOS_PER_SECOND), rest % (60 * NANOS_PER_SECOND));
            let mut text = String::new();
            if hours > 0 {
                let _ = write!(text, "{hours}h");
            }
            if hours > 0 || minutes > 0 {
                let _ = write!(text, "{minutes}m");
            }
            text + &decimal(rest, NANOS_PER_SECOND, "s")
        }
    }
}

/// Reads what Go's `ParseDuration` reads, negative durations aside.
///
/// # Errors
///
/// [`GoDurationError`] for other text, and for durations that Go cannot hold.
pub fn parse(text: &str) -> Result<Duration, GoDurationError> {
    read(text).ok_or_else(|| GoDurationError { text: text.chars().take(64).collect() })
}

/// The text is not a duration that Go could have written, or a negative one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoDurationError {
    /// The beginning of it.
    text: String,
}

impl fmt::Display for GoDurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read {:?} as a duration such as \"1m30s\"", self.text)
    }
}

impl Error for GoDurationError {}

fn decimal(nanos: u64, unit: u64, name: &str) -> String {
    let (whole, part) = (nanos / unit, nanos % unit);
    if part == 0 {
        return format!("{whole}{name}");
    }
    let width = unit.ilog10() as usize;
    let part = format!("{part:0width$}");
    format!("{whole}.{}{name}", part.trim_end_matches('0'))
}

fn read(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = split_where(rest, |c| !c.is_ascii_digit() && c != '.');
        let (unit, after) = split_where(after, |c| c.is_ascii_digit() || c == '.');
        total = total.checked_add(nanos(number, unit_nanos(unit)?)?)?;
        rest = after;
    }
    (u128::from(total) <= MAX.as_nanos()).then(|| Duration::from_nanos(total))
}

fn split_where(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(end).unwrap_or(text.len()))
}

fn unit_nanos(name: &str) -> Option<u64> {
    Some(match name {
        "ns" => 1,
        // The micro sign, and the Greek letter.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => NANOS_PER_SECOND,
        "m" => 60 * NANOS_PER_SECOND,
        "h" => 3600 * NANOS_PER_SECOND,
        _ => return None,
    })
}

/// A decimal number times `unit`, less than a nanosecond cut off.
fn nanos(number: &str, unit: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && part.is_empty()) || part.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = u128::from(whole) * u128::from(unit);
    // Eighteen digits are more than a part of an hour in nanoseconds can need.
    let part = &part[..part.len().min(18)];
    if !part.is_empty() {
        let scale = 10_u128.pow(part.len() as u32);
        total += u128::from(part.parse::<u64>().ok()?) * u128::from(unit) / scale;
    }
    u64::try_from(total).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_what_go_writes() {
        let second = Duration::from_secs(1);
        for (duration, text) in [
            (Duration::ZERO, "0s"),
            (Duration::from_nanos(1), "1ns"),
            (Duration::from_nanos(1100), "1.1µs"),
            (Duration::from_micros(2200), "2.2ms"),
            (Duration::from_millis(3300), "3.3s"),
            (second * 245 + Duration::from_millis(1), "4m5.001s"),
            (second * 86_400, "24h0m0s"),
            (Duration::from_nanos(i64::MAX as u64), "2562047h47m16.854775807s"),
            (Duration::MAX, "2562047h47m16.854775807s"),
        ] {
            assert_eq!(format(duration), text);
        }
    }

    #[test]
    fn every_form_that_go_accepts_is_read() {
        for (text, nanos) in [
            ("0", 0),
            ("+5s", 5_000_000_000),
            ("5.s", 5_000_000_000),
            (".5s", 500_000_000),
            ("1us1µs1μs", 3_000),
            ("1h15m30.918273645s", 4_530_918_273_645),
            ("0.3333h", 1_199_880_000_000),
            ("10ns", 10),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_an_error() {
        for text in
            ["", "3", "-", "s", ".", "-.", ".s", "+.s", "1d", "-5s", "1..5s", "1.2.3s", "3000000h", "1 s"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"9".repeat(1000)).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(nanos in 0..=i64::MAX as u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9.hmsuµn+-]{0,30}|.{0,20}") {
            let _ = parse(&text);
        }
    }
}
