//! Shards: several members of a group read a log at once, each the rows of its keys.
//!
//! A shard is a consumer group of its own, with a lease, a position and everything else that a group has; what makes them
//! one is the [`plan`]. Each reads all of the log, and passes the rows of the others.
//!
//! | file | what it is |
//! |---|---|
//! | `hash` | which shard a message belongs to |
//! | `plan` | how many shards there are, and how that changes: decisions, shared with the model |
//! | `member` | what the readers of one process share, and which of them may take a shard |
//! | `sql_shards` | the shards of a topic, and their subscribers |
//! | `counts` | the number of shards, from outside |
//!
//! How a reader of a shard is at work is in `log/reader/shard.rs`.

mod counts;
mod dialect;
mod hash;
mod member;
mod plan;
mod sql_shards;
#[cfg(all(test, feature = "sqlite"))]
mod tests;

pub use counts::{ShardCount, SqlShardCounts};
pub(crate) use dialect::{Replaced, ShardsDialect, Turn};
pub(crate) use hash::shard_of;
pub(crate) use member::{Found, Holding, Member, Next, Place, Slot, Survey};
pub(crate) use plan::{Ask, Change, Intake, Plan, shard_of_group};
pub(crate) use sql_shards::{SqlShards, prepare, stored};

/// The most shards of a group.
pub(crate) const SHARDS_MAX: u32 = 64;

/// How many characters the name of a shard's group has more than that of the group: for twelve digits of generations.
const PLACE_CHARS: usize = "#999999999999/63".len();
