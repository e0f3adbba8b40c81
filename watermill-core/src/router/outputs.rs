//! [`Outputs`], what a handler publishes, and [`IntoOutputs`], what it may return.

use std::error::Error;

use serde::Serialize;

use super::{HandlerError, Json, counters::Reason};
use crate::{
    Message,
    error::{BoxError, Permanent},
    message::vector,
};

/// The messages a handler produced: the response type of every service in a router.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    /// For the topic that the handler was given with [`Handler::to`](crate::Handler::to). `None` is the
    /// same as none: what a handler without outputs returns takes one look to drop.
    messages: Option<Vec<Message>>,
    /// Boxed, because it is rare and this is moved a lot.
    rare: Option<Box<Rare>>,
}

#[derive(Clone, Debug, Default)]
struct Rare {
    /// For topics that the handler named itself.
    addressed: Vec<(String, Message)>,
    /// Why a layer has dead-lettered the message that this was made of.
    dead_lettered: Option<Reason>,
}

impl Outputs {
    /// No messages.
    pub const fn none() -> Self {
        Self { messages: None, rare: None }
    }

    /// No messages, of one that a layer has dead-lettered because of `error`: a router acks it and counts it among its dead
    /// letters. [`PoisonQueue`](crate::middleware::PoisonQueue) answers so.
    pub fn dead_lettered(error: &(dyn Error + 'static)) -> Self {
        let rare = Rare { dead_lettered: Some(Reason::of(error)), ..Rare::default() };
        Self { messages: None, rare: Some(Box::new(rare)) }
    }

    /// Whether a layer has dead-lettered the message that this was made of: the try of its handler has failed.
    #[inline]
    pub fn is_dead_lettered(&self) -> bool {
        self.dead_lettered_as().is_some()
    }

    /// No messages, and the same said of the one that this was made of: what a layer answers that publishes the messages
    /// itself.
    #[must_use]
    pub fn without_messages(&self) -> Self {
        let rare =
            self.dead_lettered_as().map(|reason| Rare { dead_lettered: Some(reason), ..Rare::default() });
        Self { messages: None, rare: rare.map(Box::new) }
    }

    /// Adds a message for the handler's own topic.
    pub fn push(&mut self, message: Message) {
        self.messages.get_or_insert_default().push(message);
    }

    /// Adds a message for `topic`.
    pub fn push_to(&mut self, topic: impl Into<String>, message: Message) {
        self.rare.get_or_insert_default().addressed.push((topic.into(), message));
    }

    /// Adds everything of `other`.
    pub fn append(&mut self, other: Self) {
        match (&mut self.messages, other.messages) {
            (Some(messages), Some(mut others)) => messages.append(&mut others),
            (messages @ None, others) => *messages = others,
            (Some(_), None) => {}
        }
        if let Some(mut other) = other.rare {
            let rare = self.rare.get_or_insert_default();
            rare.addressed.append(&mut other.addressed);
            rare.dead_lettered = rare.dead_lettered.or(other.dead_lettered);
        }
    }

    /// Whether there is nothing to publish.
    pub fn is_empty(&self) -> bool {
        self.messages().is_empty() && self.rare.as_ref().is_none_or(|rare| rare.addressed.is_empty())
    }

    /// How many messages there are, for all topics together.
    pub fn len(&self) -> usize {
        self.messages().len() + self.addressed().len()
    }

    /// The messages for the handler's own topic.
    pub fn messages(&self) -> &[Message] {
        self.messages.as_deref().unwrap_or_default()
    }

    /// The messages for topics that the handler named.
    pub fn addressed(&self) -> &[(String, Message)] {
        self.rare.as_deref().map_or(&[], |rare| &rare.addressed)
    }

    /// Every message, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Message> {
        let addressed = self.rare.iter_mut().flat_map(|rare| &mut rare.addressed);
        self.messages.iter_mut().flatten().chain(addressed.map(|(_, message)| message))
    }

    /// Takes the messages for the handler's own topic away.
    pub(crate) fn take_messages(&mut self) -> Vec<Message> {
        self.messages.take().unwrap_or_default()
    }

    /// The messages, where all are for the handler's own topic.
    #[inline]
    pub(super) fn into_messages(self) -> Result<Vec<Message>, Self> {
        match self {
            Self { messages: Some(messages), rare: None } => Ok(messages),
            other => Err(other),
        }
    }

    /// The messages for the handler's own topic, and those for topics that it named, if there are any.
    #[inline]
    pub(super) fn into_parts(self) -> (Vec<Message>, Option<Vec<(String, Message)>>) {
        let addressed = self.rare.map(|rare| rare.addressed).filter(|addressed| !addressed.is_empty());
        (self.messages.unwrap_or_default(), addressed)
    }

    /// Why a layer has dead-lettered the message, if one has.
    #[inline]
    pub(super) fn dead_lettered_as(&self) -> Option<Reason> {
        self.rare.as_ref()?.dead_lettered
    }
}

impl From<Message> for Outputs {
    #[inline]
    fn from(message: Message) -> Self {
        vector::of(message).into()
    }
}

