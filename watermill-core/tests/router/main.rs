//! How a router runs handlers: what it does with successes, failures, order, layers and its own end.

mod around;
mod batch;
mod composing;
mod destinations;
mod doubles;
mod ending;
mod failure;
mod forgetful;
mod handling;
mod layers;
mod lifecycle;
mod lost;
mod nacked;
mod order;
mod properties;
mod restarting;
mod starting;
mod timing;
mod trouble;
mod window;

use tokio::task::JoinHandle;
use tower::layer::util::Identity;
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
    async fn start<S: Send + 'static, L: Send + Sync + 'static>(router: Router<S, L>) -> Self {
        let control = router.control();
        let task = tokio::spawn(router.run());
        control.reached(Phase::Running).await;
        Self { control, task }
    }

    /// Lets it drain.
    async fn stop(self) -> Result<Report, RunError> {
        self.control.stop();
        self.task.await.expect("the router does not panic")
    }
}

/// A router without state and layers.
fn router() -> Router<(), Identity> {
    Router::new()
}

fn message(id: impl ToString) -> Message {
    Message::with_id(id.to_string(), "payload")
}

/// The ids of messages or outcomes, as text.
fn ids<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<String> {
    messages.into_iter().map(|message| message.id().to_string()).collect()
}
