//! [`Sent`]: a call that was sent, and what becomes of its messages.

use std::{collections::HashSet, mem};

use bytes::Bytes;
use lapin::{Confirmation, message::BasicReturnMessage, types::ShortString};
use tokio::{sync::oneshot, time::Instant};
use watermill_core::{Message, backend::Trouble};

use crate::{
    confirms::Place,
    error::{Fault, OnItsWay},
    marshaler,
};

/// What a call is told.
pub(crate) type Answer = oneshot::Receiver<Result<(), Fault>>;

/// A call that was sent.
pub(crate) struct Sent {
    exchange: ShortString,
    routing_key: ShortString,
    messages: Vec<Message>,
    fates: Vec<Fate>,
    /// How many messages are not confirmed.
    awaited: usize,
    /// Where to look for the next message that is returned: they are returned in their order.
    next_return: usize,
    pub(crate) deadline: Instant,
    /// Until it is told.
    caller: Option<oneshot::Sender<Result<(), Fault>>>,
    _place: Place,
}

/// What is known of a message.
#[derive(Debug)]
enum Fate {
    Awaited,
    Accepted,
    Returned(Fault),
    Failed(Fault),
}

impl Sent {
    pub(crate) fn new(
        exchange: ShortString,
        routing_key: ShortString,
        messages: Vec<Message>,
        deadline: Instant,
        place: Place,
    ) -> (Self, Answer) {
        let (caller, answer) = oneshot::channel();
        let fates = messages.iter().map(|_| Fate::Awaited).collect();
        let sent = Self {
            exchange,
            routing_key,
            awaited: messages.len(),
            messages,
            fates,
            next_return: 0,
            deadline,
            caller: Some(caller),
            _place: place,
        };
        (sent, answer)
    }

    /// Whether all that can be known is.
    pub(crate) fn is_known(&self) -> bool {
        self.awaited == 0
    }

    /// Whether nothing else is in it.
    pub(crate) fn is_single(&self) -> bool {
        self.messages.len() == 1
    }

    /// Takes note of a confirm, and hands on what it carries: what the server has returned, of whatever call.
    pub(crate) fn confirmed(
        &mut self,
        at: usize,
        confirmation: lapin::Result<Confirmation>,
    ) -> Option<BasicReturnMessage> {
        self.awaited = self.awaited.saturating_sub(1);
        let (fate, carried) = match confirmation {
            Ok(Confirmation::Nack(carried)) => {
                let why = "the server did not take it: a queue is full, or has met a fault";
                (Fate::Failed(Fault::Found(Trouble::Unavailable, why.to_owned())), carried)
            }
            Ok(confirmation) => (Fate::Accepted, confirmation.take_message()),
            Err(error) => (Fate::Failed(error.into()), None),
        };
        if matches!(self.fates[at], Fate::Awaited) {
            self.fates[at] = fate;
        }
        carried
    }

    /// Takes note that one of its messages was returned, if it is one of its own: it went this way, and is the next of
    /// those with this id and payload.
    pub(crate) fn claims(&mut self, returned: &BasicReturnMessage) -> bool {
        let delivery = &returned.delivery;
        if delivery.exchange != self.exchange || delivery.routing_key != self.routing_key {
            return false;
        }
        let id = marshaler::id_of(&delivery.properties);
        let is_it = |at: &usize| {
            let message = &self.messages[*at];
            let is_open = matches!(self.fates[*at], Fate::Awaited | Fate::Accepted);
            is_open && message.id().as_str().as_bytes() == id && *message.payload() == delivery.data
        };
        let (before, behind) = (0..self.next_return, self.next_return..self.messages.len());
        let Some(at) = behind.chain(before).find(is_it) else { return false };
        let why = format!(
            "no queue takes it: {} (exchange {:?}, routing key {:?}); subscribe first, or publish without `mandatory`",
            returned.reply_text,
            delivery.exchange.as_str(),
            delivery.routing_key.as_str()
        );
        self.fates[at] = Fate::Returned(Fault::Found(Trouble::Topic, why));
        self.next_return = at + 1;
        true
    }

    /// Tells the caller, who may have gone. What is not confirmed has failed, as `late` says.
    pub(crate) fn tell(&mut self, is_alone: bool, late: impl Fn() -> Fault) {
        let Some(caller) = self.caller.take() else { return };
        let mut failed = Vec::new();
        for (at, fate) in self.fates.iter_mut().enumerate() {
            let fault = match fate {
                Fate::Accepted => continue,
                Fate::Awaited => late(),
                Fate::Returned(fault) | Fate::Failed(fault) => mem::replace(fault, Fault::GivenUp),
            };
            let sent = OnItsWay {
                exchange: self.exchange.as_str(),
                routing_key: self.routing_key.as_str(),
                payload_bytes: self.messages[at].payload().len(),
                is_alone,
            };
            failed.push((at, fault.of(&sent)));
        }
        let _ = caller.send(outcome(&self.messages, failed));
    }
}

/// What the caller is told. Behind a message that was not accepted, the others of its key are not either, as far as
/// the caller is to know: published again, they come in their order.
fn outcome(messages: &[Message], failed: Vec<(usize, Fault)>) -> Result<(), Fault> {
    if failed.is_empty() {
        return Ok(());
    }
    let not_accepted: HashSet<usize> = failed.iter().map(|(at, _)| *at).collect();
    let mut keys: HashSet<Option<&Bytes>> = HashSet::new();
    let mut positions = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        if keys.contains(&message.key()) || not_accepted.contains(&at) {
            keys.insert(message.key());
            positions.push(at);
        }
    }
    // What ends the line first, for the next call needs another; then what passes, for trying again may help.
    let worst = failed.into_iter().min_by_key(|(at, why)| (!why.ends_channel(), !why.is_passing(), *at));
    worst.map_or(Ok(()), |(_, why)| Err(Fault::Partly { positions, why: Box::new(why) }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn behind_what_was_not_accepted_its_key_is_not_either() {
        let messages = [("1", "a"), ("2", "b"), ("3", "a"), ("4", "b")]
            .map(|(id, key)| Message::with_id(id, "x").with_key(key));
        let failed = vec![(1, Fault::Found(Trouble::Topic, String::new()))];
        let Err(Fault::Partly { positions, .. }) = outcome(&messages, failed) else { panic!("it failed") };
        assert_eq!(positions, [1, 3]);
        assert!(outcome(&messages, Vec::new()).is_ok());
    }

    #[test]
    fn the_reason_given_is_the_one_that_asks_for_another_line() {
        let messages = [Message::new("1"), Message::new("2")];
        let failed = vec![
            (0, Fault::Found(Trouble::Topic, String::new())),
            (1, Fault::Silent { to: "x", after: Duration::ZERO }),
        ];
        let fault = outcome(&messages, failed).unwrap_err();
        assert!(fault.ends_channel() && fault.is_passing());
    }
}
