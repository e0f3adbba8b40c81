//! The suite can fail: each fault of a backend makes the test of that promise fail, and says why.

mod broken;

use std::{any::Any, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use watermill_testkit::{Backend, suite, with_patience};

use broken::{Broken, Fault};

type Test = fn(Arc<dyn Backend>) -> BoxFuture<'static, ()>;

/// Passes with a sound backend, and fails with this fault in these words.
async fn catches(fault: Fault, test: Test, words: &str) {
    test(Arc::new(Broken::new(Fault::None))).await;
    fails(fault, test, words).await;
}

async fn fails(fault: Fault, test: impl FnOnce(Arc<dyn Backend>) -> BoxFuture<'static, ()>, words: &str) {
    let ended = tokio::spawn(test(Arc::new(Broken::new(fault)))).await;
    let error = ended.expect_err(&format!("{fault:?} passes"));
    let text = text(error.into_panic());
    assert!(text.contains(words), "{fault:?} fails with other words: {text}");
}

fn text(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().expect("a panic with a text")).to_owned(),
    }
}

/// One test for each fault. Time is paused: nobody waits for what does not come.
macro_rules! faults {
    ($($name:ident: $fault:ident, $area:ident :: $test:ident, $words:literal;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            catches(Fault::$fault, |backend| Box::pin(suite::$area::$test(backend)), $words).await;
        }
    )*};
}

