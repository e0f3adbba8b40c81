//! [`Raw`]: a server whose every byte a test decides.

use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

pub(crate) struct Raw(TcpListener);

/// A connection, in the words of the server.
pub(crate) struct Conversation {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Raw {
    pub(crate) async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port"))
    }

    pub(crate) fn host(&self) -> String {
        self.0.local_addr().expect("it is bound").to_string()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks/orders", self.host())
    }

    pub(crate) async fn accept(&self) -> Conversation {
        let (stream, _) = self.0.accept().await.expect("somebody connects");
        Conversation { stream, read: Vec::new() }
    }
}

impl Conversation {
    /// The bytes of the next request, head and body; `None` when the caller has gone.
    pub(crate) async fn request(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = length_of_request(&self.read) {
                let rest = self.read.split_off(length);
                return Some(std::mem::replace(&mut self.read, rest));
            }
            if self.stream.read_buf(&mut self.read).await.ok()? == 0 {
                return None;
            }
        }
    }

    pub(crate) async fn say(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }
}

fn length_of_request(read: &[u8]) -> Option<usize> {
    let head = read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&read[..head]).to_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = head + length.map_or(0, |length| length.trim().parse().expect("a length is a number"));
    (read.len() >= length).then_some(length)
}
