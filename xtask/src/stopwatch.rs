//! [`Stopwatch`]: how long a step took.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// Measures real time from its making.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "there is no async runtime here whose clock could differ")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(&self) -> Elapsed {
        Elapsed(self.0.elapsed())
    }
}

/// A duration for people: `0.4 s`, `3 min 7 s`.
#[derive(Clone, Copy)]
pub(crate) struct Elapsed(Duration);

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let text = if seconds < 60 {
            format!("{:.1} s", self.0.as_secs_f64())
        } else {
            format!("{} min {} s", seconds / 60, seconds % 60)
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_for_people() {
        assert_eq!(Elapsed(Duration::from_millis(420)).to_string(), "0.4 s");
        assert_eq!(Elapsed(Duration::from_secs(187)).to_string(), "3 min 7 s");
        assert_eq!(format!("{:>8}", Elapsed(Duration::from_secs(2))), "   2.0 s");
    }
}
