//! What outputs on their way behind each other gain, with a publisher that reports 2 ms later.

use std::time::Duration;

use tokio::{runtime::Builder, time::Instant};
use watermill_core::{Handler, Message, Router};
use watermill_testkit::{Figure, Limit, RecordingPublisher, ScriptedSubscriber, workload};

/// The publisher's delivery report comes this much later.
const REPORT: Duration = Duration::from_millis(2);
const MESSAGES: usize = 2_000;

/// The rate with outputs on their way, against one at a time, both by the paused clock: the same in
/// every run.
pub(crate) fn figure() -> Figure {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let rate = |pipeline| workload::per_second(MESSAGES, runtime.block_on(time(pipeline)));
    Figure::new("pipelining/2ms-report", rate(1_000), "messages per second of the paused clock")
        .baseline(rate(0))
        .limit(Limit::AtLeast(50.0))
}

async fn time(pipeline: usize) -> Duration {
    async fn pass(message: Message) -> Message {
        message
    }
    let source = ScriptedSubscriber::new();
    let target = RecordingPublisher::new().keeps_order(true).with_latency(REPORT);
    for n in 0..MESSAGES {
        source.push(workload::message(n));
    }
    let handler = Handler::new("pass", pass).from(source.clone(), "in").to(target.clone(), "out");
    let router = Router::new().add(handler.pipeline(pipeline));
    let control = router.control();
    let started = Instant::now();
    let task = tokio::spawn(router.run());
    source.settled(MESSAGES).await;
    let took = started.elapsed();
    control.stop();
    task.await.expect("no panic").expect("a clean end");
    let order = |n: usize, message: &Message| message.metadata().get("sequence") == Some(&*n.to_string());
    assert!(target.published("out").iter().enumerate().all(|(n, message)| order(n, message)), "out of order");
    took
}
