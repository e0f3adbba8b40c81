//! [`SpoolTransport`]: how messages become ours, and how outcomes become renames and deletions.

use std::{
    io,
    time::{Duration, UNIX_EPOCH},
};

use async_trait::async_trait;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use watermill_core::{
    backend::{Failure, Incoming, Settled, Transport, Trouble},
    delivery::Outcome,
};

use super::{
    directory::{Claim, Claimed, Directory},
    error::classify,
    marshaler,
};

/// The directory of a topic, as one subscription works on it.
#[derive(Clone)]
pub(super) struct SpoolTransport {
    pub(super) directory: Directory,
    /// Unique to the subscription.
    pub(super) owner: String,
    pub(super) lease: Duration,
}

#[async_trait]
impl Transport for SpoolTransport {
    type Id = Claim;

    async fn fetch(
        &self,
        room: usize,
        _closing: &CancellationToken,
    ) -> Result<Vec<Incoming<Claim>>, Failure> {
        let Self { directory, owner, lease } = self.clone();
        blocking(move || {
            let claimed = directory.claim(&owner, room, lease)?;
            Ok(claimed.into_iter().filter_map(|claimed| incoming(&directory, &owner, claimed)).collect())
        })
        .await
    }

    async fn record(&self, settled: &mut Vec<Settled<Claim>>) -> Result<(), Failure> {
        let Self { directory, owner, .. } = self.clone();
        let mut rest = std::mem::take(settled).into_iter();
        let (result, left) = blocking(move || {
            while let Some(settled) = rest.next() {
                match tell(&directory, &owner, &settled) {
                    Ok(true) => {
                        settled.log_if_dropped(&directory.topic());
                        settled.recorded();
                    }
                    Ok(false) => settled.lost(),
                    Err(error) => return Ok((Err(error), std::iter::once(settled).chain(rest).collect())),
                }
            }
            Ok((Ok(()), Vec::new()))
        })
        .await?;
        *settled = left;
        result.map_err(classify)
    }

    async fn extend(&self, in_hand: Vec<Claim>) -> Result<Vec<Claim>, Failure> {
        let Self { directory, owner, lease } = self.clone();
        blocking(move || {
            let mut lost = Vec::new();
            for claim in in_hand {
                if !directory.extend(&owner, &claim, lease)? {
                    lost.push(claim);
                }
            }
            Ok(lost)
        })
        .await
    }
}

/// A message; what is none is deleted, with an error in the log.
fn incoming(directory: &Directory, owner: &str, claimed: Claimed) -> Option<Incoming<Claim>> {
    let Claimed { claim, bytes } = claimed;
    match marshaler::decode(&bytes) {
        Ok(message) => {
            let published_at = claim.order.get_timestamp().map(|timestamp| {
                let (seconds, nanos) = timestamp.to_unix();
                UNIX_EPOCH + Duration::new(seconds, nanos)
            });
            let attempt = claim.attempt;
            Some(Incoming::new(claim, message).attempt(attempt).published_at(published_at))
        }
        Err(error) => {
            tracing::error!(file = %claim.order, error, "a file is no message and is deleted");
            let _ = directory.finish(owner, &claim);
            None
        }
    }
}

/// Tells the directory what became of a message; false when it was not ours any more.
fn tell(directory: &Directory, owner: &str, settled: &Settled<Claim>) -> io::Result<bool> {
    match &settled.outcome {
        Outcome::Nack { delay } => directory.release(owner, &settled.id, *delay, settled.tried),
        _ => directory.finish(owner, &settled.id),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    match spawn_blocking(work).await {
        Ok(result) => result.map_err(classify),
        Err(error) => Err(Failure::new(Trouble::Unavailable, error)),
    }
}
