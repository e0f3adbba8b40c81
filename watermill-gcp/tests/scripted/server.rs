//! [`Server`]: answers each kind of request by the next line of its script, and tells what it was asked.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bytes::{BufMut, Bytes, BytesMut};
use h2::{RecvStream, SendStream, server::SendResponse};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use watermill_gcp::PubSubAccess;

use crate::wire::{
    PublishRequest, PublishResponse, PubsubMessage, ReceivedMessage, Settling, Status, StreamingPullResponse,
    SubscriptionProperties,
};

/// What is asked over HTTP/1 is not ours to see: nothing is created, and probes find nobody who forbids them.
const FORBIDDEN: &str = r#"{"error":{"code":403,"message":"not here","status":"PERMISSION_DENIED"}}"#;

/// What a stream does next.
#[derive(Clone, Debug)]
pub(crate) enum Pull {
    Send(Vec<ReceivedMessage>),
    Break(Status),
}

#[derive(Default)]
pub(crate) struct State {
    /// Answers to publish requests; where there is none left, `Ok`.
    pub(crate) publishing: VecDeque<Status>,
    /// What streams do, one after the other; where nothing is left, they stay open.
    pub(crate) pulls: VecDeque<Pull>,
    /// Answers to acks; where there is none left, `Ok`.
    pub(crate) acking: VecDeque<Status>,
    pub(crate) exactly_once: bool,
    pub(crate) accepted: Vec<PubsubMessage>,
    pub(crate) requests: usize,
    pub(crate) streams: usize,
    pub(crate) acked: Vec<String>,
    pub(crate) nacked: Vec<String>,
}

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

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut result = None;
        self.state.send_modify(|state| result = Some(change(state)));
        result.expect("it was changed")
    }

    async fn connection(self, mut socket: TcpStream) {
        let mut start = [0; 3];
        if socket.peek(&mut start).await.is_err() || &start != b"PRI" {
            let _ = socket.read(&mut [0; 4096]).await;
            let length = FORBIDDEN.len();
            let head = format!(
                "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
                 connection: close\r\n\r\n"
            );
            let _ = socket.write_all((head + FORBIDDEN).as_bytes()).await;
            return;
        }
        let Ok(mut connection) = h2::server::handshake(socket).await else { return };
        while let Some(Ok((request, respond))) = connection.accept().await {
            let (head, body) = request.into_parts();
            let method = head.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
            tokio::spawn(self.clone().call(method, body, respond));
        }
    }

    async fn call(self, method: String, mut body: RecvStream, mut respond: SendResponse<Bytes>) {
        let head = http::Response::builder().header("content-type", "application/grpc").body(());
        let Ok(mut send) = respond.send_response(head.expect("a response"), false) else { return };
        if method == "StreamingPull" {
            return self.stream(&mut send).await;
        }
        let mut request = BytesMut::new();
        while let Some(Ok(part)) = body.data().await {
            let _ = body.flow_control().release_capacity(part.len());
            request.extend_from_slice(&part);
        }
        let request = request.split_off(5.min(request.len()));
        let (answer, status) = self.change(|state| answer(state, &method, &request));
        if status.code == 0 {
            let _ = send.send_data(frame(&answer), false);
        }
        end(&mut send, &status);
    }

    async fn stream(self, send: &mut SendStream<Bytes>) {
        self.change(|state| state.streams += 1);
        loop {
            let (next, exactly_once) = self.change(|state| (state.pulls.pop_front(), state.exactly_once));
            match next {
                Some(Pull::Send(received_messages)) => {
                    let properties = SubscriptionProperties { exactly_once_delivery_enabled: exactly_once };
                    let response = StreamingPullResponse {
                        received_messages,
                        subscription_properties: Some(properties),
                    };
                    let _ = send.send_data(frame(&response.encode_to_vec()), false);
                }
                Some(Pull::Break(status)) => return end(send, &status),
                None => {
                    let mut more = self.state.subscribe();
                    tokio::select! {
                        _ = std::future::poll_fn(|cx| send.poll_reset(cx)) => return,
                        _ = more.wait_for(|state| !state.pulls.is_empty()) => {}
                    }
                }
            }
        }
    }
}

fn answer(state: &mut State, method: &str, request: &[u8]) -> (Vec<u8>, Status) {
    match method {
        "Publish" => {
            let request = PublishRequest::decode(request).expect("a publish request");
            state.requests += 1;
            let status = state.publishing.pop_front().unwrap_or_else(|| Status::new(0));
            let message_ids = request.messages.iter().map(|_| "1".to_owned()).collect();
            if status.code == 0 {
                state.accepted.extend(request.messages);
            }
            (PublishResponse { message_ids }.encode_to_vec(), status)
        }
        "Acknowledge" => {
            let ids = Settling::decode(request).expect("an acknowledge request").acked;
            let status = state.acking.pop_front().unwrap_or_else(|| Status::new(0));
            if status.code == 0 {
                state.acked.extend(ids);
            }
            (Vec::new(), status)
        }
        _ => {
            let settling = Settling::decode(request).expect("a request for other deadlines");
            if settling.deadline == 0 {
                state.nacked.extend(settling.modified);
            }
            (Vec::new(), Status::new(0))
        }
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
        ordering_key: key.to_owned(),
    };
    ReceivedMessage { ack_id: format!("ack-{id}"), message: Some(message), delivery_attempt: 0 }
}
