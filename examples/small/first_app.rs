//! The first app: a handler between two topics.
//!
//! ```sh
//! cargo run --bin first_app
//! ```

use futures::StreamExt as _;
use watermill_core::{
    Handler, Json, MemoryBroker, Message, PublisherExt as _, Router, Subscriber as _, error::BoxError,
    router::Phase,
};

async fn greet(Json(name): Json<String>) -> Json<String> {
    Json(format!("Hello, {name}!"))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let broker = MemoryBroker::new();
    let handler =
        Handler::new("greet", greet).from(broker.subscriber(), "names").to(broker.publisher(), "greetings");
    let router = Router::new().add(handler);
    let control = router.control();
    let running = tokio::spawn(router.run());
    control.reached(Phase::Running).await;

    let mut greetings = broker.subscriber().group("readers").subscribe("greetings").await?;
    for name in ["Ada", "Grace"] {
        broker.publisher().publish_one("names", Message::json(name)?).await?;
        let greeting = greetings.next().await.expect("it is open")?;
        println!("{}", greeting.message().decode_json::<String>()?);
        greeting.ack();
    }
    control.stop();
    println!("{}", running.await??);
    Ok(())
}
