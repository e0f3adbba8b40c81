//! `/metrics`, `/health/live` and `/health/ready`, for a service's own server.
//!
//! [`Pages`] is a service of [hyper](https://docs.rs/hyper) and, with the feature `axum`, becomes a router of axum. It listens
//! nowhere: whoever has a server already takes it in. The pages tell names, topics and texts of errors, so they are for the inside
//! of a network.
//!
//! # What the two kinds of health mean
//!
//! | | `200` while | else `503` |
//! |---|---|---|
//! | `/health/live` | nothing has ended that should run | a handler has failed for good, or a router, a relay, a subscription or a check has ended: only a new process mends it |
//! | `/health/ready` | it is live, and every router and relay has started and none is draining | it begins, or it ends |
//!
//! A part that is *degraded* is neither dead nor unready. Its server is away, or it stands by for another one that has the lease; it goes
//! on trying, a restart would not help, and messages wait where they are. The answer's body and the figures say so. A relay that
//! is fenced off or a consumer that waits may stay degraded for as long as its process runs.
//!
//! A subscriber that is watched without a router is *starting* until it was first seen to have subscribed, which keeps nobody from
//! being ready. A subscription of it that was seen, of the first 100, and is no more has *ended*.
//!
//! A router remembers the last 1,000 handlers that have ended one by one. Where any of those before them did not end as it was asked to, a handler
//! without a name is *ended*: whether another of its name runs by now, nobody can tell.
//!
//! Both answer with the same JSON: `live`, `ready`, and `parts`, each with its `kind` (`router`, `handler`, `relay`,
//! `subscription`, `check`), `name`, `state` (`starting`, `healthy`, `degraded`, `draining`, `ended`), the `reason` where there is one,
//! and what is known of its messages.

mod health;
mod pages;

pub use self::{
    health::{Health, PartHealth, State},
    pages::{Page, Pages},
};
