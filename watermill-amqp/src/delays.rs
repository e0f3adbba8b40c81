//! [`Delays`]: nacked messages that wait at the server, in queues of their own.

use std::{sync::Arc, time::Duration};

use watermill_core::backend::{Failure, Settled, SharedConnection, Trouble};

use crate::{
    Exchange, Queue,
    config::Server,
    connection::Blocked,
    declare,
    line::{Route, ToLine},
    marshaler,
    publisher::line,
    settle::Tag,
};

/// How long a copy may take to be confirmed.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// Puts copies of messages where they wait, on a connection of its own: one that publishes may be blocked.
#[derive(Clone)]
pub(crate) struct Delays {
    line: Arc<SharedConnection<ToLine>>,
    blocked: Blocked,
}

impl Delays {
    pub(crate) fn new(server: &Server) -> Self {
        let blocked = Blocked::default();
        let line = line(server, "watermill delays", CONFIRM_TIMEOUT, blocked.clone());
        Self { line: Arc::new(line), blocked }
    }

    /// Has a copy wait before it comes back to the end of its queue. Then the original can be acked. A failure of kind
    /// `Message` says that this one cannot wait there.
    pub(crate) async fn wait(
        &self,
        queue: &Queue,
        settled: &Settled<Tag>,
        delay: Duration,
    ) -> Result<(), Failure> {
        if let Some(reason) = self.blocked.reason() {
            let why =
                format!("the server has blocked who publishes ({reason}), so that nothing can wait there");
            return Err(Failure::because(Trouble::Unavailable, why));
        }
        let message = settled.message.clone();
        let mut record = marshaler::write(&message, true, usize::MAX)
            .map_err(|why| Failure::because(Trouble::Message, why))?;
        marshaler::count_attempts(&mut record, settled.attempt);
        let delay = declare::rounded_up(delay);
        let copied = self.line.call(async |line| {
            let routing_key = line.delay_queue(queue, delay).await?.as_str().to_owned();
            let exchange = Exchange::default_exchange();
            let route = Route { exchange, routing_key, mandatory: true, declares: false, may_die: true };
            line.publish(route, vec![message], vec![record]).await
        });
        copied.await
    }

    pub(crate) async fn close(&self) {
        if let Some(line) = self.line.release().await {
            line.close().await;
        }
    }
}
