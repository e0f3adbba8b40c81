//! A request that waits for its reply, one that fails, and one that several answer.
//!
//! ```sh
//! cargo run --bin request_reply
//! ```

use std::{fmt, time::Duration};

use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use watermill_core::{
    Json, MemoryBroker, Router,
    cqrs::{CommandBus, CommandProcessor, EventProcessor, Named, Topics},
    error::BoxError,
    request_reply::{ReplyInbox, ReplyInboxConfig, Responder},
    router::Phase,
};

#[derive(Serialize, Deserialize, Named)]
struct Quote {
    nights: u32,
}

/// What many are asked.
#[derive(Serialize, Deserialize, Named)]
struct AnyRoom {}

#[derive(Debug, Serialize, Deserialize)]
struct TooLong {
    nights_at_most: u32,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nobody stays for more than {} nights", self.nights_at_most)
    }
}

impl std::error::Error for TooLong {}

/// An ordinary handler: what it returns is the reply, and so is its error.
async fn quote(request: Quote) -> Result<Json<u32>, TooLong> {
    match request.nights {
        ..=30 => Ok(Json(request.nights * 80)),
        _ => Err(TooLong { nights_at_most: 30 }),
    }
}

async fn hotel(_: AnyRoom) -> Json<String> {
    Json("the hotel has one".to_owned())
}

async fn hostel(_: AnyRoom) -> Json<String> {
    Json("the hostel has ten".to_owned())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let broker = MemoryBroker::new();
    let commands = CommandProcessor::new(broker.subscriber(), Topics::by_name());
    // A question to many is handled like an event: by whoever wants to.
    let questions = EventProcessor::new(broker.subscriber(), Topics::by_name());
    let responder = Responder::new().send_errors::<TooLong>();
    let router = Router::new()
        .add(commands.handler("quote", quote).to(broker.publisher(), "replies").layer(responder.clone()))
        .add(questions.handler("hotel", hotel).to(broker.publisher(), "replies").layer(responder.clone()))
        .add(questions.handler("hostel", hostel).to(broker.publisher(), "replies").layer(responder));
    let control = router.control();
    let running = tokio::spawn(router.run());
    control.reached(Phase::Running).await;

    let bus = CommandBus::new(broker.publisher(), Topics::by_name());
    let inbox = ReplyInbox::open(broker.subscriber(), ReplyInboxConfig::new("replies")).await?;

    let price: u32 = inbox.request(&bus, &Quote { nights: 3 }).reply().await?;
    println!("3 nights: {price} euros");

    let error = inbox.request(&bus, &Quote { nights: 31 }).reply::<u32>().await.expect_err("it is too long");
    let failed = error.handler_failed().expect("it was answered");
    let too_long: TooLong = failed.details().expect("it is sent as it is");
    println!("31 nights: {failed}; so {} nights it is", too_long.nights_at_most);

    let request = inbox.request(&bus, &AnyRoom {}).timeout(Duration::from_secs(5));
    let mut rooms: Vec<String> = Vec::new();
    let mut replies = request.replies::<String>().await?.take(2);
    while let Some(reply) = replies.next().await {
        rooms.push(reply?);
    }
    rooms.sort();
    println!("any room: {}", rooms.join(", "));

    inbox.close().await;
    control.stop();
    let report = running.await??;
    for handler in ["quote", "hotel", "hostel"] {
        println!("{}", report.handler(handler).expect("it ran"));
    }
    Ok(())
}
