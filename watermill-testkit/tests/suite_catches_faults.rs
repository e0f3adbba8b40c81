//! The suite can fail: each fault of a backend makes the test of that promise fail, and says why.

mod broken;

use std::{any::Any, sync::Arc};

use futures::future::BoxFuture;
use watermill_testkit::{Backend, suite};

use broken::{Broken, Fault};

type Test = fn(Arc<dyn Backend>) -> BoxFuture<'static, ()>;

/// Passes with a sound backend, and fails with this fault in these words.
async fn catches(fault: Fault, test: Test, words: &str) {
    test(Arc::new(Broken::new(Fault::None))).await;
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
    dropped_empty_metadata: DropsEmptyMetadata, payloads::odd_metadata_arrives, "1 changed (2)";
    folded_metadata_names: FoldsMetadataNames, payloads::odd_metadata_arrives, "changed (4)";
    empty_keys_taken_for_none: TakesEmptyKeysForNone, payloads::the_key_arrives, "1 changed (3)";
    keys_that_must_be_text: ReplacesBytesOfKeys, payloads::the_key_arrives, "1 changed (4)";
    hidden_same_ids: HidesSameIds, payloads::any_id_arrives_and_none_hides_another, "3 missing";
    calls_that_are_not_atomic:
        SplitsCalls, cancel::a_dropped_publish_leaves_the_publisher_usable, "of an atomic call";
    publishing_without_a_bound:
        NeverWaits, concurrency::a_slow_consumer_slows_its_publisher_down, "should wait, and did not";
    publishing_after_close: PublishesAfterClose, lifecycle::what_is_closed_refuses, "unwrap_err";
    an_accepted_invalid_topic: AcceptsEmptyTopics, payloads::an_invalid_topic_is_refused, "publishing to \"\"";

    nacks_taken_for_acks: AcksWhatIsNacked, settle::nacked_messages_come_again, "in vain";
    drops_taken_for_acks: AcksWhatIsNacked, settle::a_dropped_delivery_comes_again, "the dropped one comes first";
    acks_that_closing_forgets:
        AcksLazily, lifecycle::a_graceful_stop_causes_no_redelivery, "acked messages came again";
    confirmations_that_lie: AcksLazily, settle::a_confirmed_ack_is_recorded, "1 unexpected (0000)";
    rejections_taken_for_nacks: NacksWhatIsRejected, settle::a_rejected_message_does_not_come_again, "left != right";
    ignored_nack_delays: IgnoresNackDelays, settle::a_nack_delay_is_waited_for, "nothing should come";
    forgotten_cancellation: ForgetsToCancel, settle::work_is_cancelled_with_its_delivery, "end of the subscription";
    nacked_messages_sent_to_the_end:
        SendsNackedToTheEnd, order::a_nacked_message_comes_again_before_any_later_one, "out of order";
    nacked_messages_that_lose_the_order_of_their_key:
        SendsNackedToTheEnd, order::order_per_key_is_kept_under_nacks, "out of order";
    an_ignored_window: IgnoresTheWindow, settle::one_at_a_time_until_settled, "nothing should come";
    mixed_groups: MixesGroups, groups::every_group_gets_every_message, "were seen";
    a_stream_that_ends_in_silence:
        EndsInSilence, delivery::published_messages_arrive_as_they_were, "the stream goes on";
    subscribing_after_close: SubscribesAfterClose, lifecycle::what_is_closed_refuses, "unwrap_err";
    a_capability_that_is_not_there:
        ClaimsDeadLetters, settle::a_rejected_message_does_not_come_again, "the capability and the list of lacks";
    messages_missed_after_initialize: StartsFromNow, delivery::nothing_is_missed_after_initialize, "10 missing";
    messages_lost_in_a_dropped_next: LosesWhatNextWasDropped, cancel::a_dropped_next_loses_nothing, "in vain";
}
