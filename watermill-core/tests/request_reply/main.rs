//! Requests and their replies.

mod answering;
mod asking;
#[path = "../support/running.rs"]
mod running;

use std::{error::Error, fmt};

use serde::{Deserialize, Serialize};
use watermill_core::{
    Handler, Json, MemoryBroker, Router,
    cqrs::{CommandBus, CommandProcessor, Named, Topics},
    request_reply::{ReplyInbox, ReplyInboxConfig, Responder},
};

use running::Running;

#[derive(Debug, Serialize, Deserialize)]
struct Quote {
    nights: u32,
}

impl Named for Quote {
    const NAME: &'static str = "Quote";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct NoNights {
    asked: u32,
}

impl fmt::Display for NoNights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nobody stays for {} nights", self.asked)
    }
}

impl Error for NoNights {}

async fn quote(request: Quote) -> Result<Json<u32>, NoNights> {
    match request.nights {
        0 => Err(NoNights { asked: 0 }),
        nights => Ok(Json(nights * 80)),
    }
}

/// A broker, and all that asks over it.
struct Hotel {
    broker: MemoryBroker,
    bus: CommandBus,
    inbox: ReplyInbox,
}

impl Hotel {
    async fn open() -> Self {
        Self::with(ReplyInboxConfig::new("replies")).await
    }

    async fn with(config: ReplyInboxConfig) -> Self {
        let broker = MemoryBroker::new();
        let inbox = ReplyInbox::open(broker.subscriber(), config).await.unwrap();
        let bus = CommandBus::new(broker.publisher(), Topics::by_name());
        Self { broker, bus, inbox }
    }

    fn commands(&self) -> CommandProcessor {
        CommandProcessor::new(self.broker.subscriber(), Topics::by_name())
    }

    /// Has `quote` answer.
    async fn quoting(&self, responder: Responder) -> Running {
        let handler =
            self.commands().handler("quote", quote).to(self.broker.publisher(), "replies").layer(responder);
        Running::start(Router::new().add(handler)).await
    }

    /// Has a handler of JSON on the topic `Quote` answer.
    async fn answering<F, Args>(&self, name: &str, function: F) -> Running
    where
        F: watermill_core::router::HandlerFn<Args, (), Kind = watermill_core::router::types::Messages>,
        Args: 'static,
    {
        let handler = Handler::new(name, function)
            .from(self.broker.subscriber(), "Quote")
            .to(self.broker.publisher(), "replies")
            .layer(Responder::new());
        Running::start(Router::new().add(handler)).await
    }
}
