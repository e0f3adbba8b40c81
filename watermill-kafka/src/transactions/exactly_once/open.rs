//! [`Open`]: the transaction that is open, and what is enlisted in it.

use std::{collections::HashMap, sync::Arc};

use tokio::time::Instant;
use watermill_core::delivery::Token;

use crate::{
    ledger::{EnlistedState, Enlistment},
    producer::Client as Producer,
    report::Call,
    settle::Shared,
};

/// A delivery that something was made of.
#[derive(Clone)]
pub(super) struct Cause {
    pub(super) shared: Arc<Shared>,
    pub(super) token: Token,
}

/// A transaction from its beginning to its end.
pub(super) struct Open {
    pub(super) producer: Arc<Producer>,
    /// Hears of every message in it.
    pub(super) call: Arc<Call>,
    sent: Vec<Sent>,
    /// The assignments of partitions whose deliveries are enlisted in it, by the address of their subscription's state.
    parts: HashMap<(usize, u64), Arc<Shared>>,
    messages: usize,
    /// Calls that are queueing their messages.
    sending: usize,
    /// Nothing new is let in.
    closing: bool,
    /// Why it cannot be committed.
    pub(super) broken: Option<String>,
    /// When the first message was let in. The broker counts from about then.
    pub(super) since: Option<Instant>,
}

/// One call's messages.
struct Sent {
    /// The position of the first of them in the transaction.
    first: usize,
    topic: Arc<str>,
    causes: Vec<Cause>,
}

/// Whether everything that was enlisted in a transaction is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    Yes,
    NotYet,
    /// It cannot be committed.
    No,
}

impl Open {
    pub(super) fn new(producer: Arc<Producer>) -> Self {
        Self {
            producer,
            call: Call::open(),
            sent: Vec::new(),
            parts: HashMap::new(),
            messages: 0,
            sending: 0,
            closing: false,
            broken: None,
            since: None,
        }
    }

    /// Enlisted the deliveries of a call, all or none; `None` when it is too late for that.
    pub(super) fn enlist(&mut self, causes: &[Cause]) -> Option<Enlistment> {
        if self.closing && !causes.iter().all(Cause::is_enlisted) {
            return None;
        }
        let mut made: Vec<&Cause> = Vec::new();
        for cause in causes {
            let before = cause.is_enlisted();
            let enlisted = cause.shared.enlist(cause.token);
            if enlisted != Enlistment::Made {
                made.into_iter().rev().for_each(|cause| cause.shared.withdraw_enlisted(cause.token));
                return Some(enlisted);
            }
            if !before {
                made.push(cause);
            }
        }
        for Cause { shared, token } in causes {
            self.parts.entry((Arc::as_ptr(shared).addr(), token.scope)).or_insert_with(|| shared.clone());
        }
        Some(Enlistment::Made)
    }

    /// Lets a call in whose deliveries are enlisted: the position of its first message.
    pub(super) fn enter(&mut self, topic: &Arc<str>, messages: usize, causes: Vec<Cause>) -> usize {
        let first = self.messages;
        self.messages += messages;
        self.call.expect(messages);
        self.sending += 1;
        self.since.get_or_insert_with(Instant::now);
        self.sent.push(Sent { first, topic: topic.clone(), causes });
        first
    }

    /// A call has queued its messages, or has not.
    pub(super) fn left(&mut self, done: bool) {
        self.sending -= 1;
        if !done {
            self.broken.get_or_insert_with(|| "a call was given up in the middle".to_owned());
        }
    }

    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// Whether what is enlisted in it is done. To be asked once it is closing.
    pub(super) fn settled(&self) -> Settled {
        if self.broken.is_some() {
            // Its messages are not waited for; whoever queues them must be through with it.
            return if self.sending == 0 { Settled::No } else { Settled::NotYet };
        }
        let mut settled = if self.sending == 0 { Settled::Yes } else { Settled::NotYet };
        for ((_, scope), shared) in &self.parts {
            match shared.enlisted_state(*scope) {
                EnlistedState::Yes => {}
                EnlistedState::NotYet => settled = Settled::NotYet,
                EnlistedState::No => return if self.sending == 0 { Settled::No } else { Settled::NotYet },
            }
        }
        settled
    }

    /// Whether every partition that takes part is still ours.
    pub(super) fn holds_all(&self) -> bool {
        self.parts.iter().all(|((_, scope), shared)| {
            shared.holds(*scope) && shared.enlisted_state(*scope) == EnlistedState::Yes
        })
    }

    /// The assignments that take part.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&Arc<Shared>, u64)> {
        self.parts.iter().map(|((_, scope), shared)| (shared, *scope))
    }

    /// The call that a message was of: its topic, and what it was made of.
    pub(super) fn sent(&self, position: usize) -> Option<(&str, &[Cause])> {
        let at = self.sent.partition_point(|sent| sent.first <= position).checked_sub(1)?;
        let Sent { topic, causes, .. } = &self.sent[at];
        Some((topic, causes))
    }
}

impl Cause {
    pub(super) fn is_enlisted(&self) -> bool {
        self.shared.is_enlisted(self.token)
    }
}
