//! [`Intake`]: where messages come from just now.

use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use google_cloud_gax::error::Error as NativeError;
use google_cloud_pubsub::{
    model::Message as Native,
    subscriber::{MessageStream, handler::Handler},
};
use std::future::pending;
use tokio::time::{Instant, sleep_until};
use watermill_core::backend::{Failure, Trouble};

use crate::{error, subscriptions::Known};

/// See above.
pub(super) enum Intake {
    /// From nowhere.
    Off,
    /// From a stream, which may be connected or not.
    Open(BoxStream<'static, Result<(Native, Handler), NativeError>>),
    /// From nowhere before this time.
    Waiting(Instant),
    /// From nowhere before the subscription is found, or made.
    Mending(BoxFuture<'static, Result<Known, Failure>>),
}

/// What an [`Intake`] has.
pub(super) enum Next {
    Message(Native, Handler),
    Failed(Failure),
    Mended(Result<Known, Failure>),
    /// It has waited for long enough.
    Waited,
}

impl Intake {
    /// A stream as one future after the other would lose what it has done to connect whenever one is
    /// dropped; this keeps them.
    pub(super) fn open(stream: MessageStream) -> Self {
        let next = |mut stream: MessageStream| async { stream.next().await.map(|next| (next, stream)) };
        Self::Open(stream::unfold(stream, next).fuse().boxed())
    }

    /// What comes next. Unless it `reads`, no message does.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping it.
    pub(super) async fn next(&mut self, reads: bool) -> Next {
        match self {
            Self::Open(messages) if reads => match messages.next().await {
                Some(Ok((native, handler))) => Next::Message(native, handler),
                Some(Err(error)) => Next::Failed(error::of_request(error)),
                None => {
                    Next::Failed(Failure::because(Trouble::Unavailable, "the service has ended the stream"))
                }
            },
            Self::Off | Self::Open(_) => pending().await,
            Self::Waiting(until) => {
                sleep_until(*until).await;
                Next::Waited
            }
            Self::Mending(mending) => Next::Mended(mending.await),
        }
    }

    /// A message that is here already.
    pub(super) fn ready(&mut self) -> Option<(Native, Handler)> {
        let Self::Open(messages) = self else { return None };
        messages.next().now_or_never()??.ok()
    }
}
