//! Servers that speak as much of each protocol as it takes to know that a client has come through TLS.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::Result;

/// What the database answers to everybody.
pub(crate) const REFUSAL: &str = "nobody is let in here";

/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Servers {
    pub(crate) pubsub: Server,
    pub(crate) postgres: Server,
    pub(crate) kafka: Server,
}

pub(crate) struct Server {
    pub(crate) port: u16,
    asked: Arc<Notify>,
}

#[derive(Clone, Copy)]
enum Protocol {
    PubSub,
    Postgres,
    Kafka,
}

impl Servers {
    pub(crate) async fn start(certificate: &Path, key: &Path) -> Result<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_file(certificate)?],
                PrivateKeyDer::from_pem_file(key)?,
            )?;
        let plain = TlsAcceptor::from(Arc::new(config.clone()));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            pubsub: Server::start(Protocol::PubSub, TlsAcceptor::from(Arc::new(config))).await?,
            postgres: Server::start(Protocol::Postgres, plain.clone()).await?,
            kafka: Server::start(Protocol::Kafka, plain).await?,
        })
    }
}

impl Server {
    async fn start(protocol: Protocol, tls: TlsAcceptor) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (port, asked) = (listener.local_addr()?.port(), Arc::new(Notify::new()));
        let notify = asked.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (tls, notify) = (tls.clone(), notify.clone());
                tokio::spawn(async move {
                    match protocol.serve(socket, tls).await {
                        Ok(()) => notify.notify_one(),
                        Err(error) => eprintln!("a connection has ended: {error}"),
                    }
                });
            }
        });
        Ok(Self { port, asked })
    }

    /// Waits for a client that has come through TLS.
    ///
    /// # Panics
    ///
    /// When none comes.
    pub(crate) async fn was_asked(&self) {
        tokio::time::timeout(PATIENCE, self.asked.notified()).await.expect("a client comes");
    }
}

impl Protocol {
    async fn serve(self, mut socket: TcpStream, tls: TlsAcceptor) -> Result {
        match self {
            Self::PubSub => {
                let socket = tls.accept(socket).await?;
                if socket.get_ref().1.alpn_protocol() == Some(b"h2") {
                    publish(socket).await
                } else {
                    create(socket).await
                }
            }
            Self::Postgres => {
                // It asks for TLS in plain text.
                socket.read_exact(&mut [0; 8]).await?;
                socket.write_all(b"S").await?;
                refuse(tls.accept(socket).await?).await
            }
            Self::Kafka => {
                tls.accept(socket).await?.read_exact(&mut [0; 4]).await?;
                Ok(())
            }
        }
    }
}

/// `PublishResponse { message_ids: ["1"] }`, with the frame around it.
const PUBLISHED: &[u8] = &[0, 0, 0, 0, 3, 0x0a, 1, b'1'];

async fn publish(socket: TlsStream<TcpStream>) -> Result {
    let mut connection = h2::server::handshake(socket).await?;
    while let Some(request) = connection.accept().await {
        let (_, mut respond) = request?;
        let head = http::Response::builder().header("content-type", "application/grpc").body(())?;
        let mut send = respond.send_response(head, false)?;
        send.send_data(Bytes::from_static(PUBLISHED), false)?;
        let trailers = [(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static("0"))];
        send.send_trailers(trailers.into_iter().collect())?;
    }
    Ok(())
}

/// Says that a topic was created, whatever was asked.
async fn create(mut socket: impl AsyncRead + AsyncWrite + Unpin) -> Result {
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        if socket.read_buf(&mut request).await? == 0 {
            return Err("no request".into());
        }
    }
    socket
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        .await?;
    Ok(socket.shutdown().await?)
}

async fn refuse(mut socket: impl AsyncRead + AsyncWrite + Unpin) -> Result {
    let length = socket.read_u32().await?;
    socket.read_exact(&mut vec![0; length as usize - 4]).await?;
    let fields = format!("SFATAL\0VFATAL\0C28000\0M{REFUSAL}\0\0");
    socket.write_u8(b'E').await?;
    socket.write_u32(u32::try_from(fields.len())? + 4).await?;
    socket.write_all(fields.as_bytes()).await?;
    Ok(socket.shutdown().await?)
}
