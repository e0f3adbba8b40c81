//! Broadcasts: every subscription receives every message, and leaves nothing behind.

#![cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]

mod conformance;
#[expect(dead_code, reason = "nothing of this suite is plain SQL that writes")]
#[macro_use]
#[path = "../databases/mod.rs"]
mod databases;
mod receiving;

on_every_database! {
    receiving::every_process_receives_what_is_published_in_its_life,
    receiving::a_group_ends_with_its_subscription,
    conformance::every_subscription_gets_every_message_from_its_beginning_on,
    conformance::who_leaves_takes_nothing_from_those_who_stay,
    conformance::its_window_is_kept,
    conformance::a_closed_broadcast_refuses,
    receiving::who_was_taken_for_ended_says_that_it_may_have_missed_something,
    receiving::what_an_ended_process_has_left_is_removed_by_the_next,
}
