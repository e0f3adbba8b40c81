//! The conformance suite: every obligation of [`Publisher`](watermill_core::Publisher) and
//! [`Subscriber`](watermill_core::Subscriber), as ordinary tests.
//!
//! Each test names the obligations it checks: P1 to P10 are those of `Publisher`, S1 to S10 those of
//! `Subscriber`. So does every panic, together with what was expected: "S10: after the end, the old owner's
//! ack does not count: ...". A backend joins with [`conformance!`](crate::conformance!); the functions can
//! be called one by one too.

pub mod at_most_once;
pub mod cancel;
pub mod concurrency;
pub mod delays;
pub mod delivery;
mod fixture;
pub mod groups;
pub mod lifecycle;
mod obligation;
pub mod order;
pub mod ownership;
pub mod payloads;
mod process;
mod received;
pub mod settle;
pub mod status;
pub mod window;

use std::future::Future;

/// Runs one test of the suite on a runtime of its own, with two workers.
#[doc(hidden)]
#[track_caller]
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime starts").block_on(test);
}

/// Joins a backend to the conformance suite: becomes one ordinary `#[test]` for each test.
///
/// The argument is an expression, evaluated anew for each test, inside an async block; its value is a
/// [`Backend`](crate::Backend). Use it once in a module.
///
/// ```
/// use async_trait::async_trait;
/// use watermill_core::memory::{MemoryBroker, MemoryConfig};
/// use watermill_testkit::{Backend, Connection, Lack};
///
/// struct Memory(MemoryBroker);
///
/// #[async_trait]
/// impl Backend for Memory {
///     async fn connect(&self) -> Connection {
///         Connection::new(self.0.publisher(), self.0.subscriber())
///     }
///
///     fn lacks(&self) -> &[Lack] {
///         &[Lack::ConsumerTimeout, Lack::Restart, Lack::History]
///     }
///
///     fn capacity(&self) -> Option<usize> {
///         Some(12_000)
///     }
/// }
///
/// watermill_testkit::conformance!({
///     let config = MemoryConfig::default().capacity(12_000);
///     Memory(MemoryBroker::with_config(config).unwrap())
/// });
/// # fn main() {}
/// ```
///
/// A backend that [forgets](watermill_core::subscriber::DeliveryGuarantee::AtMostOnce) what it delivers
/// joins with `conformance!(at_most_once: backend)`, and one that
/// [only publishes](crate::Connection::publish_only) with `conformance!(publish_only: backend)`: the tests
/// of what they obligation, and no others.
#[macro_export]
macro_rules! conformance {
    (at_most_once: $backend:expr $(,)?) => {
        $crate::__conformance_tests! { [$backend]
            at_most_once::what_forgets_claims_no_memory,
            at_most_once::every_subscription_gets_every_message_unless_a_group_shares_them,
            at_most_once::what_was_published_to_nobody_is_gone,
            at_most_once::settling_brings_nothing_again_and_every_receipt_is_complete,
            at_most_once::a_subscription_that_ends_takes_nothing_from_others,
            settle::one_at_a_time_until_settled,
            lifecycle::a_closed_subscriber_refuses,
            cancel::a_dropped_next_loses_nothing,
            window::the_total_bounds_all_scopes_together,
            window::what_is_handled_makes_room_in_its_scope_and_not_in_all,
            status::a_subscription_tells_how_it_is_doing,
        }
        $crate::__conformance_of_publishers! { [$backend] }
    };
    (publish_only: $backend:expr $(,)?) => {
        $crate::__conformance_tests! { [$backend]
            at_most_once::what_only_publishes_has_no_subscriber,
        }
        $crate::__conformance_of_publishers! { [$backend] }
    };
    ($backend:expr $(,)?) => {
        $crate::__conformance_tests! { [$backend]
            delivery::many_publishers_and_many_consumers_lose_nothing,
            delivery::a_closed_publisher_has_sent_everything,
            delivery::a_topic_gets_only_its_own_messages,
            delivery::nothing_is_missed_after_initialize,
            delivery::a_restart_of_the_server_loses_nothing,
            order::order_is_kept,
            order::order_is_kept_over_the_consumers_of_a_group,
            order::a_nacked_message_comes_again_before_any_later_one,
            order::a_nacked_message_of_a_window_comes_before_what_was_not_handed_out,
            order::order_per_key_is_kept_under_nacks,
            settle::nacked_messages_come_again,
            settle::one_at_a_time_until_settled,
            settle::consumers_that_fail_again_and_again_lose_nothing,
            settle::a_dropped_delivery_comes_again,
            settle::a_rejected_message_does_not_come_again,
            settle::a_confirmed_ack_is_recorded,
            settle::every_outcome_can_be_confirmed,
            settle::acks_out_of_order_are_recorded,
            settle::a_nack_delay_is_waited_for,
            settle::work_is_cancelled_with_its_delivery,
            lifecycle::a_closed_subscriber_refuses,
            lifecycle::closing_a_subscriber_closes_its_subscriptions,
            lifecycle::what_is_out_can_be_settled_after_intake_has_stopped,
            lifecycle::a_graceful_stop_causes_no_redelivery,
            lifecycle::a_dropped_subscription_gives_back_what_it_had,
            lifecycle::an_unread_subscription_does_not_hold_up_closing,
            lifecycle::consumers_that_close_side_by_side_lose_nothing,
            lifecycle::consumers_that_come_and_go_lose_nothing,
            lifecycle::messages_stay_when_everybody_has_left,
            cancel::a_dropped_next_loses_nothing,
            cancel::a_dropped_subscribe_leaves_nothing_behind,
            groups::every_group_gets_every_message,
            groups::a_group_does_not_wait_for_another,
            groups::the_members_of_a_group_share_its_messages,
            groups::a_new_group_gets_the_history,
            concurrency::a_slow_consumer_slows_its_publisher_down,
            window::a_wider_window_hands_out_more,
            window::no_more_is_out_than_the_window_allows,
            window::the_total_bounds_all_scopes_together,
            window::what_is_handled_makes_room_in_its_scope_and_not_in_all,
            ownership::after_the_end_the_old_owners_word_does_not_count,
            ownership::no_token_is_used_twice,
            ownership::the_messages_of_a_dead_consumer_come_again,
            ownership::what_was_taken_over_is_lost_to_who_had_it,
            ownership::a_handler_that_outlives_the_timeout_keeps_its_message,
            status::a_subscription_tells_how_it_is_doing,
            concurrency::what_was_fetched_ahead_is_given_back,
            concurrency::many_connections_work_side_by_side,
        }
        $crate::__conformance_of_publishers! { [$backend] }
    };
}

