//! [`Server`]: answers.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    metrics,
    relay::{Running, by_name},
    status::{Answer, PausedView},
};

/// The most connections at once; at the bound, others wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of a request.
const REQUEST_MAX: usize = 64 << 10;

/// A server that listens.
pub(crate) struct Server {
    listener: TcpListener,
    relays: Arc<Vec<Arc<Running>>>,
}

/// What is to be paused or resumed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    relay: String,
    destination: String,
    key: Option<String>,
}

type Page = (StatusCode, &'static str, String);

impl Server {
    pub(crate) async fn bind(address: SocketAddr, relays: Arc<Vec<Arc<Running>>>) -> std::io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, relays })
    }

    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`. Connections end with the process.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = async {
                    let permit = Arc::clone(&connections).acquire_owned().await;
                    (self.listener.accept().await, permit)
                } => accepted,
            };
            let (Ok((stream, _)), permit) = accepted else {
                // Too many open files, for instance: some will be closed.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let relays = Arc::clone(&self.relays);
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let relays = Arc::clone(&relays);
                    async move { Ok::<_, Infallible>(answer(request, &relays).await) }
                });
                let mut connection = hyper::server::conn::http1::Builder::new();
                connection.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
                // What a client breaks off is no fault of ours.
                let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                drop(permit);
            });
        }
    }
}

async fn answer(request: Request<Incoming>, relays: &[Arc<Running>]) -> Response<Full<Bytes>> {
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/health/live") => plain(StatusCode::OK, "ok"),
        (&Method::GET, "/health/ready") => ready(relays),
        (&Method::GET, "/metrics") => {
            let shown: Vec<_> = relays.iter().map(|relay| relay.shown()).collect();
            (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics::render(&shown))
        }
        (&Method::GET, "/status") => {
            let relays = relays.iter().map(|relay| (relay.name().to_owned(), relay.view())).collect();
            (
                StatusCode::OK,
                "application/json",
                serde_json::to_string(&Answer { relays }).unwrap_or_default(),
            )
        }
        (&Method::POST, "/pause") => steer(request, relays, true).await,
        (&Method::POST, "/resume") => steer(request, relays, false).await,
        (_, "/health/live" | "/health/ready" | "/metrics" | "/status" | "/pause" | "/resume") => {
            plain(StatusCode::METHOD_NOT_ALLOWED, "not with this method")
        }
        _ => plain(StatusCode::NOT_FOUND, "there is /health/live, /health/ready, /metrics and /status"),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn ready(relays: &[Arc<Running>]) -> Page {
    let reasons = relays.iter().filter_map(|relay| Some(format!("{}: {}", relay.name(), relay.not_ready()?)));
    let reasons: Vec<String> = reasons.collect();
    match reasons.is_empty() {
        true => plain(StatusCode::OK, "ready"),
        false => plain(StatusCode::SERVICE_UNAVAILABLE, &reasons.join("\n")),
    }
}

/// Pauses or resumes a part of what a relay sends.
async fn steer(request: Request<Incoming>, relays: &[Arc<Running>], pause: bool) -> Page {
    // A page in a browser cannot send this without asking first, and is not answered.
    if request.headers().get(CONTENT_TYPE).is_none_or(|kind| kind != "application/json") {
        return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content type is to be application/json");
    }
    let body = match Limited::new(request.into_body(), REQUEST_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return plain(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let part: Part = match serde_json::from_slice(&body) {
        Ok(part) => part,
        Err(error) => return plain(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let by_name = by_name(relays);
    let Some(relay) = by_name.get(&*part.relay) else {
        let known = by_name.keys().copied().collect::<Vec<_>>().join(", ");
        return plain(StatusCode::NOT_FOUND, &format!("there is no relay {:?}, only {known}", part.relay));
    };
    let Some(control) = relay.control() else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "the relay has not started yet");
    };
    let key = part.key.clone().map(Bytes::from);
    let done = match pause {
        true => {
            control.pause(&*part.destination, key);
            "paused"
        }
        false if control.resume(&*part.destination, key) => "resumed",
        false => return plain(StatusCode::CONFLICT, "that was not paused"),
    };
    tracing::info!(relay = relay.name(), destination = part.destination, key = part.key, "{done}");
    let paused: Vec<PausedView> = relay.view().paused;
    (StatusCode::OK, "application/json", serde_json::to_string(&paused).unwrap_or_default())
}

fn plain(status: StatusCode, text: &str) -> Page {
    (status, "text/plain; charset=utf-8", format!("{text}\n"))
}
