//! [`Server`]: answers each kind of request by the next line of its script, and tells what it was asked.

mod rest;
mod state;
mod stream;

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bytes::{BufMut, Bytes, BytesMut};
use h2::{RecvStream, SendStream, server::SendResponse};
use prost::Message;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use watermill_gcp::PubSubAccess;

use crate::wire::{PubsubMessage, ReceivedMessage, Status};
pub(crate) use state::{Pull, State};

#[derive(Clone)]
pub(crate) struct Server {
    state: Arc<watch::Sender<State>>,
    address: String,
}

impl Server {
    pub(crate) async fn start(script: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let server = Self { state: Arc::new(watch::Sender::new(script)), address };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serving.clone().connection(socket));
            }
        });
        server
    }

    pub(crate) fn access(&self) -> PubSubAccess {
        PubSubAccess::new("project").emulator(&self.address)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Waits until what happened is as wanted.
    pub(crate) async fn until(&self, what: &str, mut wanted: impl FnMut(&State) -> bool) {
        let mut seen = self.state.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(30), seen.wait_for(|state| wanted(state)));
        assert!(waited.await.is_ok(), "waited in vain: {what}");
    }

    pub(crate) fn look<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.state.borrow())
    }

    /// Adds to the script of the streams.
    pub(crate) fn play(&self, pulls: impl IntoIterator<Item = Pull>) {
        self.change(|state| state.pulls.extend(pulls));
    }

    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut result = None;
        self.state.send_modify(|state| result = Some(change(state)));
        result.expect("it was changed")
    }

    async fn connection(self, socket: TcpStream) {
        let mut start = [0; 3];
        if socket.peek(&mut start).await.is_err() || &start != b"PRI" {
            return rest::answer(&self, socket).await;
        }
        let Ok(mut connection) = h2::server::handshake(socket).await else { return };
        while let Some(Ok((request, respond))) = connection.accept().await {
            let (head, body) = request.into_parts();
            let method = head.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
            let credentials = head.headers.get("authorization").and_then(|value| value.to_str().ok());
            self.change(|state| state.credentials.extend(credentials.map(str::to_owned)));
            tokio::spawn(self.clone().call(method, body, respond));
        }
    }

    async fn call(self, method: String, mut body: RecvStream, mut respond: SendResponse<Bytes>) {
        let head = http::Response::builder().header("content-type", "application/grpc").body(());
        let Ok(mut send) = respond.send_response(head.expect("a response"), false) else { return };
        if method == "StreamingPull" {
            return stream::play(&self, body, &mut send).await;
        }
        let mut request = BytesMut::new();
        while let Some(Ok(part)) = body.data().await {
            let _ = body.flow_control().release_capacity(part.len());
            request.extend_from_slice(&part);
        }
        let request = request.split_off(5.min(request.len()));
        if method == "Publish" {
            self.change(|state| {
                state.arrived += 1;
                state.arrived_at_once = state.arrived_at_once.max(state.arrived - state.requests);
            });
            let mut seen = self.state.subscribe();
            let _ = seen.wait_for(|state| !state.holds_publishing).await;
        }
        let (answer, status) = self.change(|state| state.answer(&method, &request));
        if status.code == 0 {
            let _ = send.send_data(frame(&answer), false);
        }
        end(&mut send, &status);
    }
}

fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("a small message"));
    frame.put_slice(message);
    frame.freeze()
}

fn end(send: &mut SendStream<Bytes>, status: &Status) {
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", status.code.into());
    let details = STANDARD_NO_PAD.encode(status.encode_to_vec());
    trailers.insert("grpc-status-details-bin", details.parse().expect("a header"));
    let _ = send.send_trailers(trailers);
}

/// A message as a stream has it.
pub(crate) fn received(id: &str, key: &str) -> ReceivedMessage {
    let message = PubsubMessage {
        data: id.as_bytes().to_vec(),
        attributes: [("_watermill_message_uuid".to_owned(), id.to_owned())].into(),
        message_id: format!("m-{id}"),
        publish_time: None,
        ordering_key: key.to_owned(),
    };
    ReceivedMessage { ack_id: format!("ack-{id}"), message: Some(message), delivery_attempt: 0 }
}
