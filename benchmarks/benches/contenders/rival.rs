//! The same workloads with [ruststream](https://crates.io/crates/ruststream) 0.7, the fastest of the rivals.
//!
//! Used as its examples and its own benchmarks use it, by the cheaper of two ways where there are two: handlers read
//! the delivery's bytes in place, without a codec, and publish through a slot, which copies the payload once, where
//! a reply copies it twice. Its broker in memory holds any number of messages, which are here let in as many at a time as
//! ours holds, so that neither gains by what lies in a cache.
//!
//! What ours does for a message and this does not: it gives it an id, bounds how many wait, and keeps it to be
//! handled again.

use std::{convert::Infallible, sync::Arc};

use ruststream::{
    OutgoingMessage,
    memory::{MemoryPublisher, prelude::*},
    runtime::RunningApp,
};
use watermill_benchmarks::{BODY, Counter, WAITING_MAX};

/// A workload by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Publish, handle, ack.
    OneHop,
    /// Publish, handle and publish, handle, ack.
    TwoHops,
}

impl Workload {
    pub(crate) const ALL: [Self; 2] = [Self::OneHop, Self::TwoHops];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::OneHop => "ruststream/publish-handle",
            Self::TwoHops => "ruststream/publish-handle-publish-handle",
        }
    }

    /// Sets everything up; the returned [`Running`] moves messages.
    pub(crate) async fn start(self) -> Running {
        let counter = Arc::new(Counter::default());
        let state = counter.clone();
        let broker = MemoryBroker::new();
        let app = RustStream::new(AppInfo::new("benchmark", "0.1.0"))
            .on_startup(async move |()| Ok::<_, Infallible>(state))
            .with_broker(broker.clone(), |scope| match self {
                Self::OneHop => {
                    scope.include(count_in);
                }
                Self::TwoHops => {
                    scope.include(pass).out(DefaultSlot, Publish).build();
                    scope.include(count_out);
                }
            });
        let app = app.start().await.expect("the service starts");
        Running { counter, publisher: broker.publisher(), app }
    }
}

/// The delivery's bytes, where they lie.
#[derive(Deserialized)]
struct Received<'a>(&'a [u8]);

/// A handler that only counts.
#[subscriber("in")]
async fn count_in(_message: &Received<'_>, ctx: &mut Context<'_, (), Arc<Counter>>) -> HandlerOutcome {
    ctx.state().add_one();
    HandlerOutcome::ack()
}

/// The same, at the end of two hops.
#[subscriber("out")]
async fn count_out(_message: &Received<'_>, ctx: &mut Context<'_, (), Arc<Counter>>) -> HandlerOutcome {
    ctx.state().add_one();
    HandlerOutcome::ack()
}

/// A handler that hands a message on.
#[subscriber("in")]
async fn pass(message: &Received<'_>, Out(out): Out<impl Publisher>) -> HandlerOutcome {
    match out.message(&Lent(message.0)).to("out").publish().await {
        Ok(_) => HandlerOutcome::ack(),
        Err(_) => HandlerOutcome::retry(),
    }
}

/// Bytes that leave as they are, read where they lie.
#[derive(Outgoing)]
struct Lent<'a>(&'a [u8]);

impl Serialized for Lent<'_> {
    type Error = Infallible;

    fn wire_bytes(&self, _buffer: &mut BytesMut) -> Result<WireBytes<'_>, Infallible> {
        Ok(WireBytes::Own(self.0))
    }
}

impl MessageWire for Lent<'_> {
    type Wire = SerializedWire;
}

/// A workload that is set up.
pub(crate) struct Running {
    counter: Arc<Counter>,
    publisher: MemoryPublisher,
    app: RunningApp,
}

impl Running {
    /// Moves `messages` messages and waits until the last is handled.
    pub(crate) async fn move_messages(&self, messages: u64) {
        let first = self.counter.handled();
        let until = first + messages;
        for published in 1..=messages {
            self.publisher
                .publish(OutgoingMessage::new("in", &BODY), None)
                .await
                .expect("the broker is open");
            if published % WAITING_MAX as u64 == 0 {
                self.counter.reached(first + published).await;
            }
        }
        self.counter.reached(until).await;
    }

    pub(crate) async fn stop(self) {
        let _ = self.app.shutdown().await;
    }
}
