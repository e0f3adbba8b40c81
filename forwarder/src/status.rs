//! [`ForwarderStatus`]: how a forwarder is doing, for a health page.

use std::time::Duration;

use bytes::Bytes;
use watermill_core::{router::Phase, subscription::SubscriptionStatus};

use crate::ForwarderReport;

/// How a forwarder is doing, as it was at most [`ForwarderStatus::INTERVAL`] ago.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ForwarderStatus {
    /// What it is doing.
    pub phase: Phase,
    /// What it has done since it was started.
    pub counts: ForwarderReport,
    /// How its source is doing: its health, how many messages are there, how old the oldest is. While there is no
    /// subscription, its health says why.
    pub source: SubscriptionStatus,
    /// How many messages are in hand: taken from the source, and neither accepted nor given back.
    pub in_hand: usize,
    /// How many messages were accepted of which the source has not recorded the acks.
    pub unrecorded: usize,
    /// What waits, and what for; at most [`ForwarderStatus::HELD_MAX`] entries.
    pub held: Vec<Held>,
    /// Of a forwarder over [shards](crate::ForwarderConfig::shards), how the source of each is doing in this process, by
    /// their numbers; the rest is said of all together.
    pub shards: Vec<SubscriptionStatus>,
}

/// Messages that wait for something else than their turn.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// Where they are to go; `None` for what is no envelope, and in a [`FencedForwarder`](crate::FencedForwarder) for a
    /// whole batch.
    pub destination: Option<String>,
    /// Their key, when they wait for each other and the destination goes on without them. A message without a
    /// key that is held alone has none.
    pub key: Option<Bytes>,
    /// How many there are.
    pub messages: usize,
    /// How many attempts have failed.
    pub attempts: u32,
    /// Why the last one failed; empty when they are only paused.
    pub error: String,
    /// How long ago the first attempt failed; zero when they are only paused.
    pub since: Duration,
    /// Whether somebody has paused them.
    pub paused: bool,
}

impl ForwarderStatus {
    /// How often a forwarder says how it is doing, when anything has changed.
    pub const INTERVAL: Duration = Duration::from_millis(100);

    /// The most entries of [`held`](Self::held).
    pub const HELD_MAX: usize = 1_000;
}
