//! [`Exit`]: what the exit code says.

use std::process::ExitCode;

/// How a verb ended. The codes are documented in the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All is done.
    Done = 0,
    /// It was not done, as the text on standard error says.
    Failed = 1,
    /// The configuration cannot work. (2 is a command line that is not understood.)
    Config = 3,
    /// An end does not answer, or refuses.
    Unreachable = 4,
    /// A stop was not over within `drain_timeout`.
    Late = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
