//! Webhooks in the place of a broker: the prize service takes announcements in, keeps them, and hears of what it has kept.
//!
//! Who announces waits for the answer, so a webhook must not wait for the winner to be stored, which comes later as a rule.

use std::sync::Arc;

use tokio::net::TcpListener;
use watermill_core::{Handler, MemoryBroker, Message, Router, error::BoxError, router::Phase};
use watermill_http::{HttpPublisher, HttpPublisherConfig, HttpSubscriber, HttpSubscriberConfig};

use crate::{broker::Broker, prize::TOPIC};

/// Listens at an address, of which a port of 0 is any that is free, and posts to it.
pub(crate) async fn open(address: &str, kept: MemoryBroker) -> Result<Broker, BoxError> {
    let listener = TcpListener::bind(address).await?;
    let url = format!("http://{}/hooks", listener.local_addr()?);
    let webhooks = HttpSubscriber::new(HttpSubscriberConfig::default())?;
    let app = axum::Router::new().route("/hooks", webhooks.route(TOPIC));
    tokio::spawn(async move { axum::serve(listener, app).await });

    let router =
        Router::new().add(Handler::new("keep", keep).from(webhooks, TOPIC).to(kept.publisher(), TOPIC));
    let control = router.control();
    tokio::spawn(router.run_until(std::future::pending::<()>()));
    control.reached(Phase::Running).await;
    let publisher = HttpPublisher::new(HttpPublisherConfig::default().url(url))?;
    Ok(Broker { publisher: Arc::new(publisher), prizes: Arc::new(kept.subscriber().group("prizes")) })
}

/// Answered when it is kept.
async fn keep(announcement: Message) -> Message {
    announcement
}
