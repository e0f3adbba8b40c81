//! The protocol of writers, readers and relays, explored exhaustively at small sizes: every order in which the steps
//! of a few transactions and relays can happen, with crashes, leases that run out while their owner is paused, answers
//! that are lost, refusals and rollbacks in every place.
//!
//! | file | what it is |
//! |---|---|
//! | `table` | transactions: begin, draw an offset, insert, commit or roll back, give up the lock |
//! | `reading` | which rows a reader may read, a statement at a time: the rules of PostgreSQL and MySQL, and what becomes of them when a part is left out |
//! | `relay` | the database's row of the lease, and a relay: claim, read, publish, settle, record |
//! | `world` | what may happen next, and what must be true all the time |
//! | `skip_locked` | a common design, for comparison; another, the cursor on the id, is a rule of `reading` |
//! | `shards` | several relays of one log, and a change of their number |
//!
//! The decisions are those of the code: [`Looks`](crate::postgres::look::Looks) and
//! [`Gaps`](crate::mysql::gaps::Gaps) say how far may be read, [`LogLedger`](crate::log::LogLedger) with
//! [`Progress`](crate::log::Progress) what is handed out, done and to be recorded, and
//! [`LeaseRow::held`](crate::log::LeaseRow) whether a lease may be taken, [`Plan`](crate::shards::Plan) what a shard may
//! take in and when their number changes. What the databases decide themselves is
//! written out here: what can be seen, who holds a lock, and the comparison of the token and the position when
//! something is recorded. That the statements do compare them is tested with the real servers.
//!
//! Not in it: what only time decides (the grace where MySQL shows no statements), prepared transactions and restarts of
//! a server, limits and errors of statements, the queue layout. The fenced relay has a model of its own, in
//! `watermill-forwarder`.
//!
//! [`tests`] says which sizes are explored; `WATERMILL_MODEL=large` explores more.

mod published;
mod reading;
mod relay;
mod shards;
mod skip_locked;
mod table;
mod tests;
mod world;
