//! [`Backoff`]: how long to wait before trying again.

use std::{fmt, time::Duration};

use serde::{Serialize, Serializer, ser::SerializeStruct};

/// A schedule of waits that grow up to a maximum, with jitter.
///
/// The default begins at 100 ms, doubles up to 30 s, and varies each wait by up to a fifth.
///
/// ```
/// use std::time::Duration;
/// use watermill_core::Backoff;
///
/// let backoff = Backoff::exponential(Duration::from_millis(20)).jitter(0.0);
/// let waits: Vec<_> = (0..4).map(|retry| backoff.delay(retry).as_millis()).collect();
/// assert_eq!(waits, [20, 40, 80, 160]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    multiplier: f64,
    jitter: f64,
}

impl Backoff {
    /// Waits that begin with `initial` and double, up to 30 s (or `initial`, if that is longer).
    pub fn exponential(initial: Duration) -> Self {
        Self { initial, max: Duration::from_secs(30).max(initial), multiplier: 2.0, jitter: 0.2 }
    }

    /// The same wait every time.
    pub fn constant(delay: Duration) -> Self {
        Self { initial: delay, max: delay, multiplier: 1.0, jitter: 0.0 }
    }

    /// Sets the longest wait, jitter included.
    #[must_use]
    pub fn max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// Sets the factor from one wait to the next. Less than one, or not a number, counts as one.
    #[must_use]
    pub fn multiplier(mut self, multiplier: f64) -> Self {
        self.multiplier = if multiplier >= 1.0 { multiplier } else { 1.0 };
        self
    }

    /// Varies each wait by up to this part of it, up and down: 0.2 is a fifth. Kept within 0 and 1.
    #[must_use]
    pub fn jitter(mut self, jitter: f64) -> Self {
        self.jitter = if jitter.is_nan() { 0.0 } else { jitter.clamp(0.0, 1.0) };
        self
    }

    /// The wait before retry number `retry`, counted from 0.
    pub fn delay(&self, retry: u32) -> Duration {
        let grown =
            self.initial.as_secs_f64() * self.multiplier.powi(i32::try_from(retry).unwrap_or(i32::MAX));
        let varied = grown * (1.0 + self.jitter * (2.0 * fastrand::f64() - 1.0));
        // The product may be infinite long before the exponent is large.
        Duration::try_from_secs_f64(varied).unwrap_or(self.max).min(self.max)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::exponential(Duration::from_millis(100))
    }
}

impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.initial)?;
        if self.multiplier > 1.0 && self.max > self.initial {
            write!(f, ", then {} times longer each time, up to {:?}", self.multiplier, self.max)?;
        }
        if self.jitter > 0.0 {
            write!(f, ", more or less by up to {:.0} %", self.jitter * 100.0)?;
        }
        Ok(())
    }
}

/// To look at: times in milliseconds.
impl Serialize for Backoff {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let mut fields = serializer.serialize_struct("Backoff", 4)?;
        fields.serialize_field("initial_ms", &ms(self.initial))?;
        fields.serialize_field("max_ms", &ms(self.max))?;
        fields.serialize_field("multiplier", &self.multiplier)?;
        fields.serialize_field("jitter", &self.jitter)?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fractional_multiplier_grows_and_the_maximum_holds() {
        // P8 and P10: Go truncates 1.5 to 1, and does not grow at all without a maximum.
        let backoff = Backoff::exponential(Duration::from_secs(1)).multiplier(1.5).jitter(0.0);
        let waits: Vec<_> = (0..3).map(|retry| backoff.delay(retry).as_millis()).collect();
        assert_eq!(waits, [1000, 1500, 2250]);
        assert_eq!(backoff.delay(u32::MAX), Duration::from_secs(30));
    }

    #[test]
    fn jitter_stays_within_its_part() {
        let backoff = Backoff::exponential(Duration::from_millis(100)).jitter(0.5);
        for _ in 0..1000 {
            let delay = backoff.delay(0).as_millis();
            assert!((50..=150).contains(&delay), "{delay}");
        }
    }

    #[test]
    fn it_is_said_in_words_how_long_the_waits_are() {
        let backoff = Backoff::default();
        assert_eq!(
            backoff.to_string(),
            "100ms, then 2 times longer each time, up to 30s, more or less by up to 20 %"
        );
        assert_eq!(Backoff::constant(Duration::from_secs(1)).to_string(), "1s");
    }
}
