//! Schedules: each time fires once, in the transaction that moves the schedule on, the same on every database.

#![cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]

#[macro_use]
#[path = "../databases/mod.rs"]
mod databases;
mod firing;

on_every_database! {
    firing::a_schedule_fires_when_it_is_due_and_not_before,
    firing::of_many_processes_one_fires_each_time,
    firing::what_cannot_be_published_leaves_the_schedule_due,
    firing::one_that_panics_or_fails_keeps_no_other_from_firing,
    firing::what_was_missed_fires_as_the_schedule_says,
    firing::another_plan_begins_anew_and_the_old_one_is_left_alone,
    firing::a_router_fires_until_it_stops,
    firing::messages_go_through_an_outbox_where_that_is_wanted,
}
