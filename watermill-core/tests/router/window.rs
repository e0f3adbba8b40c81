//! What a worker takes from its subscription: what it works on, and no more.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::{Barrier, Semaphore};
use tower::{Layer, Service};
use watermill_core::{Handler, Message, Outputs, State, delivery::Outcome, subscriber};
use watermill_testkit::{RecordingPublisher, ScriptedDelivery, ScriptedSubscriber};

use crate::{Running, ids, message, router};

/// Counts calls, and lets each go on when it is given a permit.
#[derive(Clone)]
struct Gate {
    begun: Arc<AtomicUsize>,
    permits: Arc<Semaphore>,
}

impl Gate {
    fn new() -> Self {
        Self { begun: Arc::default(), permits: Arc::new(Semaphore::new(0)) }
    }

    async fn begun(&self, count: usize) {
        while self.begun.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
        settle_down().await;
        assert_eq!(self.begun.load(Ordering::SeqCst), count);
    }

    fn open(&self, calls: usize) {
        self.permits.add_permits(calls);
    }
}

/// Lets every task do what it can do without waiting for something from outside.
async fn settle_down() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

async fn gated(State(gate): State<Gate>, message: Message) -> Message {
    gate.begun.fetch_add(1, Ordering::SeqCst);
    gate.permits.acquire().await.unwrap().forget();
    message
}

#[tokio::test]
async fn while_a_message_is_handled_the_next_stays_in_the_subscription() {
    let (source, target) = (ScriptedSubscriber::new(), RecordingPublisher::new().keeps_order(true));
    target.hold();
    for n in 0..200 {
        source.push(message(n));
    }
    let gate = Gate::new();
    let handler = Handler::new("gated", gated).from(source.clone(), "in").to(target.clone(), "out");
    let running = Running::start(router().with_state(gate.clone()).add(handler)).await;
    gate.begun(1).await;
    assert!(source.handed_out() <= 2, "{} handed out", source.handed_out());

    // Outputs on their way do not change it: what they are made of was handled, and is not counted.
    gate.open(9);
    gate.begun(10).await;
    assert!(source.handed_out() <= 11, "{} handed out", source.handed_out());
    assert_eq!(source.outcomes(), [], "nothing is acked whose outputs are on their way");

    target.release();
    gate.open(1);
    let control = running.control.clone();
    control.stop();
    let report = running.stop().await.unwrap();
    assert_eq!(report.handler("gated").unwrap().counts.acked, 10, "what had begun was finished");
    assert_eq!(ids(&target.published("out")).len(), 10);
}

