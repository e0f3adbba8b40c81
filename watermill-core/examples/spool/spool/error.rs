//! The only mapping from native errors to what they mean.

use std::io::{self, ErrorKind};

use watermill_core::backend::{Failure, Trouble};

pub(super) fn classify(error: io::Error) -> Failure {
    let trouble = match error.kind() {
        ErrorKind::InvalidFilename => Trouble::Topic,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Trouble::Refused,
        ErrorKind::NotFound | ErrorKind::NotADirectory => Trouble::Mismatch,
        // A full disk, too many open files, a network share that is away: it passes.
        _ => Trouble::Unavailable,
    };
    Failure::new(trouble, error)
}
