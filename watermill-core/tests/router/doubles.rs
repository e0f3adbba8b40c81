//! Subscribers, publishers and plugins that take their time.

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::sleep;
use watermill_core::{
    Message, Publisher, Subscriber, Subscription, Window,
    error::{BoxError, PublishError, SubscribeError},
    publisher::PublisherCapabilities,
    router::{Plugin, Report, RouterControl},
    subscriber::SubscriberCapabilities,
    subscription::{SubscriptionControl, SubscriptionStatus},
};
use watermill_testkit::ScriptedSubscriber;

/// A scripted subscriber whose `subscribe` takes some time, or whose subscriptions never finish to close.
#[derive(Clone, Default)]
pub(crate) struct Slow {
    pub(crate) script: ScriptedSubscriber,
    pub(crate) subscribing: Duration,
    pub(crate) never_closes: bool,
}

struct NeverCloses(Arc<dyn SubscriptionControl>);

#[async_trait]
impl Subscriber for Slow {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        if !self.subscribing.is_zero() {
            sleep(self.subscribing).await;
        }
        let subscription = self.script.subscribe(topic).await?;
        if !self.never_closes {
            return Ok(subscription);
        }
        let (stream, control) = subscription.into_parts();
        Ok(Subscription::new(stream, NeverCloses(control)))
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.script.initialize(topic).await
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        self.script.in_group(group)
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.script.close().await
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.script.status()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        self.script.capabilities()
    }
}

#[async_trait]
impl SubscriptionControl for NeverCloses {
    fn set_window(&self, window: Window) {
        self.0.set_window(window);
    }

    fn stop_intake(&self) {
        self.0.stop_intake();
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        pending().await
    }

    fn status(&self) -> SubscriptionStatus {
        self.0.status()
    }
}

/// A publisher that takes everything and notes when it is closed, or never finishes to close.
#[derive(Clone, Default)]
pub(crate) struct Sink {
    pub(crate) name: &'static str,
    pub(crate) log: Log,
    pub(crate) never_closes: bool,
}

pub(crate) type Log = Arc<Mutex<Vec<String>>>;

#[async_trait]
impl Publisher for Sink {
    async fn publish(&self, _topic: &str, _messages: Vec<Message>) -> Result<(), PublishError> {
        Ok(())
    }

    async fn close(&self) -> Result<(), PublishError> {
        if self.never_closes {
            return pending().await;
        }
        self.log.lock().unwrap().push(format!("{} closed", self.name));
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new("sink")
    }
}

/// A plugin that notes its start and its stop, may refuse to start, and may never finish to stop.
#[derive(Clone, Default)]
pub(crate) struct Noting {
    pub(crate) name: &'static str,
    pub(crate) log: Log,
    pub(crate) refuses: bool,
    pub(crate) never_stops: bool,
}

#[async_trait]
impl Plugin for Noting {
    async fn on_start(&self, _: &RouterControl) -> Result<(), BoxError> {
        if self.refuses {
            return Err("the port is taken".into());
        }
        self.log.lock().unwrap().push(format!("{} started", self.name));
        Ok(())
    }

    async fn on_stop(&self, _: &Report) {
        if self.never_stops {
            return pending().await;
        }
        self.log.lock().unwrap().push(format!("{} stopped", self.name));
    }
}
