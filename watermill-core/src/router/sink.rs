//! [`Sink`]: where the outputs of a handler go.

use std::{borrow::Cow, sync::Arc};

use futures::future::{BoxFuture, FutureExt, join_all};

use super::Outputs;
use crate::{
    Publisher,
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
        let mut calls = outputs.by_topic(self.topic.as_deref())?;
        if calls.len() == 1
            && let Some((topic, messages)) = calls.next()
        {
            return Ok(match topic {
                // What nearly every handler does; no allocation beyond the publisher's own future.
                Cow::Borrowed(topic) => publisher.publish(topic, messages),
                Cow::Owned(topic) => async move { publisher.publish(&topic, messages).await }.boxed(),
            });
        }
        let calls = calls.map(|(topic, messages)| async move { publisher.publish(&topic, messages).await });
        // Every call is heard to its end: one that fails does not cancel the others.
        Ok(join_all(calls).map(|results| results.into_iter().collect()).boxed())
    }
}

fn misdirected(reason: &'static str) -> BoxError {
    Permanent::new(reason).into()
}
