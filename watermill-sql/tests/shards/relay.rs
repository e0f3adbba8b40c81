//! [`Relay`]: a relay as a process is one, with a runtime and a pool of its own, that can be killed.

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Runtime, sync::oneshot};
use watermill_forwarder::{FencedForwarder, Forwarder, ForwarderConfig, ForwarderControl};
use watermill_sql::{SqlFencedPublisher, SqlPublisherConfig, SqlSubscriber, SqlSubscriberConfig};

use crate::{server::Server, written::Record};

pub(crate) const GROUP: &str = "relay";

pub(crate) struct Relay {
    runtime: Option<Runtime>,
    pub(crate) control: ForwarderControl,
}

pub(crate) fn subscriber_config() -> SqlSubscriberConfig {
    SqlSubscriberConfig::default().group(GROUP).lease(Duration::from_secs(1))
}

fn config(shards: u32) -> ForwarderConfig {
    let backoff = watermill_core::Backoff::constant(Duration::from_millis(50));
    ForwarderConfig::default().batch_size(20).shards(shards).await_source(true).backoff(backoff)
}

impl Relay {
    /// Into a record.
    pub(crate) async fn start<S: Server>(source: &Arc<S>, record: &Record, shards: u32) -> Self {
        let (source, record) = (source.clone(), record.clone());
        Self::run(async move |control: oneshot::Sender<_>| {
            let outbox = SqlSubscriber::new(source.connect().await, subscriber_config()).unwrap();
            let relay = Forwarder::builder(outbox, record).config(config(shards)).build().unwrap();
            let _ = control.send(relay.control());
            let _ = relay.run_until(std::future::pending()).await;
        })
        .await
    }

    /// Into a database, exactly once.
    pub(crate) async fn start_fenced<S: Server>(source: &Arc<S>, destination: &Arc<S>, shards: u32) -> Self {
        let (source, destination) = (source.clone(), destination.clone());
        Self::run(async move |control: oneshot::Sender<_>| {
            let outbox = SqlSubscriber::new(source.connect().await, subscriber_config()).unwrap();
            let events = SqlFencedPublisher::new(destination.connect().await, SqlPublisherConfig::default());
            let relay = FencedForwarder::builder(outbox, events.unwrap(), "relay");
            let relay = relay.config(config(shards)).build().unwrap();
            let _ = control.send(relay.control());
            // Whoever was fenced as a whole stands by again, as under a supervisor.
            while relay.clone().run_until(std::future::pending()).await.is_err() {}
        })
        .await
    }

    async fn run<F>(main: impl FnOnce(oneshot::Sender<ForwarderControl>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let (control, made) = oneshot::channel();
        runtime.spawn(main(control));
        Self { runtime: Some(runtime), control: made.await.unwrap() }
    }

    /// How many shards it has.
    pub(crate) fn holds(&self) -> usize {
        let shards = self.control.status().shards;
        shards.iter().filter(|shard| shard.health == watermill_core::subscription::Health::Healthy).count()
    }

    /// As a SIGKILL does it: nothing of it runs any more, and nothing says so.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end();
    }
}
