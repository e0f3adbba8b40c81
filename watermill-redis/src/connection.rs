//! [`Connection`]: a connection that is made when it is needed, and again after it broke.

use std::{pin::pin, task::Poll, time::Duration};

use futures::poll;
use redis::{AsyncConnectionConfig, Client, RedisResult, aio::MultiplexedConnection};
use tokio::sync::Mutex;
use watermill_core::backend::Failure;

use crate::error::classify;

/// Calls are sent in the order in which they were polled first, without waiting for each other's answers.
pub(crate) struct Connection {
    client: Client,
    config: AsyncConnectionConfig,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    connection: Option<MultiplexedConnection>,
    /// How many there have been.
    number: u64,
}

impl Connection {
    /// `timeout` bounds connecting. The server's answer may take `at_most` longer.
    pub(crate) fn new(client: Client, timeout: Duration, at_most: Duration) -> Self {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout + at_most));
        Self { client, config, open: Mutex::default() }
    }

    /// Makes a call. After one that got no answer, the next begins with a new connection.
    pub(crate) async fn call<T, F>(&self, call: impl FnOnce(MultiplexedConnection) -> F) -> Result<T, Failure>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let mut open = self.open.lock().await;
        let connection = match &open.connection {
            Some(connection) => connection.clone(),
            None => {
                let connecting = self.client.get_multiplexed_async_connection_with_config(&self.config);
                let connection = connecting.await.map_err(classify)?;
                open.number += 1;
                open.connection.insert(connection).clone()
            }
        };
        let number = open.number;
        let mut answer = pin!(call(connection));
        // The first poll sends it: with the lock, so that no later call is sent before it.
        let answered = poll!(answer.as_mut());
        drop(open);
        let answer = match answered {
            Poll::Ready(answer) => answer,
            Poll::Pending => answer.await,
        };
        if let Err(error) = &answer
            && (error.is_io_error() || error.is_unrecoverable_error())
        {
            let mut open = self.open.lock().await;
            if open.number == number {
                open.connection = None;
            }
        }
        answer.map_err(classify)
    }
}
