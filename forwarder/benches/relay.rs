//! How fast a forwarder relays, beside publishing the same messages one by one.
//!
//! ```text
//! cargo bench -p watermill-forwarder --bench relay -- [--json]
//! ```

use std::time::Duration;

use tokio::{
    runtime::{Builder, Runtime},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use watermill_core::{Message, Publisher, PublisherExt};
use watermill_forwarder::{Envelope, Forwarder};
use watermill_testkit::{Figure, Figures, Limit, RecordingPublisher, ScriptedSubscriber, workload};

const MESSAGES: usize = 20_000;
const DESTINATION: &str = "orders.placed";

fn main() {
    let mut figures = Figures::from_args();
    figures.push(slow_destination());
    figures.push(processor_time());
    figures.print();
    assert!(figures.are_within(), "a figure misses its limit");
}

/// A destination that takes 1 ms for every call, by the paused clock: the same in every run.
fn slow_destination() -> Figure {
    const CALL: Duration = Duration::from_millis(1);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let one_by_one = runtime.block_on(async {
        let target = RecordingPublisher::new().with_latency(CALL);
        let started = Instant::now();
        for n in 0..MESSAGES {
            target.publish_one(DESTINATION, workload::message(n)).await.expect("it is accepted");
        }
        started.elapsed()
    });
    let relayed = relay(&runtime, RecordingPublisher::new().with_latency(CALL));
    Figure::new(
        "relay/1ms-call",
        workload::per_second(MESSAGES, relayed),
        "messages per second of the paused clock",
    )
    .baseline(workload::per_second(MESSAGES, one_by_one))
    .limit(Limit::AtLeast(20.0))
}

/// A destination that takes no time: what unwrapping, grouping and settling cost, against unwrapping
/// alone.
fn processor_time() -> Figure {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let envelopes: Vec<Message> = (0..MESSAGES).map(envelope).collect();
    let unwrapped = runtime.block_on(workload::fastest_of(5, async || {
        for envelope in &envelopes {
            std::hint::black_box(Envelope::unwrap(envelope).expect("it is an envelope"));
        }
    }));
    let relayed = (0..5).map(|_| relay(&runtime, RecordingPublisher::new())).min().expect("five runs");
    Figure::new("relay/processor", workload::per_second(MESSAGES, relayed), "messages per second")
        .baseline(workload::per_second(MESSAGES, unwrapped))
}

/// How long a forwarder takes for all messages.
fn relay(runtime: &Runtime, target: RecordingPublisher) -> Duration {
    runtime.block_on(async {
        let source = ScriptedSubscriber::new();
        for n in 0..MESSAGES {
            source.push(envelope(n));
        }
        let forwarder = Forwarder::builder(source.clone(), target.clone()).build().expect("it can work");
        let stop = CancellationToken::new();
        let started = Instant::now();
        let running = tokio::spawn(forwarder.run_until(stop.clone().cancelled_owned()));
        source.settled(MESSAGES).await;
        let took = started.elapsed();
        stop.cancel();
        let report = running.await.expect("no panic").expect("a clean end");
        assert_eq!(report.forwarded, MESSAGES as u64);
        target.close().await.expect("it closes");
        took
    })
}

fn envelope(n: usize) -> Message {
    Envelope::new(DESTINATION, workload::message(n)).wrap()
}
