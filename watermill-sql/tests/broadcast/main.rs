//! Broadcasts: every subscription receives every message, and leaves nothing behind.

#![cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]

#[expect(dead_code, reason = "nothing of this suite is plain SQL that writes")]
#[macro_use]
#[path = "../databases/mod.rs"]
mod databases;
mod receiving;

on_every_database! {
    receiving::every_process_receives_what_is_published_in_its_life,
    receiving::a_group_ends_with_its_subscription,
    receiving::who_was_taken_for_ended_says_that_it_may_have_missed_something,
    receiving::what_an_ended_process_has_left_is_removed_by_the_next,
}
