//! What of a partition is enlisted in the open transaction of an exactly-once publisher.

/// Records of which something has been published in the open transaction: they are enlisted, to be done
/// when it is committed.
#[derive(Debug, Default)]
pub(super) struct Enlisted {
    /// How many entries, from the front on, are done or enlisted.
    pub(super) covered: usize,
    /// How many are enlisted and not done.
    pub(super) open: usize,
    /// Whether an enlisted one was not done after all.
    pub(super) broken: bool,
}

/// Whether a record can be enlisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enlistment {
    /// It is.
    Made,
    /// Not before those before it are: the group's position could not pass them.
    Early,
    /// One before it was nacked and comes again, and so does it, whatever is said of it from now on.
    Behind,
    /// It is not in hand.
    Lost,
}

/// What became of the enlisted records of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EnlistedState {
    Yes,
    NotYet,
    No,
}
