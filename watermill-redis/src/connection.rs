//! [`Connection`]: one to a server, which all calls share.

use std::time::Duration;

use async_trait::async_trait;
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult, aio::MultiplexedConnection};
use watermill_core::backend::{Connect, Failure, SharedConnection};

use crate::error::classify;

pub(crate) type Connection = SharedConnection<Server>;

pub(crate) struct Server {
    client: Client,
    config: AsyncConnectionConfig,
}

/// How many calls the client takes before the first of them has to wait in it, where a later one might overtake it.
const CALLS_AHEAD: usize = 4_096;

/// `timeout` bounds connecting. The server's answer may take `at_most` longer.
pub(crate) fn connection(client: Client, timeout: Duration, at_most: Duration) -> Connection {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(timeout));
    let config = config.set_response_timeout(Some(timeout + at_most)).set_pipeline_buffer_size(CALLS_AHEAD);
    SharedConnection::new(Server { client, config })
}

#[async_trait]
impl Connect for Server {
    type Connection = MultiplexedConnection;
    type Error = RedisError;

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        self.client.get_multiplexed_async_connection_with_config(&self.config).await
    }

    fn is_lost(&self, error: &RedisError) -> bool {
        error.is_io_error() || error.is_unrecoverable_error()
    }

    fn classify(&self, error: RedisError) -> Failure {
        classify(error)
    }
}
