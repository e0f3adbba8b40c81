//! Asks a process of ours.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most bytes of an answer.
const ANSWER_MAX: usize = 16 << 20;

/// The text of an answer that is fine.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<String, String> {
    ask(address, Request::get(path).body(Full::default())).await
}

/// Sends JSON.
pub(crate) async fn post(address: SocketAddr, path: &str, json: String) -> Result<String, String> {
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
    ask(address, request.body(Full::new(Bytes::from(json)))).await
}

async fn ask(
    address: SocketAddr,
    request: Result<Request<Full<Bytes>>, hyper::http::Error>,
) -> Result<String, String> {
    let mut request = request.map_err(|error| error.to_string())?;
    let host = address.to_string().parse().map_err(|_| "the address is no host".to_owned())?;
    request.headers_mut().insert(header::HOST, host);
    let asked = async {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|error| error.to_string())?;
        let talking = tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        let text = String::from_utf8_lossy(&body.map_err(|error| error.to_string())?.to_bytes()).into_owned();
        talking.abort();
        if status.is_success() { Ok(text) } else { Err(text.trim_end().to_owned()) }
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
}
