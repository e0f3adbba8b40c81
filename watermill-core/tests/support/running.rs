//! A router that runs in the background of a test.

use std::time::{Duration, SystemTime};

use tokio::{task::JoinHandle, time::sleep};
use watermill_core::{
    Router,
    router::{Phase, Report, RouterControl, RunError},
};
use watermill_testkit::patience;

pub(crate) struct Running {
    pub(crate) control: RouterControl,
    task: JoinHandle<Result<Report, RunError>>,
}

impl Running {
    /// Starts a router and waits until its handlers have subscribed.
    pub(crate) async fn start<S: Send + 'static, L: Send + Sync + 'static>(router: Router<S, L>) -> Self {
        let control = router.control();
        let task = tokio::spawn(router.run());
        control.reached(Phase::Running).await;
        Self { control, task }
    }

    /// Waits until a handler is done with so many messages, one way or another.
    pub(crate) async fn handled(&self, handler: &str, count: u64) {
        let is_done = || {
            let counts = self.control.handler(handler).expect("it runs").counts;
            counts.acked + counts.dropped + counts.dead_lettered >= count
        };
        // By the real clock: the runtime's may be paused, and jumps ahead then.
        let begun = SystemTime::now();
        while !is_done() {
            assert!(
                begun.elapsed().unwrap_or_default() < patience(),
                "{handler:?} has not handled {count} messages"
            );
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Lets it drain.
    pub(crate) async fn stop(self) -> Report {
        self.control.stop();
        self.task.await.expect("the router does not panic").expect("it drains")
    }
}
