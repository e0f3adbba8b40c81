//! What the components do with real routers and the memory backend.

mod claim_check;
mod conformance;
mod delaying;
mod fan_in;
mod fan_out;
mod replay;
mod requeuing;
mod retry_topics;

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
    async fn stop(self) -> Report {
        self.control.stop();
        self.task.await.expect("the router does not panic").expect("it ends well")
    }
}

fn message(id: impl ToString) -> Message {
    Message::with_id(id.to_string(), "payload")
}

fn ids<'m>(messages: impl IntoIterator<Item = &'m Message>) -> Vec<String> {
    messages.into_iter().map(|message| message.id().to_string()).collect()
}
