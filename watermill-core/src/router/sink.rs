//! [`Sink`]: where the outputs of a handler go.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt, join_all};

use super::Outputs;
use crate::{
    Message, Publisher,
    error::{BoxError, Permanent, PublishError},
};

/// The publisher and the topic of a handler; neither, for one that only consumes.
#[derive(Clone)]
pub(super) struct Sink {
    pub(super) publisher: Option<Arc<dyn Publisher>>,
    pub(super) topic: Option<String>,
}

impl Sink {
    /// How many outputs may be on their way while the next message is handled.
    pub(super) fn pipeline(&self, wanted: usize) -> usize {
        match &self.publisher {
            Some(publisher) if publisher.capabilities().keeps_order => wanted,
            _ => 0,
        }
    }

    /// Whether outputs become visible with the ack of the delivery that they were made of.
    pub(super) fn commits_with_ack(&self) -> bool {
        self.publisher.as_ref().is_some_and(|publisher| publisher.capabilities().commits_with_ack)
    }

    /// Publishes outputs: one call for each topic, all begun with the first poll, so that the order of
    /// first polls is the order of the calls.
    pub(super) fn publish(
        &self,
        outputs: Outputs,
    ) -> Result<BoxFuture<'_, Result<(), PublishError>>, BoxError> {
        let Some(publisher) = &self.publisher else {
            return Err(misdirected(match &self.topic {
                None => "the handler has no publisher, but a layer produced messages",
                Some(_) => {
                    "the handler leaves publishing to a layer (`Handler::to_topic`), and none of its layers took \
                     the outputs; add the layer that publishes them"
                }
            }));
        };
        let (messages, addressed) = outputs.into_parts();
        let Some(addressed) = addressed else {
            let Some(topic) = &self.topic else {
                return Err(misdirected("a message names no topic, and the handler has none of its own"));
            };
            // What nearly every handler does; no allocation beyond the publisher's own future.
            return Ok(publisher.publish(topic, messages));
        };
        let mut calls: Vec<(String, Vec<Message>)> = Vec::new();
        if !messages.is_empty() {
            let Some(topic) = &self.topic else {
                return Err(misdirected("a message names no topic, and the handler has none of its own"));
            };
            calls.push((topic.clone(), messages));
        }
        for (topic, message) in addressed {
            match calls.iter_mut().find(|(known, _)| *known == topic) {
                Some((_, messages)) => messages.push(message),
                None => calls.push((topic, vec![message])),
            }
        }
        let calls = calls
            .into_iter()
            .map(|(topic, messages)| async move { publisher.publish(&topic, messages).await });
        // Every call is heard to its end: one that fails does not cancel the others.
        Ok(join_all(calls).map(|results| results.into_iter().collect()).boxed())
    }
}

fn misdirected(reason: &'static str) -> BoxError {
    Permanent::new(reason).into()
}
