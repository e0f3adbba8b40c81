//! What only Apache Kafka can show: groups that rebalance, positions, topics.

mod groups;
mod lag;
mod rebalancing;
mod refusals;
mod remade;
mod start;
mod support;
mod topics;
