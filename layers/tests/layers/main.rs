//! Layers written from the public API alone work in a router.

mod deduplicator;
mod instant_ack;
mod transactional;

use tokio::task::JoinHandle;
use watermill_core::{
    Message, Router,
    router::{Phase, Report, RouterControl, RunError},
};

/// A router that runs in the background.
struct Running {
    control: RouterControl,
    task: JoinHandle<Result<Report, RunError>>,
}

impl Running {
    /// Starts a router and waits until its handlers have subscribed.
    async fn start(router: Router) -> Self {
        let control = router.control();
        let task = tokio::spawn(router.run());
        control.reached(Phase::Running).await;
        Self { control, task }
    }

    /// Lets it drain.
    async fn stop(self) {
        self.control.stop();
        self.task.await.expect("the router does not panic").expect("it drains");
    }
}

fn message(id: &'static str) -> Message {
    Message::with_id(id, "payload")
}
