//! [`Refusals`]: what was refused for good of deliveries that come again.

use std::collections::HashMap;

use watermill_core::error::{PublishError, PublishErrorKind, chain};

use super::open::Cause;
use crate::assigned::scope;

/// How many are remembered; beyond, they are found out again.
const REMEMBERED_MAX: usize = 10_000;

/// By delivery: asked for again, it is refused at once, so that the handler's failure policy has its say.
#[derive(Default)]
pub(super) struct Refusals(HashMap<Place, Refused>);

/// A delivery, over all of its attempts: topic, partition and offset.
type Place = (String, i32, u64);

struct Refused {
    kind: PublishErrorKind,
    topic: String,
    reason: String,
}

impl Refusals {
    /// Remembers why something made of these was refused, if that was for good.
    pub(super) fn insert(&mut self, causes: &[Cause], error: &PublishError) {
        if error.is_retryable() || self.0.len() >= REMEMBERED_MAX {
            return;
        }
        for cause in causes {
            let refused =
                Refused { kind: error.kind(), topic: error.topic().to_owned(), reason: chain(error) };
            self.0.insert(place(cause), refused);
        }
    }

    /// What was refused before of one of these.
    pub(super) fn of(&self, causes: &[Cause]) -> Option<PublishError> {
        if self.0.is_empty() {
            return None;
        }
        let Refused { kind, topic, reason } = causes.iter().find_map(|cause| self.0.get(&place(cause)))?;
        Some(PublishError::new(*kind, &**topic).because(format!("it was refused before: {reason}")))
    }

    /// Forgets what lies before a position: it does not come again.
    pub(super) fn pass(&mut self, topic: &str, partition: i32, position: i64) {
        let passed =
            |place: &Place| place.0 == topic && place.1 == partition && place.2.cast_signed() < position;
        self.0.retain(|place, _| !passed(place));
    }
}

fn place(Cause { shared, token }: &Cause) -> Place {
    (shared.topic.clone(), scope::partition(token.scope), token.position)
}
