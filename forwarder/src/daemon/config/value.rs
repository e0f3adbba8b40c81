//! [`Value`]: what an option is set to, and [`Kind`]: what it may be set to.

use std::{fmt, time::Duration};

use toml::de::DeValue;

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    /// Shown nowhere, and not taken from the command line.
    Secret,
    /// A number with its unit.
    Duration,
    Count,
    Flag,
    Choice(&'static [&'static str]),
    /// A count from 1 on, or `never`.
    Attempts,
}

/// What an option is set to.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Secret(String),
    Duration(Duration),
    Count(u64),
    Flag(bool),
    Attempts(Option<u32>),
}

impl Kind {
    /// Reads text, as flags and variables have it.
    pub(crate) fn read(self, text: &str) -> Result<Value, String> {
        match self {
            Self::Text => Ok(Value::Text(text.to_owned())),
            Self::Secret => Ok(Value::Secret(text.to_owned())),
            Self::Duration => duration(text).map(Value::Duration),
            Self::Count => {
                let count = text.parse().map_err(|_| format!("{text:?} is no whole number"))?;
                Ok(Value::Count(count))
            }
            Self::Flag => match text {
                "true" => Ok(Value::Flag(true)),
                "false" => Ok(Value::Flag(false)),
                _ => Err(format!("{text:?} is neither true nor false")),
            },
            Self::Choice(choices) if choices.contains(&text) => Ok(Value::Text(text.to_owned())),
            Self::Choice(choices) => Err(format!("{text:?} is none of {}", choices.join(", "))),
            Self::Attempts => match text {
                "never" => Ok(Value::Attempts(None)),
                _ => {
                    let attempts = text.parse().map_err(|_| format!("{text:?} is neither a count nor never"));
                    attempts.map(|attempts| Value::Attempts(Some(attempts)))
                }
            },
        }
    }

    /// Reads a value of the file, whose type must be right, too.
    pub(crate) fn read_toml(self, value: &DeValue<'_>) -> Result<Value, String> {
        match (self, value) {
            (Self::Duration, DeValue::Integer(number)) => {
                Err(format!("{number} of what? Give a unit, as in \"{number}s\" or \"{number}ms\""))
            }
            (
                Self::Text | Self::Secret | Self::Duration | Self::Choice(_) | Self::Attempts,
                DeValue::String(text),
            ) => self.read(text),
            (Self::Count | Self::Attempts, DeValue::Integer(number)) => {
                self.read(&number.to_string().replace('_', ""))
            }
            (Self::Flag, DeValue::Boolean(flag)) => Ok(Value::Flag(*flag)),
            _ => Err(format!("it is {}, and not {}", value.type_str(), self.expected())),
        }
    }

    /// What is taken, in words.
    pub(crate) fn expected(self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Secret => "text (a secret)".to_owned(),
            Self::Duration => "a duration such as \"30s\" or \"250ms\"".to_owned(),
            Self::Count => "a whole number".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::Choice(choices) => format!("one of {}", choices.join(", ")),
            Self::Attempts => "a count, or \"never\"".to_owned(),
        }
    }
}

/// `250ms`, `30s`, `5m`, `1h`, and sums such as `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: write 250ms, 30s, 5m or 1h");
    let mut rest = text;
    let mut sum = Duration::ZERO;
    if text == "0" {
        return Ok(sum);
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u32 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return Err(wrong()),
        };
        sum = unit.checked_mul(number).and_then(|part| sum.checked_add(part)).ok_or_else(wrong)?;
        rest = &rest[letters..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(sum) }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&super::secret::without_password(text)),
            Self::Secret(_) => f.write_str("***"),
            Self::Duration(duration) => write!(f, "{duration:?}"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Attempts(Some(attempts)) => write!(f, "{attempts}"),
            Self::Attempts(None) => f.write_str("never"),
        }
    }
}

/// As it is displayed: without secrets.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit() {
        for (text, milliseconds) in
            [("250ms", 250), ("30s", 30_000), ("1m30s", 90_000), ("0", 0), ("2h", 7_200_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "30", "s", "30 s", "-1s", "1d", "99999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_value_says_what_it_should_have_been() {
        assert_eq!(Kind::Flag.read("yes").unwrap_err(), "\"yes\" is neither true nor false");
        assert_eq!(Kind::Choice(&["a", "b"]).read("c").unwrap_err(), "\"c\" is none of a, b");
        assert_eq!(Kind::Attempts.read("never"), Ok(Value::Attempts(None)));
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{0} {0:?}", Kind::Secret.read("hunter2").unwrap()), "*** ***");
        let url = Kind::Text.read("postgres://me:hunter2@h/d").unwrap();
        assert_eq!(url.to_string(), "postgres://me:***@h/d");
    }
}
