//! [`UnknownName`]: what becomes of messages that nobody here handles.

use super::{ReadError, ReadErrorKind, reader::name_of};
use crate::{Message, error::BoxError};

/// What becomes of a message whose name a handler or a group does not know, or that has no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnknownName {
    /// It has failed, with a [`ReadError`] that is [`Permanent`](crate::error::Permanent): the handler's policy decides,
    /// and nothing is lost. A policy that ends in a nack has it come again, later each time.
    Refuse,
    /// It is acked: others handle it. Shown in the log at level DEBUG.
    Skip,
}

/// The names that a handler knows, and what becomes of others.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) names: Vec<String>,
    pub(super) policy: UnknownName,
}

impl Known {
    /// Whether a message is called by one of the names. There are few.
    pub(super) fn has(&self, message: &Message) -> bool {
        name_of(message).is_some_and(|name| self.names.iter().any(|known| known == name))
    }

    /// What becomes of a message that is not.
    pub(super) fn unknown(&self, message: &Message) -> Result<(), BoxError> {
        self.policy.decide(message, || format!("{:?}", self.names))
    }
}

impl UnknownName {
    /// Whether the message is skipped. `known` says what is handled here.
    #[cold]
    pub(super) fn decide(self, message: &Message, known: impl FnOnce() -> String) -> Result<(), BoxError> {
        let name = name_of(message);
        match self {
            Self::Skip => {
                tracing::debug!(message_id = %message.id(), name, "skipped a message that is not handled here");
                Ok(())
            }
            Self::Refuse => {
                let what = match name {
                    Some(name) => format!("the name {name:?}"),
                    None => "no name".to_owned(),
                };
                let text =
                    format!("find a handler: the message has {what}, and {} are handled here", known());
                Err(ReadError::new(ReadErrorKind::Name, text).permanent())
            }
        }
    }
}
