//! [`Relay`]: a relay that runs, as far as the source and the destination can tell.

use bytes::Bytes;

use super::super::journal::{Journal, Place};

/// A message, by its place in the source.
pub(super) type Id = usize;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Relay {
    /// Which run of a relay it is.
    pub(super) run: u64,
    /// From its first term on.
    pub(super) journal: Option<Journal>,
    pub(super) term: Option<u64>,
    /// The last checkpoint that it knows to be committed.
    pub(super) checkpoint: Option<Bytes>,
    /// What was delivered and is not sent: the message, and the delivery's turn.
    pub(super) in_hand: Vec<(Id, u64)>,
    /// What was sent and is waited for.
    pub(super) sent: Option<Commit>,
    /// What is committed when that is known to be.
    pub(super) next: Option<Commit>,
    /// What was sent and never answered.
    pub(super) in_doubt: Option<Commit>,
    /// Acks on their way.
    pub(super) acks: Vec<(Id, u64)>,
}

/// A transaction on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Commit {
    pub(super) term: u64,
    pub(super) messages: Vec<(Id, u64)>,
    pub(super) checkpoint: Bytes,
}

pub(super) fn place(id: Id) -> Place {
    Place { partition: 0, fingerprint: u64::try_from(id).expect("few messages") }
}

fn places(messages: &[(Id, u64)]) -> impl Iterator<Item = Place> {
    messages.iter().map(|(id, _)| place(*id))
}

impl Relay {
    pub(super) fn new(run: u64) -> Self {
        Self {
            run,
            journal: None,
            term: None,
            checkpoint: None,
            in_hand: Vec::new(),
            sent: None,
            next: None,
            in_doubt: None,
            acks: Vec::new(),
        }
    }

    /// A term has begun, with this checkpoint. False when somebody else was at work.
    pub(super) fn begin(&mut self, term: u64, found: Option<Bytes>, in_hand_max: usize) -> bool {
        let Some(journal) = &mut self.journal else {
            self.journal = Journal::of_run(self.run, found.as_ref(), in_hand_max);
            (self.term, self.checkpoint) = (Some(term), found);
            return true;
        };
        match self.in_doubt.take() {
            Some(commit) if found.as_ref() == Some(&commit.checkpoint) => self.published(commit),
            _ if found != self.checkpoint => return false,
            Some(commit) => {
                journal.take_back(places(&commit.messages));
                self.in_hand.splice(0..0, commit.messages);
            }
            None => {}
        }
        self.term = Some(term);
        true
    }

    /// Acks what is known to be published, drops what is lost, and sends the rest.
    pub(super) fn send(&mut self, turn: u64, waits_for_answers: bool) {
        let (Some(term), Some(journal)) = (self.term, &mut self.journal) else { return };
        // What is not known yet to be published, and was delivered again meanwhile, is neither passed nor sent.
        let on_its_way =
            |id: &Id| self.sent.iter().flat_map(|sent| &sent.messages).any(|(sent, _)| sent == id);
        if waits_for_answers && self.in_hand.iter().any(|(id, _)| on_its_way(id)) {
            return;
        }
        for (id, of) in std::mem::take(&mut self.in_hand) {
            if journal.is_known(place(id)) {
                self.acks.push((id, of));
            } else if of == turn {
                self.in_hand.push((id, of));
            }
        }
        if !self.in_hand.is_empty() {
            let messages = std::mem::take(&mut self.in_hand);
            let checkpoint = journal.publish(places(&messages));
            let commit = Commit { term, messages, checkpoint };
            *if self.sent.is_none() { &mut self.sent } else { &mut self.next } = Some(commit);
        }
    }

    /// A transaction is known to be committed.
    pub(super) fn published(&mut self, commit: Commit) {
        self.sent = self.next.take();
        self.acks.extend(commit.messages);
        self.checkpoint = Some(commit.checkpoint);
    }

    /// The answer takes too long: the term is given up, and what was to be committed next is in hand again.
    pub(super) fn give_up(&mut self) {
        (self.in_doubt, self.term) = (self.sent.take(), None);
        if let (Some(next), Some(journal)) = (self.next.take(), &mut self.journal) {
            journal.take_back(places(&next.messages));
            self.in_hand.splice(0..0, next.messages);
        }
    }

    /// The source has recorded an ack, or had taken the message away before.
    pub(super) fn acked(&mut self, id: Id, is_recorded: bool) {
        let Some(journal) = &mut self.journal else { return };
        match is_recorded {
            true => journal.recorded(place(id)),
            false => journal.lost(place(id)),
        }
    }
}
