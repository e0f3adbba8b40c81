//! [`Way`]: the way to a server, on which it is counted how often a client sends.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::AbortOnDropHandle;

/// The way to a server.
pub(super) struct Way {
    url: String,
    sent: Arc<AtomicUsize>,
    _accepting: AbortOnDropHandle<()>,
}

impl Way {
    /// To the server that a URL names, which names a user and a database too.
    pub(super) async fn to_server_of(url: &str) -> Self {
        let (before, rest) = url.split_once('@').expect("it names a user");
        let (server, behind) = rest.split_once('/').expect("it names a database");
        let server = server.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("it has one").port();
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = sent.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let upstream = TcpStream::connect(&server).await.expect("the server answers");
                tokio::spawn(forward(client, upstream, counter.clone()));
            }
        });
        let url = format!("{before}@127.0.0.1:{port}/{behind}");
        Self { url, sent, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// The URL that leads this way.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// How often a client has sent something so far.
    pub(super) fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, sent: Arc<AtomicUsize>) {
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let done = tokio::select! {
            read = client.read(&mut asked) => {
                sent.fetch_add(1, Ordering::Relaxed);
                match read { Ok(count @ 1..) => server.write_all(&asked[..count]).await, _ => return }
            }
            read = server.read(&mut answered) => {
                match read { Ok(count @ 1..) => client.write_all(&answered[..count]).await, _ => return }
            }
        };
        if done.is_err() {
            return;
        }
    }
}
