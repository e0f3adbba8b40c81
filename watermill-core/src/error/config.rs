//! [`ConfigError`].

use std::{error::Error, fmt};

/// A configuration that cannot work, with everything that is wrong with it: what every `validate` returns.
/// Nothing was started.
///
/// ```
/// use watermill_core::error::ConfigError;
///
/// fn validate(batch_size: usize, group: &str) -> Result<(), ConfigError> {
///     ConfigError::check("configure the reader")
///         .unless(batch_size > 0, "batch_size is 0, so nothing could ever be read")
///         .unless(!group.is_empty(), "group is empty")
///         .finish()
/// }
/// let error = validate(0, "").unwrap_err();
/// assert_eq!(error.problems().count(), 2);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    what: String,
    problems: Vec<String>,
}

impl ConfigError {
    /// Begins to check what is configured, named by a fragment that reads after "failed to".
    pub fn check(what: impl Into<String>) -> Self {
        Self { what: what.into(), problems: Vec::new() }
    }

    /// A single problem.
    pub fn new(what: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { what: what.into(), problems: vec![problem.into()] }
    }

    /// Adds a problem, a text that names the option, unless all is well with it.
    #[must_use]
    pub fn unless(mut self, is_well: bool, problem: impl Into<String>) -> Self {
        if !is_well {
            self.problems.push(problem.into());
        }
        self
    }

    /// Adds problems, each a text that names the option.
    #[must_use]
    pub fn with(mut self, problems: impl IntoIterator<Item = String>) -> Self {
        self.problems.extend(problems);
        self
    }

    /// # Errors
    ///
    /// Itself, if it has any problem.
    pub fn finish(self) -> Result<(), Self> {
        if self.problems.is_empty() { Ok(()) } else { Err(self) }
    }

    /// Everything that is wrong, each a text of its own that names the option.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        self.problems.iter().map(String::as_str)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.problems.join("; "))
    }
}

impl Error for ConfigError {}
