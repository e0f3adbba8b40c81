//! What it costs to hand an event to the function of its type, in a group of 10 types and in one of 1,000.
//!
//! ```text
//! cargo bench -p watermill-core --bench cqrs -- --count-workload dispatch-1000 --messages 20000
//! ```
//!
//! It runs one workload, for callgrind: `cargo xtask bench instructions/dispatch` counts and compares.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use tokio::{runtime::Builder, sync::Notify};
use watermill_core::{
    MemoryBroker, Message, Publisher, Router, State,
    cqrs::{Codec, Decode, EventProcessor, Marshaler, Named, Topics},
    error::BoxError,
    router::Phase,
};

/// One of a thousand types.
struct Event<const A: u8, const B: u8, const C: u8>;

impl<const A: u8, const B: u8, const C: u8> Event<A, B, C> {
    const TEXT: [u8; 15] = {
        let mut text = *b"hotel.Event-000";
        (text[12], text[13], text[14]) = (b'0' + A, b'0' + B, b'0' + C);
        text
    };
}

impl<const A: u8, const B: u8, const C: u8> Named for Event<A, B, C> {
    const NAME: &'static str = match std::str::from_utf8(&Self::TEXT) {
        Ok(text) => text,
        Err(_) => panic!("it is ASCII"),
    };
}

/// Reads nothing: the work of a codec is the same in both groups.
#[derive(Clone)]
struct Nothing;

impl Codec for Nothing {
    fn content_type(&self) -> &'static str {
        "application/octet-stream"
    }
}

impl<const A: u8, const B: u8, const C: u8> Decode<Event<A, B, C>> for Nothing {
    fn decode(&self, _payload: &Bytes) -> Result<Event<A, B, C>, BoxError> {
        Ok(Event)
    }
}

#[derive(Default)]
struct Counter {
    handled: AtomicU64,
    changed: Notify,
}

async fn handle<const A: u8, const B: u8, const C: u8>(
    _: Event<A, B, C>,
    State(counter): State<Arc<Counter>>,
) {
    counter.handled.fetch_add(1, Ordering::Relaxed);
    counter.changed.notify_one();
}

macro_rules! thousand {
    ($group:ident, $names:ident) => { thousand!(@a $group, $names; 0 1 2 3 4 5 6 7 8 9) };
    (@a $group:ident, $names:ident; $($a:literal)*) => {
        $(thousand!(@b $group, $names, $a; 0 1 2 3 4 5 6 7 8 9);)*
    };
    (@b $group:ident, $names:ident, $a:literal; $($b:literal)*) => {
        $(thousand!(@c $group, $names, $a, $b; 0 1 2 3 4 5 6 7 8 9);)*
    };
    (@c $group:ident, $names:ident, $a:literal, $b:literal; $($c:literal)*) => {
        $(
            $group = $group.on(handle::<$a, $b, $c>);
            $names.push(Event::<$a, $b, $c>::NAME);
        )*
    };
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.iter().skip_while(|arg| *arg != name).nth(1);
    let Some(workload) = value("--count-workload") else {
        // Nothing but instructions is counted, which is callgrind's work.
        return;
    };
    let messages = value("--messages").and_then(|messages| messages.parse().ok()).expect("a number");
    let has_many = match workload.as_str() {
        "dispatch-10" => false,
        "dispatch-1000" => true,
        other => panic!("there is no workload {other:?}"),
    };
    Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(run(has_many, messages));
}

async fn run(has_many: bool, messages: u64) {
    let (broker, counter) = (MemoryBroker::new(), Arc::new(Counter::default()));
    let events = EventProcessor::new(broker.subscriber(), Topics::one("events"))
        .with_marshaler(Marshaler::new(Nothing));
    let mut group = events.group("report");
    let mut names = Vec::new();
    if has_many {
        thousand!(group, names);
    } else {
        thousand!(@c group, names, 0, 0; 0 1 2 3 4 5 6 7 8 9);
    }
    let router = Router::new().with_state(counter.clone()).add(group.handler());
    let control = router.control();
    let running = tokio::spawn(router.run());
    control.reached(Phase::Running).await;
    // The same messages in both: of ten types, spread over all of them, each made before so that only dispatch differs.
    let of_types: Vec<Message> = names
        .iter()
        .step_by(names.len() / 10)
        .map(|name| Message::with_id("1", "").with_metadata("name", *name))
        .collect();
    let publisher = broker.publisher();
    for sent in 0..messages {
        let message = of_types[usize::try_from(sent % 10).expect("below ten")].clone();
        publisher.publish("events", vec![message]).await.expect("it is accepted");
        while counter.handled.load(Ordering::Relaxed) <= sent {
            counter.changed.notified().await;
        }
    }
    control.stop();
    running.await.expect("no panic").expect("it drains");
}
