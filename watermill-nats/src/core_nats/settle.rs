//! [`CoreNatsTransport`]: messages as they come, and nobody to tell what became of them.

use std::{mem, sync::Arc, time::Duration};

use async_nats::{Client, Subscriber};
use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _};
use tokio::{sync::Mutex, time::timeout};
use tokio_util::sync::CancellationToken;
use watermill_core::{
    backend::{ById, Failure, Incoming, Settled, Shared, Transport, Trouble},
    error::{SubscribeError, SubscribeErrorKind},
};

use crate::{
    error::{connected, connects, taken},
    marshaler,
};

/// How often to look at the connection while nothing comes.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// What a subscription shares with its stream.
pub(super) type State = Shared<ById<()>>;

pub(super) struct CoreNatsTransport {
    client: Client,
    timeout: Duration,
    shared: Arc<State>,
    arriving: Mutex<Arriving>,
}

struct Arriving {
    messages: Subscriber,
    /// How often the client had been connected when that was last looked at.
    connects: u64,
}

impl CoreNatsTransport {
    pub(super) fn new(client: Client, messages: Subscriber, timeout: Duration, shared: Arc<State>) -> Self {
        let arriving = Mutex::new(Arriving { messages, connects: connects(&client) });
        Self { client, timeout, shared, arriving }
    }

    fn missed(&self) {
        let (topic, why) = (self.shared.topic(), "the connection was lost, and is there again");
        tracing::warn!(topic, why, "messages may have been missed");
        self.shared.report(SubscribeError::new(SubscribeErrorKind::Missed, topic).because(why));
    }
}

#[async_trait]
impl Transport for CoreNatsTransport {
    type Id = ();

    async fn fetch(&self, room: usize, closing: &CancellationToken) -> Result<Vec<Incoming<()>>, Failure> {
        let mut arriving = self.arriving.lock().await;
        connected(&self.client)?;
        let connects = connects(&self.client);
        if mem::replace(&mut arriving.connects, connects) != connects {
            self.missed();
            // At once, for all is well from here on, whether anything comes or not.
            return Ok(Vec::new());
        }
        let next = tokio::select! {
            () = closing.cancelled() => return Ok(Vec::new()),
            next = timeout(LOOK_INTERVAL, arriving.messages.next()) => next,
        };
        let Ok(next) = next else { return Ok(Vec::new()) };
        let mut next = Some(next.ok_or_else(|| Failure::because(Trouble::Closed, "the client has ended"))?);
        let mut incoming = Vec::new();
        while let Some(message) = next {
            let message = marshaler::read(message.headers.as_ref(), message.payload);
            incoming.push(Incoming::new((), message));
            next = match incoming.len() < room {
                true => arriving.messages.next().now_or_never().flatten(),
                false => None,
            };
        }
        Ok(incoming)
    }

    /// There is nobody to be told.
    async fn record(&self, settled: &mut Vec<Settled<()>>) -> Result<(), Failure> {
        mem::take(settled).into_iter().for_each(|settled| {
            settled.log_if_dropped(self.shared.topic());
            settled.recorded();
        });
        Ok(())
    }

    /// Afterwards nothing comes here that others could have.
    async fn close(&self) {
        let left = async {
            let mut arriving = self.arriving.lock().await;
            arriving.messages.unsubscribe().await.is_ok() && taken(&self.client, self.timeout).await.is_ok()
        };
        if !left.await {
            tracing::debug!("the server may not know yet that a subscription has ended");
        }
    }
}
