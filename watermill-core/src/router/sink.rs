//! [`Sink`]: where the outputs of a handler go.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, join_all};

use super::{Outputs, shared_error::SharedError};
use crate::{
    Message, Publisher,
    error::{BoxError, NotAccepted, Permanent, PublishError},
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
        let (Some(publisher), Some(topic)) = (&self.publisher, &self.topic) else {
            return self.publish_by_topic(outputs);
        };
        match outputs.into_messages() {
            // What nearly every handler does; no allocation beyond the publisher's own future.
            Ok(messages) => Ok(publisher.publish(topic, messages)),
            Err(outputs) => self.publish_by_topic(outputs),
        }
    }

    fn publish_by_topic(
        &self,
        outputs: Outputs,
    ) -> Result<BoxFuture<'_, Result<(), PublishError>>, BoxError> {
        let publisher = self.publisher()?;
        let calls = outputs.by_topic(self.topic.as_deref())?;
        let calls = calls.map(|(topic, messages)| async move { publisher.publish(&topic, messages).await });
        // Every call is heard to its end: one that fails does not cancel the others.
        Ok(join_all(calls).map(|results| results.into_iter().collect()).boxed())
    }

    /// Publishes the outputs of several messages, in their order, with one call for each topic. The results are
    /// those of the messages: one fails if any of its outputs was not accepted, or comes behind one of the same
    /// key that was not.
    pub(super) async fn publish_together(&self, members: Vec<Outputs>) -> Vec<Result<(), BoxError>> {
        let mut results = Vec::with_capacity(members.len());
        let mut calls = Vec::new();
        for (member, outputs) in members.into_iter().enumerate() {
            results.push(self.route(member, outputs, &mut calls));
        }
        // Without a publisher nothing was routed.
        let Some(publisher) = &self.publisher else { return results };
        let ended = join_all(calls.into_iter().map(|call| call.publish(&**publisher))).await;
        for (error, members) in ended.into_iter().filter_map(Result::err) {
            let error = SharedError::new("publish the outputs of the batch", error);
            for member in members {
                if results[member].is_ok() {
                    results[member] = Err(error.clone().into());
                }
            }
        }
        results
    }

    /// Puts the outputs of one message into the calls for their topics; all of them or none.
    fn route(&self, member: usize, outputs: Outputs, calls: &mut Vec<Call>) -> Result<(), BoxError> {
        self.publisher()?;
        for (topic, messages) in outputs.by_topic(self.topic.as_deref())? {
            Call::to(&topic, calls).add(member, messages);
        }
        Ok(())
    }

    fn publisher(&self) -> Result<&Arc<dyn Publisher>, BoxError> {
        self.publisher.as_ref().ok_or_else(|| {
            misdirected(match &self.topic {
                None => "the handler has no publisher, but a layer produced messages",
                Some(_) => {
                    "the handler leaves publishing to a layer (`Handler::to_topic`), and none of its layers took \
                     the outputs; add the layer that publishes them"
                }
            })
        })
    }
}

/// A call to publish, with the number of the member that each message is an output of.
struct Call {
    topic: String,
    messages: Vec<Message>,
    members: Vec<usize>,
}

impl Call {
    /// The call for this topic.
    fn to<'c>(topic: &str, calls: &'c mut Vec<Self>) -> &'c mut Self {
        let known = calls.iter().position(|call| call.topic == topic);
        let at = known.unwrap_or_else(|| {
            calls.push(Self { topic: topic.to_owned(), messages: Vec::new(), members: Vec::new() });
            calls.len() - 1
        });
        &mut calls[at]
    }

    fn add(&mut self, member: usize, messages: Vec<Message>) {
        self.members.extend(messages.iter().map(|_| member));
        self.messages.extend(messages);
    }

    /// On failure, the members that have failed with it.
    async fn publish(self, publisher: &dyn Publisher) -> Result<(), (PublishError, Vec<usize>)> {
        let Self { topic, messages, members } = self;
        let keys: Vec<_> = messages.iter().map(|message| message.key().cloned()).collect();
        publisher.publish(&topic, messages).await.map_err(|error| {
            let failed = failed(error.not_accepted(), &keys, &members);
            (error, failed)
        })
    }
}

/// The members of a call of which an output was not accepted, or comes behind one of its key that was not: to
/// ack such a one, and publish the earlier one later, would turn the order of the key around.
fn failed(not_accepted: &NotAccepted, keys: &[Option<Bytes>], members: &[usize]) -> Vec<usize> {
    let NotAccepted::At(positions) = not_accepted else { return members.to_vec() };
    let mut refused_keys = HashSet::new();
    let mut failed = Vec::new();
    for (at, (key, member)) in keys.iter().zip(members).enumerate() {
        let refused = positions.contains(&at);
        if refused || key.as_ref().is_some_and(|key| refused_keys.contains(key)) {
            refused_keys.extend(key);
            failed.push(*member);
        }
    }
    failed
}

fn misdirected(reason: &'static str) -> BoxError {
    Permanent::new(reason).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_key_what_comes_behind_a_refused_message_has_failed_too() {
        let keys = ["a", "b", "a", "b"].map(|key| Some(Bytes::from(key)));
        let members = [0, 1, 2, 3];
        assert_eq!(failed(&NotAccepted::At(vec![1]), &keys, &members), [1, 3]);
        assert_eq!(failed(&NotAccepted::All, &keys, &members), members);
        let keyless = [None, None, None, None];
        assert_eq!(failed(&NotAccepted::At(vec![1]), &keyless, &members), [1]);
    }
}
