//! [`Readiness`]: what lanes can do next.

/// What lanes can do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// A message in a lane needs the service: a retry, or one whose turn has come.
    CallDue,
    /// Another delivery can be taken.
    Room,
    /// Neither.
    Busy,
}
