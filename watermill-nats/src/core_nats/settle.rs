//! [`CoreNatsTransport`]: messages as they come, and nobody to tell what became of them.

use std::{
    mem,
    sync::{Mutex as StdMutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use async_nats::{Client, Subscriber};
use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _};
use tokio::{sync::Mutex, time::timeout};
use tokio_util::sync::CancellationToken;
use watermill_core::{
    Message,
    backend::{Failure, Incoming, Settled, Transport, Trouble},
};

use crate::{
    error::{connected, taken},
    marshaler,
};

/// How often to look at the connection while nothing comes.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

pub(crate) struct CoreNatsTransport {
    client: Client,
    timeout: Duration,
    arriving: Mutex<Subscriber>,
    /// How often the client had been connected when that was last looked at.
    connects: StdMutex<u64>,
    /// What the ledger has given back without handing it out: nobody else has it.
    again: StdMutex<Vec<Message>>,
}

impl CoreNatsTransport {
    pub(crate) fn new(client: Client, arriving: Subscriber, timeout: Duration) -> Self {
        let connects = StdMutex::new(client.statistics().connects.load(Ordering::Relaxed));
        Self { client, timeout, arriving: Mutex::new(arriving), connects, again: StdMutex::default() }
    }

    /// Whether the connection is there, and was all the time.
    fn connection(&self) -> Result<(), Failure> {
        connected(&self.client)?;
        let connects = self.client.statistics().connects.load(Ordering::Relaxed);
        match mem::replace(&mut *lock(&self.connects), connects) == connects {
            true => Ok(()),
            false => {
                let text =
                    "the connection was lost and is there again: what was published meanwhile was missed";
                Err(Failure::because(Trouble::Unavailable, text))
            }
        }
    }
}

#[async_trait]
impl Transport for CoreNatsTransport {
    type Id = ();

    async fn fetch(&self, room: usize, closing: &CancellationToken) -> Result<Vec<Incoming<()>>, Failure> {
        let mut messages = {
            let mut again = lock(&self.again);
            let room = room.min(again.len());
            again.drain(..room).collect::<Vec<_>>()
        };
        let mut arriving = self.arriving.lock().await;
        if messages.is_empty() {
            self.connection()?;
            let next = tokio::select! {
                () = closing.cancelled() => return Ok(Vec::new()),
                next = timeout(LOOK_INTERVAL, arriving.next()) => next,
            };
            let Ok(next) = next else { return Ok(Vec::new()) };
            let next = next.ok_or_else(|| Failure::because(Trouble::Closed, "the client has ended"))?;
            messages.push(marshaler::read(next.headers.as_ref(), next.payload));
        }
        while messages.len() < room
            && let Some(Some(next)) = arriving.next().now_or_never()
        {
            messages.push(marshaler::read(next.headers.as_ref(), next.payload));
        }
        Ok(messages.into_iter().map(|message| Incoming::new((), message)).collect())
    }

    async fn record(&self, settled: &mut Vec<Settled<()>>) -> Result<(), Failure> {
        for settled in settled.iter().filter(|settled| !settled.tried) {
            lock(&self.again).push(settled.message.clone());
        }
        Ok(())
    }

    /// Afterwards nothing comes here that others could have.
    async fn close(&self) {
        let left = async {
            let mut arriving = self.arriving.lock().await;
            arriving.unsubscribe().await.is_ok() && taken(&self.client, self.timeout).await.is_ok()
        };
        if !left.await {
            tracing::debug!("the server may not know yet that a subscription has ended");
        }
    }
}

fn lock<T>(mutex: &StdMutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
