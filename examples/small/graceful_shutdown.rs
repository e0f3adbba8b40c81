//! A stop in the right order: what is in hand is finished, what has not begun goes back, and publishers close last.
//!
//! ```sh
//! cargo run --bin graceful_shutdown
//! ```
//!
//! A service has `run_until(tokio::signal::ctrl_c())` or the plugin `Signals` where this has a notification.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;
use watermill_core::{
    Handler, MemoryBroker, Message, Publisher as _, Router, State,
    error::BoxError,
    router::{Phase, RouterConfig},
};

/// What the handler and the program tell each other.
#[derive(Clone, Default)]
struct Moments {
    begun: Arc<Notify>,
    may_end: Arc<Notify>,
}

async fn bake(State(moments): State<Moments>, cake: Message) -> Message {
    println!("in the oven: {}", String::from_utf8_lossy(cake.payload()));
    moments.begun.notify_one();
    moments.may_end.notified().await;
    println!("baked");
    cake
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (broker, moments, closing_time) = (MemoryBroker::new(), Moments::default(), Arc::new(Notify::new()));
    let router = Router::new()
        // How long handlers may take once the router is told to stop; then they are dropped, and their messages come again.
        .with_config(RouterConfig::default().drain_deadline(Duration::from_secs(30)))
        .with_state(moments.clone())
        .close_publisher_on_stop(broker.publisher())
        .add(Handler::new("bake", bake).from(broker.subscriber(), "cakes").to(broker.publisher(), "counter"));
    let control = router.control();
    let until = closing_time.clone();
    let running = tokio::spawn(router.run_until(async move { until.notified().await }));
    control.reached(Phase::Running).await;
    broker.publisher().publish("cakes", vec![Message::new("plum"), Message::new("apple")]).await?;

    moments.begun.notified().await;
    println!("it is closing time");
    closing_time.notify_one();
    control.reached(Phase::Draining).await;
    moments.may_end.notify_one();
    println!("{}", running.await??);
    Ok(())
}
