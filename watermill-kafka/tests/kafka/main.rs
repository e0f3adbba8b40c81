//! What only Apache Kafka can show: groups that rebalance, positions, topics.

mod broadcasting;
mod groups;
mod lag;
mod peeking;
mod rebalancing;
mod refusals;
mod remade;
mod replaying;
mod start;
mod support;
mod topics;
mod truncated;
