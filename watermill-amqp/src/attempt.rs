//! [`Attempt`]: connecting, so that it can be called off.
//!
//! The client connects in a thread of its own, which waits for the server's answer however long that takes: one that is
//! frozen, or something else that listens there and says nothing, would keep a thread and a socket for each attempt. So the
//! socket is ours too, and its end ends the thread.

use std::{
    io,
    net::Shutdown,
    sync::{Arc, Mutex, PoisonError},
};

use lapin::{
    Connection, ConnectionProperties,
    runtime::default_runtime,
    tcp::{AMQPUriTcpExt as _, AsyncTcpStream, OwnedTLSConfig},
    uri::{AMQPScheme, AMQPUri},
};
use socket2::{SockRef, Socket};
use tokio_util::sync::CancellationToken;

/// An attempt to connect. Dropped before it has [succeeded](Self::succeeded), it ends.
#[derive(Default)]
pub(crate) struct Attempt(Arc<Lifeline>);

#[derive(Default)]
struct Lifeline {
    is_over: CancellationToken,
    socket: Mutex<Option<Socket>>,
}

impl Attempt {
    pub(crate) async fn connect(
        &self,
        uri: AMQPUri,
        properties: ConnectionProperties,
    ) -> lapin::Result<Connection> {
        let lifeline = self.0.clone();
        Connection::connector(
            uri,
            default_runtime()?,
            async move |uri: AMQPUri, runtime| {
                let (scheme, host) = (uri.scheme.clone(), uri.authority.host.clone());
                let plain = AMQPUri { scheme: AMQPScheme::AMQP, ..uri };
                let connected = async {
                    let stream = plain.connect_async(&runtime).await?;
                    if let AsyncTcpStream::Plain(stream) = &stream {
                        lifeline.hold(SockRef::from(stream.get_ref()).try_clone()?);
                    }
                    match scheme {
                        AMQPScheme::AMQP => Ok(stream),
                        AMQPScheme::AMQPS => stream.into_tls(&host, OwnedTLSConfig::default().as_ref()).await,
                    }
                };
                let connected = lifeline.is_over.run_until_cancelled(connected).await;
                Ok(connected.unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::TimedOut)))?)
            },
            properties,
        )
        .await
    }

    /// What was begun stays.
    pub(crate) fn succeeded(self) {
        self.0.let_go();
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.0.is_over.cancel();
        if let Some(socket) = self.0.let_go() {
            // One that is closed already is what is wanted.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Lifeline {
    fn hold(&self, socket: Socket) {
        *self.socket.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
    }

    fn let_go(&self) -> Option<Socket> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, net::TcpListener, time::Duration};

    use super::*;
    use crate::{
        AmqpPublisherConfig, Topology,
        connection::{Blocked, ToServer},
    };

    #[tokio::test]
    async fn a_server_that_says_nothing_keeps_no_socket_and_no_thread() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("amqp://{}/%2f", silent.local_addr().unwrap());
        let config = AmqpPublisherConfig::new(url, Topology::queue()).timeout(Duration::from_millis(200));
        let to_server = ToServer::new(config.server, "test", Blocked::default());
        for _ in 0..3 {
            assert!(to_server.open().await.is_err());
        }
        let ended = tokio::task::spawn_blocking(move || {
            for _ in 0..3 {
                let (mut accepted, _) = silent.accept().unwrap();
                accepted.set_read_timeout(Some(watermill_testkit::patience())).unwrap();
                let mut header = Vec::new();
                accepted.read_to_end(&mut header).expect("the other side has ended it");
                assert_eq!(header, b"AMQP\0\0\x09\x01");
            }
        });
        let ended = async {
            ended.await.unwrap();
            #[cfg(target_os = "linux")]
            while is_a_thread_left() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(watermill_testkit::patience(), ended).await.expect("it ends");
    }

    #[cfg(target_os = "linux")]
    fn is_a_thread_left() -> bool {
        let threads = std::fs::read_dir("/proc/self/task").unwrap();
        let name = |thread: io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(thread.ok()?.path().join("comm")).ok()
        };
        threads.filter_map(name).any(|name| name.trim() == "lapin-io-loop")
    }
}
