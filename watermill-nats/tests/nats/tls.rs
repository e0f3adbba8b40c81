//! NATS by way of TLS, with a certificate that was made here, in front of the real server.

use std::sync::Arc;

use async_nats::ConnectOptions;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use watermill_core::{Publisher, Subscriber};
use watermill_nats::{
    CoreNatsConfig, CoreNatsPublisher, CoreNatsSubscriber, NatsPublisher, NatsPublisherConfig,
    NatsSubscriber, NatsSubscriberConfig,
};
use watermill_testkit::{Service, unique};

use crate::{in_time, messages, next};

/// Takes connections as a server does that wants TLS: it greets in the open, and what follows is encrypted.
async fn front(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> u16 {
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = Service::NATS.url().trim_start_matches("nats://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client, server.clone(), acceptor.clone()));
        }
    });
    port
}

/// An error is what a client that does not trust it causes.
async fn serve(mut client: TcpStream, server: String, acceptor: TlsAcceptor) -> std::io::Result<()> {
    let mut server = BufReader::new(TcpStream::connect(server).await?);
    let mut info = String::new();
    server.read_line(&mut info).await?;
    client.write_all(info.replacen('{', "{\"tls_required\":true,", 1).as_bytes()).await?;
    let mut client = acceptor.accept(client).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

fn trusting(certificate: Option<CertificateDer<'static>>) -> ConnectOptions {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificate);
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    ConnectOptions::new().require_tls(true).tls_client_config(config)
}

#[tokio::test]
async fn whoever_trusts_the_certificate_publishes_and_reads_and_nobody_else() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let port = front(certificate.clone(), made.signing_key.serialize_der().try_into().unwrap()).await;
    let url = format!("tls://localhost:{port}");

    let client = in_time(trusting(Some(certificate)).connect(&url)).await.unwrap();
    let (topic, config) = (unique("orders"), NatsPublisherConfig::default());
    NatsPublisher::new(client.clone(), config).unwrap().publish(&topic, messages(3)).await.unwrap();
    let subscriber = NatsSubscriber::new(client.clone(), NatsSubscriberConfig::new("g")).unwrap();
    let mut subscription = subscriber.subscribe(&topic).await.unwrap();
    for expected in ["0", "1", "2"] {
        let delivery = next(&mut subscription).await;
        assert_eq!(delivery.id(), expected);
        delivery.ack_confirmed().await.unwrap();
    }
    subscription.close().await.unwrap();

    let topic = unique("prices");
    let subscriber = CoreNatsSubscriber::new(client.clone(), CoreNatsConfig::default()).unwrap();
    let mut subscription = subscriber.subscribe(&topic).await.unwrap();
    let publisher = CoreNatsPublisher::new(client, CoreNatsConfig::default()).unwrap();
    publisher.publish(&topic, messages(1)).await.unwrap();
    assert_eq!(next(&mut subscription).await.id(), "0");
    subscription.close().await.unwrap();

    in_time(trusting(None).connect(&url)).await.expect_err("it trusts nobody");
}
