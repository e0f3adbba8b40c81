//! [`Channel`]: how what comes on a channel becomes deliveries, and what is said of what does not.

use std::{mem, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use redis::Client;
use tokio::{sync::Mutex, time::sleep};
use tokio_util::sync::CancellationToken;
use watermill_core::{
    backend::{ById, Failure, Incoming, Settled, Shared, Taken, Transport, Trouble},
    error::{SubscribeError, SubscribeErrorKind},
};

use super::{RedisPubSubSubscriberConfig, listening::Listening, marshaler};

/// What a subscription has in hand. The server knows nothing of it.
pub(super) type State = Shared<ById<()>>;

/// A fetch that finds nothing ends after this time.
const FETCH: Duration = Duration::from_secs(1);

pub(super) struct Channel {
    client: Client,
    config: RedisPubSubSubscriberConfig,
    pub(super) shared: Arc<State>,
    /// `None` while the server is away. Locked by one fetch after another.
    listening: Mutex<Option<Listening>>,
}

impl Channel {
    /// Listens when this returns, so that what is published from now on comes.
    pub(super) async fn start(
        client: Client,
        config: RedisPubSubSubscriberConfig,
        shared: Arc<State>,
    ) -> Result<Self, Failure> {
        let listening = Listening::start(&client, shared.topic(), &config).await?;
        Ok(Self { client, config, shared, listening: Mutex::new(Some(listening)) })
    }

    /// Says that messages may have been missed, once they come again.
    fn missed(&self, why: String) {
        let topic = self.shared.topic();
        tracing::warn!(topic, why, "messages may have been missed");
        self.shared.report(SubscribeError::new(SubscribeErrorKind::Missed, topic).because(why));
    }

    fn incoming(&self, sent: Bytes) -> Option<Incoming<()>> {
        let message = marshaler::read(sent).map_err(|error| {
            self.shared.report_undecodable("what came on the channel is no message, and is gone", error);
        });
        Some(Incoming::new((), message.ok()?))
    }
}

#[async_trait]
impl Transport for Channel {
    type Id = ();

    async fn fetch(&self, room: usize, closing: &CancellationToken) -> Result<Vec<Incoming<()>>, Failure> {
        let mut listening = self.listening.lock().await;
        let Some(heard) = &*listening else {
            *listening = Some(Listening::start(&self.client, self.shared.topic(), &self.config).await?);
            self.missed("the connection was lost, and is there again".to_owned());
            // At once, for all is well from here on, whether anything comes or not.
            return Ok(Vec::new());
        };
        loop {
            match heard.take(room) {
                Taken::Some { messages, dropped } => {
                    if dropped > 0 {
                        self.missed(format!("{dropped} came faster than they were taken, and were dropped"));
                    }
                    return Ok(messages.into_iter().filter_map(|sent| self.incoming(sent)).collect());
                }
                Taken::Ended(why) => {
                    *listening = None;
                    return Err(Failure::because(Trouble::Unavailable, why));
                }
                Taken::Nothing => {}
            }
            tokio::select! {
                () = heard.changed() => {}
                () = closing.cancelled() => return Ok(Vec::new()),
                () = sleep(FETCH) => return Ok(Vec::new()),
            }
        }
    }

    /// There is nobody to be told.
    async fn record(&self, settled: &mut Vec<Settled<()>>) -> Result<(), Failure> {
        mem::take(settled).into_iter().for_each(|settled| {
            settled.log_if_dropped(self.shared.topic());
            settled.recorded();
        });
        Ok(())
    }

    async fn close(&self) {
        *self.listening.lock().await = None;
    }
}
