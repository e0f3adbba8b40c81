//! The fenced relay, explored exhaustively at small sizes: a source that takes messages away, a destination that
//! commits what it was sent long ago, and relays that die, are paused and wake up, in every order.
//!
//! What may be passed without publishing it is decided by the relay's own [`Journal`](super::journal::Journal), and
//! every checkpoint is one that it has written. What the engine does around it is written out in `relay`, a step for
//! each thing that others can see; the engine itself is simulated, in `tests/simulation`. Not in it: messages that are
//! refused and wait, dead letters, keys (all messages are of one), several partitions.

mod relay;
mod tests;
mod world;