/// What every publisher promises, whoever reads.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_of_publishers {
    ([$backend:expr]) => {
        $crate::__conformance_tests! { [$backend]
            delivery::published_messages_arrive_as_they_were,
            delivery::topics_in_parallel_do_not_mix,
            delivery::an_empty_call_sends_nothing,
            order::publishers_side_by_side_keep_their_own_order,
            order::calls_in_progress_together_keep_their_order,
            order::what_was_not_accepted_can_be_published_again_in_order,
            lifecycle::a_closed_publisher_refuses,
            payloads::payloads_of_any_bytes_arrive,
            payloads::large_payloads_arrive,
            payloads::odd_metadata_arrives,
            payloads::trace_context_arrives,
            payloads::any_id_arrives_and_none_hides_another,
            payloads::the_key_arrives,
            payloads::an_invalid_topic_is_refused,
            cancel::a_dropped_publish_leaves_the_publisher_usable,
            delays::a_delay_is_kept_or_refused,
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ([$backend:expr] $($area:ident :: $test:ident,)*) => {$(
        #[test]
        fn $test() {
            $crate::suite::run(async {
                $crate::suite::$area::$test(::std::sync::Arc::new($backend)).await;
            });
        }
    )*};
}

#[cfg(test)]
mod tests {
    /// Each area, and its source.
    const AREAS: [(&str, &str); 13] = [
        ("at_most_once", include_str!("at_most_once.rs")),
        ("cancel", include_str!("cancel.rs")),
        ("concurrency", include_str!("concurrency.rs")),
        ("delays", include_str!("delays.rs")),
        ("delivery", include_str!("delivery.rs")),
        ("groups", include_str!("groups.rs")),
        ("lifecycle", include_str!("lifecycle.rs")),
        ("order", include_str!("order.rs")),
        ("ownership", include_str!("ownership.rs")),
        ("payloads", include_str!("payloads.rs")),
        ("settle", include_str!("settle.rs")),
        ("status", include_str!("status.rs")),
        ("window", include_str!("window.rs")),
    ];

    #[test]
    fn every_test_of_the_suite_is_in_the_list() {
        let list = include_str!("mod.rs");
        for (area, source) in AREAS {
            let tests = source.lines().filter_map(|line| line.strip_prefix("pub async fn "));
            let mut count = 0;
            for test in tests {
                let name = test.split('(').next().unwrap();
                assert!(list.contains(&format!("{area}::{name},")), "{area}::{name} is not in the list");
                count += 1;
            }
            assert!(count > 0, "{area} has no tests");
        }
    }

    #[test]
    fn every_assertion_of_the_suite_names_its_obligation() {
        for (area, source) in AREAS {
            // These say nothing of what was promised; those of `obligation` do.
            for bare in ["assert", "panic!", "expect(", "unwrap()"] {
                assert!(!source.contains(bare), "{area} contains {bare}");
            }
        }
    }
}