faults! {
    dropped_messages: DropsMessages, delivery::published_messages_arrive_as_they_were, "10 missing (0009";
    dropped_messages_among_many:
        DropsMessages, delivery::many_publishers_and_many_consumers_lose_nothing, "500 missing";
    duplicated_messages:
        DuplicatesMessages, delivery::published_messages_arrive_as_they_were, "duplicated (0009";
    duplicated_messages_among_many:
        DuplicatesMessages, delivery::many_publishers_and_many_consumers_lose_nothing, "500 duplicated";
    swapped_messages: SwapsMessages, order::order_is_kept, "out of order";
    calls_that_overtake_each_other:
        OvertakesItself, order::calls_in_progress_together_keep_their_order, "out of order";
    dropped_empty_metadata: DropsEmptyMetadata, payloads::odd_metadata_arrives, "2 changed (2 7)";
    folded_metadata_names: FoldsMetadataNames, payloads::odd_metadata_arrives, "changed (4)";
    metadata_that_is_cut: CutsLongMetadata, payloads::trace_context_arrives, "1 changed (2)";
    empty_keys_taken_for_none: TakesEmptyKeysForNone, payloads::the_key_arrives, "1 changed (3)";
    keys_that_must_be_text: ReplacesBytesOfKeys, payloads::the_key_arrives, "1 changed (4)";
    hidden_same_ids: HidesSameIds, payloads::any_id_arrives_and_none_hides_another, "3 missing";
    calls_that_are_not_atomic:
        SplitsCalls, cancel::a_dropped_publish_leaves_the_publisher_usable, "P3: a call is all or none, as claimed";
    publishing_without_a_bound:
        NeverWaits, concurrency::a_slow_consumer_slows_its_publisher_down, "P7: a publish to a full topic waits";
    publishing_after_close: PublishesAfterClose, lifecycle::a_closed_publisher_refuses, "P8: a closed publisher refuses: it succeeded";
    an_accepted_invalid_topic: AcceptsEmptyTopics, payloads::an_invalid_topic_is_refused, "P5: publishing to \"\" is refused";

    nacks_taken_for_acks: AcksWhatIsNacked, settle::nacked_messages_come_again, "S1: a message that was published or nacked is delivered: waited";
    drops_taken_for_acks: AcksWhatIsNacked, settle::a_dropped_delivery_comes_again, "S3, S4: a dropped delivery is nacked";
    acks_that_closing_forgets:
        AcksLazily, lifecycle::a_graceful_stop_causes_no_redelivery, "S7: what was acked before a graceful end does not come again";
    confirmations_that_lie: AcksLazily, settle::a_confirmed_ack_is_recorded, "S4: what was confirmed is recorded: of 2 messages";
    rejections_taken_for_nacks: NacksWhatIsRejected, settle::a_rejected_message_does_not_come_again, "S1: a rejected message does not come again";
    ignored_nack_delays: IgnoresNackDelays, settle::a_nack_delay_is_waited_for, "S3: the delay of a nack is waited for";
    forgotten_cancellation: ForgetsToCancel, settle::work_is_cancelled_with_its_delivery, "S10: whoever works for a delivery is told";
    nacked_messages_sent_to_the_end:
        SendsNackedToTheEnd, order::a_nacked_message_comes_again_before_any_later_one, "out of order";
    nacked_messages_that_lose_the_order_of_their_key:
        SendsNackedToTheEnd, order::order_per_key_is_kept_under_nacks, "out of order";
    an_ignored_window: IgnoresTheWindow, settle::one_at_a_time_until_settled, "S2: the second of a scope waits";
    mixed_groups: MixesGroups, groups::every_group_gets_every_message, "were seen";
    a_stream_that_ends_in_silence:
        EndsInSilence, delivery::published_messages_arrive_as_they_were, "S5: the stream goes on: it ended";
    subscribing_after_close: SubscribesAfterClose, lifecycle::a_closed_subscriber_refuses, "S8: a closed subscriber refuses: it succeeded";
    a_capability_that_is_not_there:
        ClaimsDeadLetters, settle::a_rejected_message_does_not_come_again, "S1: a place for dead letters is where it is claimed";
    messages_missed_after_initialize: StartsFromNow, delivery::nothing_is_missed_after_initialize, "10 missing";
    messages_lost_in_a_dropped_next: LosesWhatNextWasDropped, cancel::a_dropped_next_loses_nothing, "in vain";

    messages_beyond_the_limits:
        IgnoresLimits, payloads::large_payloads_arrive, "P5: a message beyond the limits is refused";
    a_key_that_goes_on_after_its_failure:
        SkipsWhatIsRefused, order::what_was_not_accepted_can_be_published_again_in_order, "P9: of what a call";
    ignored_delays: IgnoresDelays, delays::a_delay_is_kept_or_refused, "P10: a delay that would not be kept";
    delays_that_are_only_claimed:
        ClaimsDelays, delays::a_delay_is_kept_or_refused, "P10: what is due later is not delivered before";
    confirmations_of_acks_only:
        ConfirmsAcksOnly, settle::every_outcome_can_be_confirmed, "S4: a nack can be confirmed";
    tokens_that_are_used_twice: ReusesTokens, ownership::no_token_is_used_twice, "S9: no token is used twice";
    losses_that_nobody_is_told:
        ForgetsToCancel, ownership::after_the_end_the_old_owners_word_does_not_count,
        "S10: what was in hand at the end is lost";
    late_acks_that_are_confirmed:
        ConfirmsLateAcks, ownership::after_the_end_the_old_owners_word_does_not_count,
        "S10: after the end, the old owner's ack is not confirmed";
    an_ignored_window_over_all_scopes:
        IgnoresTheWindow, window::the_total_bounds_all_scopes_together, "S6: no more is outstanding than the total";
    an_ignored_total:
        IgnoresTheTotal, window::what_is_handled_makes_room_in_its_scope_and_not_in_all,
        "S6: three are outstanding and the total is three";
    handled_messages_that_count_on:
        IgnoresWhatIsHandled, window::what_is_handled_makes_room_in_its_scope_and_not_in_all, "S1: a message";
    outstanding_messages_that_a_status_hides:
        ForgetsWhatIsOutstanding, status::a_subscription_tells_how_it_is_doing, "say the same";
    an_end_that_a_status_hides:
        StaysHealthy, status::a_subscription_tells_how_it_is_doing, "S5: a subscription that was closed says so";
}

/// Consumers that die and hang do so in real time, because they have runtimes of their own.
macro_rules! faults_in_real_time {
    ($($name:ident: $fault:ident, $area:ident :: $test:ident, $words:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
        async fn $name() {
            let test: Test = |backend| Box::pin(suite::$area::$test(backend));
            test(Arc::new(Broken::new(Fault::None))).await;
            fails(Fault::$fault, |backend| Box::pin(with_patience(IMPATIENT, test(backend))), $words).await;
        }
    )*};
}

const IMPATIENT: Duration = Duration::from_secs(3);

faults_in_real_time! {
    dead_consumers_that_are_not_noticed:
        ForgetsTheDead, ownership::the_messages_of_a_dead_consumer_come_again,
        "S1: what a dead consumer had comes again: of 3 messages 0 were seen";
    leases_that_are_not_renewed:
        NeverRenews, ownership::a_handler_that_outlives_the_timeout_keeps_its_message,
        "S1: while its consumer lives a message goes to nobody else";
    losses_that_nobody_is_told_after_a_takeover:
        ForgetsTheDead, ownership::what_was_taken_over_is_lost_to_who_had_it, "S1: a message";
}
