//! Listens for what other processes publish: one connection that listens, for all subscriptions of a
//! subscriber.
//!
//! Notifications carry no facts, and may all be lost: readers poll anyway. So nothing here fails; it
//! warns, and tries again.

use std::{pin::pin, time::Duration};

use sqlx::{
    PgPool, Postgres,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use watermill_core::Backoff;

use super::insert::CHANNEL;
use crate::{
    listener::{ListenDialect, Listener},
    wake,
};

/// How long a notification may take that was sent through the user's pool.
const ECHO_MAX: Duration = Duration::from_secs(5);
/// How long an attempt to connect may take; a pool tries again by itself while it is refused.
const CONNECT_MAX: Duration = Duration::from_secs(5);

impl ListenDialect for Postgres {
    fn listen(pool: &PgPool, retry: Backoff) -> Option<Listener> {
        let own = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(CONNECT_MAX)
            .connect_lazy_with((*pool.connect_options()).clone());
        let listening = CancellationToken::new();
        let connection = Listening { own, users: pool.clone(), retry };
        tokio::spawn({
            let listening = listening.clone();
            async move {
                listening.run_until_cancelled(connection.go_on()).await;
                connection.own.close().await;
            }
        });
        Some(Listener::new(listening.drop_guard()))
    }
}

struct Listening {
    /// Of the one connection that listens: it is not taken from the user's pool, for it is never given
    /// back.
    own: PgPool,
    users: PgPool,
    retry: Backoff,
}

impl Listening {
    /// Listens for ever.
    async fn go_on(&self) {
        // Without having received anything in between.
        let mut failures = 0;
        loop {
            let mut received = false;
            let error = match self.connect().await {
                Ok(listener) => self.receive(listener, &mut received).await,
                Err(error) => error,
            };
            if received {
                failures = 0;
            }
            if failures == 0 {
                tracing::warn!(%error, "not listening for notifications, trying again; polling goes on");
            } else {
                tracing::debug!(%error, failures, "still not listening for notifications");
            }
            sleep(self.retry.delay(failures)).await;
            failures = failures.saturating_add(1);
        }
    }

    async fn connect(&self) -> sqlx::Result<PgListener> {
        let mut listener = PgListener::connect_with(&self.own).await?;
        // When to connect again is decided here.
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(listener)
    }

    /// Wakes readers until the connection fails.
    async fn receive(&self, mut listener: PgListener, received: &mut bool) -> sqlx::Error {
        // What was published before this connection listened, it will not be told of.
        wake::wake_all();
        // No topic has a space, so that nobody is woken by it.
        let echo = format!("self-test {}", Uuid::now_v7());
        let mut sending = pin!(self.send(&echo));
        let mut sent = false;
        let mut echoed = false;
        let mut echo_by = None;
        loop {
            tokio::select! {
                notification = listener.try_recv() => match notification {
                    Ok(Some(notification)) => {
                        if !*received {
                            *received = true;
                            tracing::debug!("listening for notifications");
                        }
                        if notification.payload() == echo {
                            echoed = true;
                        } else {
                            wake::wake(notification.payload());
                        }
                    }
                    Ok(None) => return sqlx::Error::Io(std::io::ErrorKind::ConnectionAborted.into()),
                    Err(error) => return error,
                },
                // To its end even if the echo comes before, for it has a connection of the user's.
                outcome = &mut sending, if !sent => {
                    sent = true;
                    match outcome {
                        Ok(()) => echo_by = Some(Instant::now() + ECHO_MAX),
                        Err(error) => tracing::debug!(%error, "not known whether notifications arrive"),
                    }
                }
                () = sleep_until(echo_by.unwrap_or_else(Instant::now)), if echo_by.is_some() => {
                    echo_by = None;
                    if !echoed {
                        tracing::warn!(
                            "a notification sent through the pool did not arrive within 5 s: a pooler between \
                             here and PostgreSQL may swallow them; polling goes on. Connect directly, or by a \
                             pooler in session mode, or turn `listen` off"
                        );
                    }
                }
            }
        }
    }

    async fn send(&self, payload: &str) -> sqlx::Result<()> {
        sqlx::query("select pg_notify($1, $2)")
            .bind(CHANNEL)
            .bind(payload)
            .execute(&self.users)
            .await
            .map(drop)
    }
}
