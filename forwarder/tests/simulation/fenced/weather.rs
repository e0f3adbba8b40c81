//! [`Weather`]: what a destination of transactions does with a call, and until when.

use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;
use watermill_core::error::PublishErrorKind;

use crate::outbox::TOPICS;

/// What it does with a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Weather {
    Fair,
    /// It is away: commits fail, and so does beginning a term, before or after the earlier ones have ended.
    Away,
    /// It never answers, and has done what it was asked to or not.
    Hangs {
        done: bool,
    },
    /// It says that it does not know, and has done it, or not, or is about to.
    Forgets(Fate),
    /// It has no such topic.
    Lacks(&'static str),
    /// It is set up wrongly, and refuses everything.
    Refuses,
}

/// What becomes of a commit whose caller is not told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Done,
    Void,
    Late,
}

/// The weather of a storm, after which it is fair.
pub(super) fn forecast(random: &mut Rng, fair_from: Duration) -> Vec<(Instant, Weather)> {
    let (start, mut episodes, mut at, mut refusals) = (Instant::now(), Vec::new(), Duration::ZERO, 0);
    while at < fair_from {
        let what = match random.u32(0..12) {
            0..4 => Weather::Fair,
            4 | 5 => Weather::Away,
            6 => Weather::Hangs { done: random.bool() },
            7 => Weather::Forgets(Fate::Done),
            8 => Weather::Forgets(Fate::Void),
            9 => Weather::Forgets(Fate::Late),
            10 => Weather::Lacks(TOPICS[random.usize(0..TOPICS.len())]),
            // Once: a destination that is set up wrongly again and again looks like bad messages.
            _ if refusals == 0 => {
                refusals += 1;
                Weather::Refuses
            }
            _ => Weather::Fair,
        };
        at += Duration::from_millis(random.u64(20..1_000));
        episodes.push((start + at.min(fair_from), what));
    }
    episodes
}

impl Weather {
    /// How a call fails that has done nothing, if it does.
    pub(super) fn refusal(self) -> Option<PublishErrorKind> {
        match self {
            Self::Away => Some(PublishErrorKind::Unavailable),
            Self::Refuses => Some(PublishErrorKind::Refused),
            _ => None,
        }
    }
}
