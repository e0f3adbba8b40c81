//! What is asked over HTTP/1: to create topics and subscriptions, and to look at them.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::Server;

/// Nothing is created then, and probes find nobody who minds.
const FORBIDDEN: &str = r#"{"error":{"code":403,"message":"not here","status":"PERMISSION_DENIED"}}"#;

/// One request, and the connection ends.
pub(super) async fn answer(server: &Server, mut socket: TcpStream) {
    let mut request = Vec::new();
    while !is_whole(&request) {
        if socket.read_buf(&mut request).await.unwrap_or_default() == 0 {
            return;
        }
    }
    let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
    let asked = line.rsplit_once(' ').map_or("", |(asked, _)| asked).to_owned();
    let (status, json) = server.change(|state| {
        state.asked.push(asked);
        state.admin.pop_front().unwrap_or_else(|| (403, FORBIDDEN.to_owned()))
    });
    let length = json.len();
    let head = format!(
        "HTTP/1.1 {status} As scripted\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n"
    );
    let _ = socket.write_all((head + &json).as_bytes()).await;
}

/// Head and body, as long as the head says.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    body.len() >= length.unwrap_or(0)
}
