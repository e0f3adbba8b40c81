//! What connects: each crate with its own stack.

use std::{path::Path, sync::Arc};

use google_cloud_auth::credentials::anonymous;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use sqlx::{
    ConnectOptions,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::TlsConnector;
use watermill_core::{Message, Publisher};
use watermill_gcp::{PubSubAccess, PubSubPublisher, PubSubPublisherConfig};
use watermill_kafka::{KafkaPublisher, KafkaPublisherConfig};

use crate::{
    Result,
    server::{REFUSAL, Servers},
};

/// Over REST, to create the topic, and over gRPC, to publish.
pub(crate) async fn pubsub(servers: &Servers) -> Result {
    let access = PubSubAccess::new("project")
        .no_emulator()
        .endpoint(format!("https://localhost:{}", servers.pubsub.port))
        .credentials(anonymous::Builder::new().build());
    let publisher = PubSubPublisher::new(PubSubPublisherConfig::new(access).create_topics(true)).await?;
    publisher.publish("orders", vec![Message::new("x")]).await?;
    Ok(publisher.close().await?)
}

/// As far as a word of the server's, which comes through TLS.
pub(crate) async fn sql(servers: &Servers, certificate: &Path) -> Result {
    let options = PgConnectOptions::new()
        .host("localhost")
        .port(servers.postgres.port)
        .username("somebody")
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert(certificate);
    let refused = options.connect().await.expect_err("this server lets nobody in").to_string();
    if refused.contains(REFUSAL) { Ok(()) } else { Err(refused.into()) }
}

/// As far as the client's first request, which comes through TLS.
pub(crate) async fn kafka(servers: &Servers, certificate: &Path) -> Result {
    let config = KafkaPublisherConfig::new(format!("localhost:{}", servers.kafka.port))
        .option("security.protocol", "ssl")
        .option("ssl.ca.location", certificate.to_string_lossy())
        .option("broker.address.family", "v4");
    let publisher = KafkaPublisher::new(config)?;
    tokio::select! {
        published = publisher.publish("orders", vec![Message::new("x")]) => Ok(published?),
        () = servers.kafka.was_asked() => Ok(()),
    }
}

/// As any crate that leaves the choice of a provider to the process.
pub(crate) async fn other(servers: &Servers, certificate: &Path) -> Result {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate)?)?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let socket = TcpStream::connect(("127.0.0.1", servers.kafka.port)).await?;
    let mut socket = TlsConnector::from(Arc::new(config)).connect("localhost".try_into()?, socket).await?;
    socket.write_all(b"here").await?;
    servers.kafka.was_asked().await;
    Ok(())
}
