//! [`ByTopic`]: outputs as publish calls.

use std::{borrow::Cow, vec};

use super::Outputs;
use crate::{Message, error::Permanent};

/// The outputs of a handler by topic: what each publish call takes. Made by [`Outputs::by_topic`].
#[derive(Debug)]
#[must_use = "the messages are not published yet"]
pub struct ByTopic<'t> {
    own: Option<(&'t str, Vec<Message>)>,
    named: vec::IntoIter<(String, Vec<Message>)>,
}

impl Outputs {
    /// Takes the messages topic by topic, each with its messages in order; `own` is the handler's own topic.
    /// Its messages come first, the other topics in the order in which they were named.
    ///
    /// This is how a layer publishes what a handler returned, in a transaction of its own for instance. It
    /// finds the handler's topic in [`HandlerInfo::publish_topic`](crate::HandlerInfo::publish_topic), and
    /// returns [`Outputs::none`] for what it has published. See [`Handler::to_topic`](crate::Handler::to_topic).
    ///
    /// ```
    /// use watermill_core::{Message, Outputs, Publisher, error::BoxError};
    ///
    /// async fn publish(publisher: &dyn Publisher, outputs: Outputs, own: Option<&str>) -> Result<(), BoxError> {
    ///     for (topic, messages) in outputs.by_topic(own)? {
    ///         publisher.publish(&topic, messages).await?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// When a message names no topic and the handler has none of its own: trying again does not help.
    #[inline]
    pub fn by_topic(self, own: Option<&str>) -> Result<ByTopic<'_>, Permanent> {
        let (messages, addressed) = self.into_parts();
        let own = match own {
            _ if messages.is_empty() => None,
            Some(topic) => Some((topic, messages)),
            None => {
                return Err(Permanent::new("a message names no topic, and the handler has none of its own"));
            }
        };
        // What nearly every handler does allocates nothing.
        let mut by_topic = ByTopic { own, named: Vec::new().into_iter() };
        if let Some(addressed) = addressed {
            by_topic.add(addressed);
        }
        Ok(by_topic)
    }
}

impl ByTopic<'_> {
    fn add(&mut self, addressed: Vec<(String, Message)>) {
        let mut named: Vec<(String, Vec<Message>)> = Vec::new();
        for (topic, message) in addressed {
            match (&mut self.own, named.iter_mut().find(|(known, _)| *known == topic)) {
                (Some((own, messages)), _) if *own == topic => messages.push(message),
                (_, Some((_, messages))) => messages.push(message),
                (_, None) => named.push((topic, vec![message])),
            }
        }
        self.named = named.into_iter();
    }
}

impl<'t> Iterator for ByTopic<'t> {
    type Item = (Cow<'t, str>, Vec<Message>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if let Some((topic, messages)) = self.own.take() {
            return Some((Cow::Borrowed(topic), messages));
        }
        self.named.next().map(|(topic, messages)| (Cow::Owned(topic), messages))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let topics = usize::from(self.own.is_some()) + self.named.len();
        (topics, Some(topics))
    }
}

impl ExactSizeIterator for ByTopic<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(outputs: Outputs, own: Option<&str>) -> Vec<(String, Vec<String>)> {
        let ids = |messages: Vec<Message>| messages.iter().map(|message| message.id().to_string()).collect();
        let by_topic = outputs.by_topic(own).unwrap();
        let announced = by_topic.len();
        let topics: Vec<_> = by_topic.map(|(topic, messages)| (topic.into_owned(), ids(messages))).collect();
        assert_eq!(topics.len(), announced);
        topics
    }

    fn message(id: &'static str) -> Message {
        Message::with_id(id, "x")
    }

    #[test]
    fn each_topic_comes_once_with_its_messages_in_order() {
        let mut outputs = Outputs::none();
        outputs.push_to("b", message("1"));
        outputs.push(message("2"));
        outputs.push_to("a", message("3"));
        outputs.push_to("b", message("4"));
        outputs.push_to("own", message("5"));
        let expected = [("own", vec!["2", "5"]), ("b", vec!["1", "4"]), ("a", vec!["3"])];
        let expected =
            expected.map(|(topic, ids)| (topic.to_owned(), ids.into_iter().map(str::to_owned).collect()));
        assert_eq!(topics(outputs, Some("own")), expected);
    }

    #[test]
    fn a_message_without_any_topic_is_refused_for_good() {
        let error = Outputs::from(message("1")).by_topic(None).unwrap_err();
        assert!(error.to_string().contains("names no topic"), "{error}");
        assert_eq!(topics(Outputs::none(), None), []);
    }
}
