//! Publishing to `https://`, to whom the publisher trusts and to nobody else.

use std::{sync::Arc, task::Poll, time::Duration};

use futures::{future::join, poll};
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs::default_provider};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use watermill_core::{
    Message, Publisher,
    error::{PublishErrorKind, chain},
};
use watermill_http::{HttpPublisher, HttpPublisherConfig};

use crate::in_time;

#[tokio::test]
async fn a_receiver_that_is_trusted_gets_the_message_and_another_does_not() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let trusting = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let key = made.signing_key.serialize_der().try_into().unwrap();
    let server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let (acceptor, listener) =
        (TlsAcceptor::from(Arc::new(server)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let url = format!("https://localhost:{}/hooks", listener.local_addr().unwrap().port());

    let publish = async |config: HttpPublisherConfig| {
        HttpPublisher::new(config).unwrap().publish(&url, vec![Message::new("x")]).await
    };
    let serve = async || {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await?;
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\nx") {
            stream.read_buf(&mut read).await?;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
        stream.flush().await
    };
    let (published, served) =
        in_time(join(publish(HttpPublisherConfig::default().tls(trusting)), serve())).await;
    published.unwrap();
    served.unwrap();
    // Of what the machine trusts, this is nothing: it hears no message.
    let (published, served) = in_time(join(publish(HttpPublisherConfig::default()), serve())).await;
    assert_eq!(published.unwrap_err().kind(), PublishErrorKind::Unavailable);
    served.unwrap_err();
}

#[tokio::test]
async fn a_receiver_that_is_silent_before_its_handshake_has_no_message_and_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/hooks", listener.local_addr().unwrap());
    let config = HttpPublisherConfig::default()
        .connect_timeout(Duration::from_millis(50))
        .timeout(Duration::from_secs(24 * 60 * 60));
    let publisher = HttpPublisher::new(config).unwrap();
    let error = in_time(publisher.publish(&url, vec![Message::new("x")])).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (PublishErrorKind::Unavailable, true));
    assert!(!chain(&error).contains("may have arrived"), "{error:?}");
    // On a busy machine the time may be over before there was a connection. However it ends, it ends.
    if let Poll::Ready(accepted) = poll!(Box::pin(listener.accept())) {
        let _ = in_time(accepted.unwrap().0.read_to_end(&mut Vec::new())).await;
    }
}
