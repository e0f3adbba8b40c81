//! Reads the body of a request, within its bounds.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header::CONTENT_LENGTH};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::timeout;
use watermill_core::error::{BoxError, find};

use crate::HttpSubscriberConfig;

/// The body, or what the request is answered with, and why.
pub(crate) async fn read(
    config: &HttpSubscriberConfig,
    headers: &HeaderMap,
    body: Body,
) -> Result<Bytes, (StatusCode, String)> {
    let at_most = config.body_bytes_max;
    let too_large = || (StatusCode::PAYLOAD_TOO_LARGE, format!("its body has more than {at_most} bytes"));
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > at_most as u64) {
        return Err(too_large());
    }
    match timeout(config.body_timeout, collect(body, at_most)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if find::<LengthLimitError>(&*error).is_some() => Err(too_large()),
        Ok(Err(error)) => Err((StatusCode::BAD_REQUEST, format!("its body was cut off: {error}"))),
        Err(_) => {
            Err((StatusCode::REQUEST_TIMEOUT, format!("its body took more than {:?}", config.body_timeout)))
        }
    }
}

/// Copies it together as it comes. Whoever kept the pieces would keep a handle to each, and all of the buffer that it was
/// read into: many times the bytes that count, of a sender who sends them one by one.
async fn collect(body: Body, at_most: usize) -> Result<Bytes, BoxError> {
    let mut body = Limited::new(body, at_most);
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            collected.extend_from_slice(&data);
        }
    }
    Ok(collected.freeze())
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc};

    use futures::stream;

    use super::*;

    /// A piece of a body, as a server hands it out: a byte in a buffer that is there for as long as it is.
    #[derive(Clone)]
    struct Piece(Arc<[u8; 1]>);

    impl AsRef<[u8]> for Piece {
        fn as_ref(&self) -> &[u8] {
            &*self.0
        }
    }

    #[tokio::test]
    async fn no_piece_of_a_body_is_kept() {
        const PIECES: usize = 10_000;
        let kept = Arc::new(*b"x");
        let (piece, seen) = (Piece(kept.clone()), kept.clone());
        let pieces = (0..PIECES).map(move |_| {
            assert!(Arc::strong_count(&seen) <= 4, "{} are kept", Arc::strong_count(&seen));
            Ok::<_, Infallible>(Bytes::from_owner(piece.clone()))
        });
        let body = collect(Body::from_stream(stream::iter(pieces)), PIECES).await.unwrap();
        assert_eq!(body, "x".repeat(PIECES));
        assert_eq!(Arc::strong_count(&kept), 1);
    }
}
