//! [`Connector`]: connects within a time, from the name of the host to the end of the TLS handshake.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::timeout;
use tower::Service;
use watermill_core::error::BoxError;

use crate::HttpPublisherConfig;

#[cfg(not(feature = "tls"))]
type Bare = HttpConnector;
#[cfg(feature = "tls")]
type Bare = hyper_rustls::HttpsConnector<HttpConnector>;

/// Connects, as `C` does, or fails when that takes too long: also where the request that wanted the connection has found
/// another meanwhile, and nobody waits for this one.
#[derive(Clone, Debug)]
pub(crate) struct Connector<C = Bare> {
    inner: C,
    at_most: Duration,
}

impl Connector {
    pub(crate) fn new(config: &HttpPublisherConfig) -> Result<Self, String> {
        let mut tcp = HttpConnector::new();
        // Of a host with several addresses, each has its part of the time.
        tcp.set_connect_timeout(Some(config.connect_timeout));
        tcp.set_nodelay(true);
        Ok(Self { inner: with_tls(tcp, config)?, at_most: config.connect_timeout })
    }
}

impl<C> Service<Uri> for Connector<C>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send + 'static>,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let (connecting, at_most) = (self.inner.call(url), self.at_most);
        Box::pin(async move {
            match timeout(at_most, connecting).await {
                Ok(connected) => connected.map_err(Into::into),
                Err(_) => Err(format!("not connected within {at_most:?}").into()),
            }
        })
    }
}

#[cfg(not(feature = "tls"))]
fn with_tls(connector: HttpConnector, _config: &HttpPublisherConfig) -> Result<Bare, String> {
    Ok(connector)
}

#[cfg(feature = "tls")]
fn with_tls(mut connector: HttpConnector, config: &HttpPublisherConfig) -> Result<Bare, String> {
    connector.enforce_http(false);
    let builder = hyper_rustls::HttpsConnectorBuilder::new;
    // The provider is named, since a process may have two and then has none by default.
    let provider = rustls::crypto::aws_lc_rs::default_provider;
    let builder = match &config.tls {
        Some(config) => builder().with_tls_config(config.clone()),
        None => match builder().with_provider_and_platform_verifier(provider()) {
            Ok(builder) => builder,
            // Whoever posts to `http://` alone needs none.
            Err(error) => {
                tracing::warn!(%error, "this machine trusts nobody, so no https:// will do");
                let nobody = rustls::ClientConfig::builder_with_provider(provider().into())
                    .with_safe_default_protocol_versions()
                    .map_err(|error| format!("tls: {error}"))?
                    .with_root_certificates(rustls::RootCertStore::empty())
                    .with_no_client_auth();
                builder().with_tls_config(nobody)
            }
        },
    };
    Ok(builder.https_or_http().enable_http1().wrap_connector(connector))
}

#[cfg(test)]
mod tests {
    use std::future::{Pending, pending};

    use super::*;

    /// A host whose name nobody resolves, or that is silent.
    struct Silent;

    impl Service<Uri> for Silent {
        type Response = ();
        type Error = BoxError;
        type Future = Pending<Result<(), BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Uri) -> Self::Future {
            pending()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_keeps_a_connection_from_being_made_it_is_given_up() {
        let mut connector = Connector { inner: Silent, at_most: Duration::from_secs(5) };
        let error = connector.call(Uri::from_static("http://a/")).await.unwrap_err();
        assert_eq!(error.to_string(), "not connected within 5s");
    }
}
