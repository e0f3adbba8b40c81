//! [`Proxy`]: the network between clients and a database, which can fall silent and lead elsewhere.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::Result;

/// Forwards to a server. Connections that have fallen silent stay open, and pass nothing to either side, for ever.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    _accepting: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    server: Mutex<String>,
    /// How often the network has fallen silent: a connection passes nothing after it has done so once more.
    silences: watch::Sender<u32>,
}

impl Proxy {
    /// `server` is `host:port`.
    pub(crate) async fn to(server: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let shared =
            Arc::new(Shared { server: Mutex::new(server.to_owned()), silences: watch::Sender::new(0) });
        let accepting = AbortOnDropHandle::new(tokio::spawn(accept(listener, Arc::clone(&shared))));
        Ok(Self { port, shared, _accepting: accepting })
    }

    /// The URL of a database on the server, by way of this.
    pub(crate) fn url(&self, server: &str) -> String {
        let (before, after) = server.rsplit_once('@').unwrap_or(("", server));
        let path = after.split_once('/').map_or("", |(_, path)| path);
        format!("{before}@127.0.0.1:{}/{path}", self.port)
    }

    /// What is connected passes nothing from now on; what connects later does.
    pub(crate) fn fall_silent(&self) {
        self.shared.silences.send_modify(|silences| *silences += 1);
    }

    /// What connects from now on gets to another server.
    pub(crate) fn lead_to(&self, server: &str) {
        server.clone_into(&mut self.shared.server.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Shared {
    fn server(&self) -> String {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let connections = TaskTracker::new();
    while let Ok((client, _)) = listener.accept().await {
        let silences = shared.silences.subscribe();
        let server = shared.server();
        let forwarding = connections.spawn(async move {
            // A server that is away refuses the client: what is dropped is closed.
            if let Ok(server) = TcpStream::connect(server).await {
                forward(client, server, silences).await;
            }
        });
        // It goes on by itself, and ends with the runtime at the latest.
        drop(forwarding);
    }
}

async fn forward(client: TcpStream, server: TcpStream, mut silences: watch::Receiver<u32>) {
    // Best effort: without it answers are late, and right.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let mut passing = Box::pin(async {
        // One side that has ended ends both.
        tokio::select! {
            () = pass(from_client, to_server) => {}
            () = pass(from_server, to_client) => {}
        }
    });
    tokio::select! {
        () = &mut passing => {}
        _ = silences.changed() => {
            // Keeps both connections, and reads from neither.
            std::future::pending::<()>().await;
        }
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that says back what it is told.
    async fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (from, to) = stream.into_split();
                    pass(from, to).await;
                });
            }
        });
        address
    }

    async fn connect(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap()
    }

    async fn answers(stream: &mut TcpStream) {
        stream.write_all(b"?").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'?');
    }

    #[tokio::test]
    async fn what_was_connected_stays_silent_and_what_connects_later_does_not() {
        let proxy = Proxy::to(&echo().await).await.unwrap();
        let mut old = connect(&proxy).await;
        answers(&mut old).await;
        proxy.fall_silent();
        old.write_all(b"?").await.unwrap();
        let mut new = connect(&proxy).await;
        answers(&mut new).await;
        assert!(futures::FutureExt::now_or_never(old.read_u8()).is_none(), "neither an answer nor an end");
    }

    #[tokio::test]
    async fn it_leads_elsewhere_when_it_is_told() {
        let proxy = Proxy::to("127.0.0.1:2").await.unwrap();
        let mut refused = connect(&proxy).await;
        assert_eq!(refused.read(&mut [0]).await.unwrap_or_default(), 0);
        proxy.lead_to(&echo().await);
        answers(&mut connect(&proxy).await).await;
    }

    #[tokio::test]
    async fn a_url_goes_by_way_of_it() {
        let proxy = Proxy::to("127.0.0.1:2").await.unwrap();
        let url = proxy.url("postgres://postgres@127.0.0.1:5432/shop");
        assert_eq!(url, format!("postgres://postgres@127.0.0.1:{}/shop", proxy.port));
    }
}
