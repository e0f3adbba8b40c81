//! [`Proxy`]: a network between a client and its server that can fall silent.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_util::task::AbortOnDropHandle;

/// Forwards to a server until it falls silent: then it keeps its connections open and passes nothing, whatever
/// either side does, as if the client had frozen or the network had forgotten the connection.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    network: Arc<Network>,
    _accepting: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Network {
    silent: AtomicBool,
    /// How often a client may still send something before it falls silent; more than a test takes by default.
    left: AtomicU32,
    /// How often a client has sent something that was not passed.
    swallowed: AtomicU32,
}

impl Proxy {
    pub(crate) async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let network = Arc::new(Network { left: AtomicU32::new(u32::MAX), ..Network::default() });
        let accepting = tokio::spawn(accept(listener, server, network.clone()));
        Self { port, network, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// What is connected falls silent, and what connects from now on does not.
    pub(crate) fn fall_silent(&self) {
        self.network.silent.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.network.silent.load(Ordering::Relaxed)
    }

    /// How often something was sent in silence, which leaves its connection silent for ever.
    pub(crate) fn swallowed(&self) -> u32 {
        self.network.swallowed.load(Ordering::Relaxed)
    }

    /// What connects from now on is forwarded.
    pub(crate) fn recover(&self) {
        self.network.silent.store(false, Ordering::Relaxed);
    }

    /// Everything falls silent after clients have sent something so many times more.
    pub(crate) fn fall_silent_after(&self, times: u32) {
        self.network.left.store(times, Ordering::Relaxed);
    }
}

impl Network {
    /// Counts what a client sends; false once nothing is passed any more.
    fn passes(&self) -> bool {
        !self.silent.load(Ordering::Relaxed) && self.left.fetch_sub(1, Ordering::Relaxed) > 0 || {
            self.silent.store(true, Ordering::Relaxed);
            self.swallowed.fetch_add(1, Ordering::Relaxed);
            false
        }
    }
}

async fn accept(listener: TcpListener, server: String, network: Arc<Network>) {
    // Connections that have fallen silent stay open until the test ends.
    let mut connections = Vec::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(&server).await.unwrap();
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let forward = forward(client, server, network.clone());
        connections.push(AbortOnDropHandle::new(tokio::spawn(forward)));
    }
}

async fn forward(client: TcpStream, server: TcpStream, network: Arc<Network>) {
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let sending = pass(from_client, to_server, || network.passes());
    let receiving = pass(from_server, to_client, || !network.silent.load(Ordering::Relaxed));
    tokio::join!(sending, receiving);
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut passes: impl FnMut() -> bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if !passes() {
            // Keeps both halves, and so the connection.
            std::future::pending::<()>().await;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
