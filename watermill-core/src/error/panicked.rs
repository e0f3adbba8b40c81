//! [`Panicked`].

use std::{error::Error, fmt};

/// A handler, or a layer around it, panicked while it handled a message.
///
/// The message is treated like one whose handler returned an error. Where the panic happened is
/// printed by the panic hook, when it happens.
#[derive(Debug)]
pub struct Panicked {
    message: String,
}

impl Panicked {
    pub(crate) fn new(message: String) -> Self {
        Self { message }
    }

    /// What it panicked with.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run the handler: it panicked: {}", self.message)
    }
}

impl Error for Panicked {}
