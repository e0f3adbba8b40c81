//! [`CoreNatsTransport`]: messages as they come, and nobody to tell what became of them.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, Message, Subscriber};
use async_trait::async_trait;
use futures::StreamExt as _;
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use watermill_core::{
    backend::{Arrivals, ById, Failure, Incoming, Settled, Shared, Taken, Transport, Trouble},
    error::{SubscribeError, SubscribeErrorKind},
};

use super::CoreNatsConfig;
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
    arrivals: Arc<Arrivals<Message>>,
    /// How often the client had been connected when that was last looked at.
    connects: AtomicU64,
    /// Takes what comes, until it is cancelled.
    over: CancellationToken,
    taking: Mutex<JoinHandle<()>>,
}

impl CoreNatsTransport {
    pub(super) fn new(
        client: Client,
        messages: Subscriber,
        config: &CoreNatsConfig,
        shared: Arc<State>,
    ) -> Self {
        let arrivals = Arc::new(Arrivals::new(config.buffer, config.buffer_bytes));
        let over = CancellationToken::new();
        let taking = tokio::spawn(take(messages, arrivals.clone(), over.clone()));
        let connects = AtomicU64::new(connects(&client));
        Self { client, timeout: config.timeout, shared, arrivals, connects, over, taking: Mutex::new(taking) }
    }

    fn missed(&self, why: String) {
        let topic = self.shared.topic();
        tracing::warn!(topic, why, "messages may have been missed");
        self.shared.report(SubscribeError::new(SubscribeErrorKind::Missed, topic).because(why));
    }
}

/// Takes whatever comes, for the client drops without a word what nobody takes.
async fn take(mut messages: Subscriber, arrivals: Arc<Arrivals<Message>>, over: CancellationToken) {
    while let Some(next) = over.run_until_cancelled(messages.next()).await {
        let Some(message) = next else { return arrivals.end("the client has ended") };
        let bytes = message.length;
        arrivals.push(message, bytes);
    }
    if let Err(error) = messages.unsubscribe().await {
        tracing::debug!(%error, "the client has ended before a subscription");
    }
}

#[async_trait]
impl Transport for CoreNatsTransport {
    type Id = ();

    async fn fetch(&self, room: usize, closing: &CancellationToken) -> Result<Vec<Incoming<()>>, Failure> {
        connected(&self.client)?;
        let connects = connects(&self.client);
        if self.connects.swap(connects, Ordering::AcqRel) != connects {
            self.missed("the connection was lost, and is there again".to_owned());
            // At once, for all is well from here on, whether anything comes or not.
            return Ok(Vec::new());
        }
        loop {
            match self.arrivals.take(room) {
                Taken::Some { messages, dropped } => {
                    if dropped > 0 {
                        self.missed(format!("{dropped} came faster than they were taken, and were dropped"));
                    }
                    let read = |message: Message| marshaler::read(message.headers.as_ref(), message.payload);
                    return Ok(messages
                        .into_iter()
                        .map(|message| Incoming::new((), read(message)))
                        .collect());
                }
                Taken::Ended(why) => return Err(Failure::because(Trouble::Closed, why)),
                Taken::Nothing => {}
            }
            tokio::select! {
                () = self.arrivals.changed() => {}
                () = closing.cancelled() => return Ok(Vec::new()),
                () = sleep(LOOK_INTERVAL) => return Ok(Vec::new()),
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

    /// Afterwards nothing comes here that others could have.
    async fn close(&self) {
        self.over.cancel();
        let left = async {
            let mut taking = self.taking.lock().await;
            (&mut *taking).await.is_ok() && taken(&self.client, self.timeout).await.is_ok()
        };
        if !timeout(self.timeout, left).await.unwrap_or_default() {
            tracing::debug!("the server may not know yet that a subscription has ended");
        }
    }
}

impl Drop for CoreNatsTransport {
    fn drop(&mut self) {
        self.over.cancel();
    }
}
