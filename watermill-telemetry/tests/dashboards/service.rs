//! A service to which everything happens that the dashboard shows, again and again.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{net::TcpListener, task::JoinSet, time::interval};
use watermill_core::{
    FailurePolicy, Handler, MemoryBroker, Message, PublisherExt, Router, Subscriber, Subscription,
    error::{Permanent, PublishErrorKind, SubscribeError},
    router::Phase,
    subscriber::SubscriberCapabilities,
    subscription::{Health, SubscriptionStatus},
};
use watermill_forwarder::{Forwarder, ForwarderPublisher};
use watermill_telemetry::{Metrics, Pages, Watched};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

/// It ends when it is dropped.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    /// Everything that runs.
    _tasks: JoinSet<()>,
}

async fn bill(message: Message) -> Result<Message, Permanent> {
    match &message.payload()[..] {
        b"fail" => Err(Permanent::new("never")),
        b"panic" => panic!("asked to"),
        _ => Ok(Message::new("invoice")),
    }
}

impl Service {
    pub(crate) async fn start() -> Self {
        let (metrics, broker, ends) = (Metrics::prometheus(), MemoryBroker::new(), ScriptedSubscriber::new());
        let policy = FailurePolicy::nack().then_dead_letter(RecordingPublisher::new(), "dead");
        let router = metrics
            .on(Router::new())
            .add(
                Handler::new("bill", bill)
                    .from(broker.subscriber(), "orders")
                    .to(broker.publisher(), "invoices")
                    .on_failure(policy),
            )
            .add(Handler::new("ends", async || {}).from(ends.clone(), "ended"));
        let forwarder = Forwarder::builder(broker.subscriber(), RecordingPublisher::new())
            .dead_letters(RecordingPublisher::new())
            .build()
            .expect("it is complete");
        let outbox = forwarder.config().topic.clone();
        let (control, relay) = (router.control(), forwarder.control());
        let watched = Watched::new()
            .router(control.clone())
            .relay("outbox", relay.clone())
            .subscriber("audit", Arc::new(Behind) as Arc<dyn Subscriber>);
        let pages = Pages::new(watched).metrics(&metrics);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");

        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _ = axum::serve(listener, pages.into_router::<()>()).await;
        });
        tasks.spawn(async move {
            let _ = router.run().await;
        });
        tasks.spawn(async move {
            let _ = forwarder.run_until(std::future::pending()).await;
        });
        control.reached(Phase::Running).await;
        relay.reached(Phase::Running).await;
        ends.close().await.expect("a script can be closed");
        tasks.spawn(work(metrics, broker, outbox));
        Self { address, _tasks: tasks }
    }
}

/// Some of everything, ten times a second.
async fn work(metrics: Metrics, broker: MemoryBroker, outbox: String) {
    let (orders, mails) = (broker.publisher(), ForwarderPublisher::new(broker.publisher()));
    let refusing = RecordingPublisher::new();
    let mut ticks = interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        for payload in ["well", "fail", "panic"] {
            orders.publish_one("orders", Message::new(payload)).await.expect("the broker is open");
        }
        mails.publish_one("mails", Message::new("well")).await.expect("the broker is open");
        orders.publish_one(&outbox, Message::new("no envelope")).await.expect("the broker is open");
        refusing.fail_next(1, PublishErrorKind::Unavailable);
        let refused = metrics.publisher(refusing.clone()).publish_one("away", Message::new("x")).await;
        refused.expect_err("it refuses");
    }
}

/// A subscriber that is behind and cannot read.
struct Behind;

#[async_trait]
impl Subscriber for Behind {
    async fn subscribe(&self, _: &str) -> Result<Subscription, SubscribeError> {
        unreachable!("it is looked at and not read")
    }

    async fn initialize(&self, _: &str) -> Result<(), SubscribeError> {
        Ok(())
    }

    fn in_group(&self, _: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        Ok(Arc::new(Self))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        Ok(())
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        let health = Health::Degraded { reason: "the server is away".to_owned() };
        let status = SubscriptionStatus::new("events", health).lag(Some(7));
        vec![status.oldest_unsettled(Some(Duration::from_secs(4_000))).held_back_by(Some("a transaction"))]
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        SubscriberCapabilities::new("behind")
    }
}
