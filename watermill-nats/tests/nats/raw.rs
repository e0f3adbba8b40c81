//! A connection on which the protocol is spoken by hand, for what goes over it in bytes.

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};
use watermill_testkit::Service;

pub(crate) struct Raw(BufReader<TcpStream>);

impl Raw {
    pub(crate) async fn connect() -> Self {
        let url = Service::NATS.url();
        let address = url.trim_start_matches("nats://").trim_end_matches('/').to_owned();
        let mut raw = Self(BufReader::new(TcpStream::connect(address).await.unwrap()));
        raw.say(b"CONNECT {\"verbose\":false,\"headers\":true,\"protocol\":1}\r\n").await;
        raw.flush().await;
        raw
    }

    pub(crate) async fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Returns when the server has taken what was said.
    pub(crate) async fn flush(&mut self) {
        self.say(b"PING\r\n").await;
        self.until("PONG").await;
    }

    pub(crate) async fn subscribe(&mut self, subject: &str) {
        self.say(format!("SUB {subject} 1\r\n").as_bytes()).await;
        self.flush().await;
    }

    pub(crate) async fn publish(&mut self, subject: &str, headers: &[u8], body: &[u8]) {
        let all = headers.len() + body.len();
        self.say(format!("HPUB {subject} {} {all}\r\n", headers.len()).as_bytes()).await;
        self.say(&[headers, body, b"\r\n"].concat()).await;
        self.flush().await;
    }

    /// The headers and the body of the next message.
    pub(crate) async fn message(&mut self) -> (Vec<u8>, Vec<u8>) {
        let line = self.until("HMSG").await;
        let mut sizes = line.split_whitespace().rev().map(|word| word.parse::<usize>().unwrap());
        let (all, headers) = (sizes.next().unwrap(), sizes.next().unwrap());
        let mut bytes = vec![0; all + 2];
        self.0.read_exact(&mut bytes).await.unwrap();
        (bytes[..headers].to_vec(), bytes[headers..all].to_vec())
    }

    /// The first line that begins so.
    async fn until(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).await.unwrap() > 0, "the server has closed the connection");
            if line.starts_with(word) {
                return line;
            }
        }
    }
}