#[tokio::test]
async fn so_it_is_in_each_of_several_scopes() {
    let (source, target) = (ScriptedSubscriber::new(), RecordingPublisher::new().keeps_order(true));
    target.hold();
    for n in 0..200_u64 {
        source.push(ScriptedDelivery::new(message(n)).scope(n % 5));
    }
    let gate = Gate::new();
    let handler = Handler::new("gated", gated).from(source.clone(), "in").to(target.clone(), "out");
    let running = Running::start(router().with_state(gate.clone()).add(handler)).await;
    gate.begun(5).await;
    assert_eq!(source.handed_out(), 5);
    gate.open(5);
    gate.begun(10).await;
    assert_eq!(source.handed_out(), 10, "one more in each scope, and its predecessor's outputs on their way");
    gate.open(usize::MAX >> 4);
    target.release();
    source.settled(200).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn more_scopes_than_run_at_once_have_outputs_on_their_way() {
    let (source, target) = (ScriptedSubscriber::new(), RecordingPublisher::new().keeps_order(true));
    target.hold();
    for n in 0..20 {
        source.push(ScriptedDelivery::new(message(n)).scope(n));
    }
    let handler = Handler::new("pass", |message: Message| async { message })
        .from(source.clone(), "in")
        .to(target.clone(), "out")
        .scopes(3);
    let running = Running::start(router().add(handler)).await;
    target.await_calls(20).await;
    assert_eq!(source.outstanding(), 20);
    target.release();
    source.settled(20).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_outstanding_in_all_scopes_together_is_bounded() {
    let (source, target) = (ScriptedSubscriber::new(), RecordingPublisher::new().keeps_order(true));
    target.hold();
    for n in 0..100 {
        source.push(ScriptedDelivery::new(message(n)).scope(n % 10));
    }
    let handler = Handler::new("pass", |message: Message| async { message })
        .from(source.clone(), "in")
        .to(target.clone(), "out")
        .scopes(3)
        .pipeline(4);
    let running = Running::start(router().add(handler)).await;
    target.await_calls(7).await;
    settle_down().await;
    assert_eq!(source.outstanding(), 7, "three lanes, and four outputs");
    target.release();
    source.settled(100).await;
    assert!(source.outstanding_max() <= 7, "{}", source.outstanding_max());
    running.stop().await.unwrap();
}

fn unordered() -> ScriptedSubscriber {
    ScriptedSubscriber::new().ordering(subscriber::Ordering::None)
}

#[tokio::test]
async fn where_there_is_no_order_a_handler_runs_64_at_once_and_hoards_nothing() {
    async fn meet(State(barrier): State<Arc<Barrier>>) {
        barrier.wait().await;
    }
    let source = unordered();
    for n in 0..192 {
        source.push(message(n));
    }
    let handler = Handler::new("meet", meet).from(source.clone(), "in");
    let running = Running::start(router().with_state(Arc::new(Barrier::new(64))).add(handler)).await;
    source.settled(192).await;
    assert_eq!(source.outstanding_max(), 64);
    assert!(source.windows().iter().all(|window| !window.is_ordered()), "a nacked one holds nothing up");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn where_there_is_no_order_one_at_a_time_can_be_asked_for() {
    let (source, gate) = (unordered(), Gate::new());
    for n in 0..10 {
        source.push(message(n));
    }
    let handler = Handler::new("gated", gated)
        .from(source.clone(), "in")
        .to(RecordingPublisher::new(), "out")
        .scopes(1);
    let running = Running::start(router().with_state(gate.clone()).add(handler)).await;
    gate.begun(1).await;
    assert_eq!(source.handed_out(), 1);
    gate.open(10);
    source.settled(10).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_stop_gives_back_what_has_not_begun() {
    let (source, gate) = (ScriptedSubscriber::new(), Gate::new());
    for n in 0..100 {
        // All of one key, so that they lie behind each other.
        source.push(message(n).with_key("busy"));
    }
    let handler = Handler::new("gated", gated)
        .from(source.clone(), "in")
        .to(RecordingPublisher::new(), "out")
        .ordered_by_key(8);
    let running = Running::start(router().with_state(gate.clone()).add(handler)).await;
    gate.begun(1).await;
    let taken = source.handed_out();
    assert!((2..=9).contains(&taken), "the busy key was looked past, by 8 at the most: {taken}");

    running.control.stop();
    let settled = source.settled(taken - 1).await;
    assert!(settled.iter().all(|(id, outcome)| &**id != "0" && matches!(outcome, Outcome::Nack { .. })));
    assert_eq!(gate.begun.load(Ordering::SeqCst), 1, "given back while the first is still being handled");
    gate.open(1);
    let report = running.stop().await.unwrap();
    let counts = report.handler("gated").unwrap().counts;
    assert_eq!((counts.acked, counts.nacked), (1, taken as u64 - 1));
    assert_eq!(gate.begun.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_layer_that_is_not_ready_keeps_messages_in_the_subscription() {
    /// Ready for one call each time it is told to be.
    #[derive(Clone, Default)]
    struct OneByOne(Arc<Turns>);

    #[derive(Default)]
    struct Turns {
        open: AtomicBool,
        unready_calls: AtomicUsize,
        waker: Mutex<Option<std::task::Waker>>,
    }

    struct Limited<S>(S, Arc<Turns>);

    impl<S> Layer<S> for OneByOne {
        type Service = Limited<S>;

        fn layer(&self, inner: S) -> Limited<S> {
            Limited(inner, self.0.clone())
        }
    }

    impl<S: Service<Message, Response = Outputs>> Service<Message> for Limited<S> {
        type Response = Outputs;
        type Error = S::Error;
        type Future = S::Future;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
            *self.1.waker.lock().unwrap() = Some(cx.waker().clone());
            if self.1.open.load(Ordering::SeqCst) { self.0.poll_ready(cx) } else { Poll::Pending }
        }

        fn call(&mut self, message: Message) -> S::Future {
            let ready = self.1.open.swap(false, Ordering::SeqCst);
            self.1.unready_calls.fetch_add(usize::from(!ready), Ordering::SeqCst);
            self.0.call(message)
        }
    }

    let (source, target) = (ScriptedSubscriber::new(), RecordingPublisher::new().keeps_order(true));
    target.hold();
    for n in 0..5 {
        source.push(message(n));
    }
    let limit = OneByOne::default();
    let handler = Handler::new("pass", |message: Message| async { message })
        .from(source.clone(), "in")
        .to(target.clone(), "out")
        .layer(limit.clone());
    let running = Running::start(router().add(handler)).await;
    for n in 0..5 {
        settle_down().await;
        assert_eq!(source.handed_out(), n, "no more than it was ready for");
        limit.0.open.store(true, Ordering::SeqCst);
        if let Some(waker) = limit.0.waker.lock().unwrap().take() {
            waker.wake();
        }
        target.await_calls(n + 1).await;
    }
    assert_eq!(limit.0.unready_calls.load(Ordering::SeqCst), 0);
    target.release();
    source.settled(5).await;
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_batch_takes_what_fits_into_it() {
    fn begin(messages: Vec<Message>) -> impl Future<Output = ()> + Send {
        assert!(messages.len() <= 10);
        std::future::ready(())
    }
    let source = ScriptedSubscriber::new();
    for n in 0..100 {
        source.push(message(n));
    }
    let handler = Handler::batch("begin", 10, Duration::from_millis(1), begin).from(source.clone(), "in");
    let running = Running::start(router().add(handler)).await;
    source.settled(100).await;
    assert!(source.outstanding_max() <= 10, "{}", source.outstanding_max());
    running.stop().await.unwrap();
}