impl From<Vec<Message>> for Outputs {
    fn from(messages: Vec<Message>) -> Self {
        Self { messages: Some(messages), rare: None }
    }
}

/// A message (or JSON) for a topic that the handler names: `To("invoices.due", Json(invoice))`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct To<T, O>(pub T, pub O);

/// Marks return types that produce nothing; such a handler takes no publisher.
#[derive(Debug)]
pub enum Nothing {}

/// Marks return types that produce messages for the handler's topic; such a handler needs
/// [`Handler::to`](crate::Handler::to).
#[derive(Debug)]
pub enum Messages {}

/// Marks return types that name their topics; such a handler needs
/// [`Handler::to_topics`](crate::Handler::to_topics).
#[derive(Debug)]
pub enum Addressed {}

/// Marks services that do not say what they produce: any destination fits. What has no destination
/// then fails its message for good.
#[derive(Debug)]
pub enum Unknown {}

/// What a handler may return.
///
/// `()`, [`Message`], [`Json`], `To(topic, message)`, an `Option`, `Vec`, array or pair of those, and
/// a `Result` of any of them. An output that cannot be encoded is a [`Permanent`] error.
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    note = "return `()`, a `Message`, `Json<T>`, `To(topic, message)`, an `Option` or `Vec` of those, or a `Result` of any of them"
)]
pub trait IntoOutputs {
    /// [`Nothing`], [`Messages`] or [`Addressed`].
    type Kind;

    /// Turns the value into messages.
    ///
    /// # Errors
    ///
    /// The handler's own error, or one that says why a value cannot be encoded.
    fn into_outputs(self) -> Result<Outputs, BoxError>;
}

impl IntoOutputs for () {
    type Kind = Nothing;

    fn into_outputs(self) -> Result<Outputs, BoxError> {
        Ok(Outputs::none())
    }
}

impl IntoOutputs for Message {
    type Kind = Messages;

    fn into_outputs(self) -> Result<Outputs, BoxError> {
        Ok(self.into())
    }
}

impl<T: Serialize> IntoOutputs for Json<T> {
    type Kind = Messages;

    fn into_outputs(self) -> Result<Outputs, BoxError> {
        Ok(Message::json(&self.0).map_err(Permanent::new)?.into())
    }
}

impl<T: Into<String>, O: IntoOutputs<Kind = Messages>> IntoOutputs for To<T, O> {
    type Kind = Addressed;

    fn into_outputs(self) -> Result<Outputs, BoxError> {
        let topic = self.0.into();
        let mut outputs = Outputs::none();
        for message in self.1.into_outputs()?.messages.into_iter().flatten() {
            outputs.push_to(topic.clone(), message);
        }
        Ok(outputs)
    }
}

impl<O: IntoOutputs, E: HandlerError> IntoOutputs for Result<O, E> {
    type Kind = O::Kind;

    fn into_outputs(self) -> Result<Outputs, BoxError> {
        self.map_err(Into::into)?.into_outputs()
    }
}

impl<O: IntoOutputs> IntoOutputs for Option<O> {
    type Kind = O::Kind;

    fn into_outputs(self) -> Result<Outputs, BoxError> {
        self.map_or(Ok(Outputs::none()), O::into_outputs)
    }
}

impl<O: IntoOutputs> IntoOutputs for Vec<O> {
    type Kind = O::Kind;

    fn into_outputs(self) -> Result<Outputs, BoxError> {
        collect(self)
    }
}

impl<O: IntoOutputs, const N: usize> IntoOutputs for [O; N] {
    type Kind = O::Kind;

    fn into_outputs(self) -> Result<Outputs, BoxError> {
        collect(self)
    }
}

impl<A: IntoOutputs, B: IntoOutputs<Kind = A::Kind>> IntoOutputs for (A, B) {
    type Kind = A::Kind;

    fn into_outputs(self) -> Result<Outputs, BoxError> {
        let mut outputs = self.0.into_outputs()?;
        outputs.append(self.1.into_outputs()?);
        Ok(outputs)
    }
}

fn collect<O: IntoOutputs>(items: impl IntoIterator<Item = O>) -> Result<Outputs, BoxError> {
    let mut outputs = Outputs::none();
    for item in items {
        outputs.append(item.into_outputs()?);
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dead_lettered_publishes_nothing_and_is_still_said_to_be_beside_other_outputs() {
        let error = Permanent::new("never");
        let letter = Outputs::dead_lettered(&error);
        assert!(letter.is_empty());
        assert_eq!(letter.dead_lettered_as(), Some(Reason::Permanent));
        let mut both = Outputs::from(Message::new("x"));
        both.append(letter);
        assert_eq!((both.len(), both.dead_lettered_as()), (1, Some(Reason::Permanent)));
        let answer = both.without_messages();
        assert!(answer.is_empty() && answer.is_dead_lettered());
        assert!(!Outputs::from(Message::new("x")).without_messages().is_dead_lettered());
        assert!(both.into_parts().1.is_none());
    }
}
