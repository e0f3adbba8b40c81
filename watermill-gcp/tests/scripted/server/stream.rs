//! A streaming pull, by the script.

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use prost::Message;

use super::{Pull, Server, end, frame, received};
use crate::wire::{StreamingPullRequest, StreamingPullResponse, SubscriptionProperties};

/// Messages of one response.
const RESPONSE: usize = 100;

pub(super) async fn play(server: &Server, body: RecvStream, send: &mut SendStream<Bytes>) {
    let began = begin(body).await;
    server.change(|state| state.streams.extend(began));
    loop {
        let (next, exactly_once) = server.change(|state| (state.pulls.pop_front(), state.exactly_once));
        match next {
            Some(Pull::Send(received_messages)) => {
                let properties = SubscriptionProperties { exactly_once_delivery_enabled: exactly_once };
                let subscription_properties = Some(properties);
                let response = StreamingPullResponse { received_messages, subscription_properties };
                let _ = send.send_data(frame(&response.encode_to_vec()), false);
            }
            Some(Pull::Flood(messages)) => {
                if flood(send, messages).await.is_none() {
                    return;
                }
            }
            Some(Pull::Break(status)) => return end(send, &status),
            None => {
                let mut more = server.state.subscribe();
                tokio::select! {
                    _ = std::future::poll_fn(|cx| send.poll_reset(cx)) => return,
                    _ = more.wait_for(|state| !state.pulls.is_empty()) => {}
                }
            }
        }
    }
}

/// The first request of a stream; the others only keep it alive.
async fn begin(mut body: RecvStream) -> Option<StreamingPullRequest> {
    let mut request = BytesMut::new();
    loop {
        if let Some((head, rest)) = request.split_at_checked(5) {
            let length = u32::from_be_bytes(head[1..].try_into().expect("four bytes")) as usize;
            if let Some(message) = rest.get(..length) {
                let first = StreamingPullRequest::decode(message).expect("a streaming pull");
                // The stream would be reset with it.
                tokio::spawn(async move { while let Some(Ok(_)) = body.data().await {} });
                return Some(first);
            }
        }
        let part = body.data().await?.ok()?;
        let _ = body.flow_control().release_capacity(part.len());
        request.extend_from_slice(&part);
    }
}

/// Nothing when the stream is gone.
async fn flood(send: &mut SendStream<Bytes>, messages: usize) -> Option<()> {
    for first in (0..messages).step_by(RESPONSE) {
        let of_response = (first..messages.min(first + RESPONSE)).map(|number| {
            let mut message = received(&number.to_string(), "");
            message.message.as_mut().expect("a message").data = vec![b'x'; 1_000];
            message
        });
        let received_messages = of_response.collect();
        let response = StreamingPullResponse { received_messages, subscription_properties: None };
        let mut rest = frame(&response.encode_to_vec());
        while !rest.is_empty() {
            send.reserve_capacity(rest.len());
            let room = std::future::poll_fn(|cx| send.poll_capacity(cx)).await?.ok()?;
            send.send_data(rest.split_to(room.min(rest.len())), false).ok()?;
        }
    }
    Some(())
}
