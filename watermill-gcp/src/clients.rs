//! Google's clients, each made with the same access and time limits.

use std::{fmt, sync::Once, time::Duration};

use google_cloud_gax::{
    backoff_policy::BackoffPolicy, client_builder, retry_policy::RetryPolicyExt, retry_state::RetryState,
};
use google_cloud_pubsub::{
    client::{BasePublisher, Subscriber, SubscriptionAdmin, TopicAdmin},
    retry_policy::RetryableErrors,
};
use watermill_core::{Backoff, error::ConfigError};

use crate::PubSubAccess;

pub(crate) async fn publisher(
    access: &PubSubAccess,
    delivery_timeout: Duration,
    retry: Backoff,
) -> Result<BasePublisher, ConfigError> {
    choose_tls_provider();
    let (endpoint, credentials, channels) = access.resolve();
    let mut builder = BasePublisher::builder()
        .with_retry_policy(RetryableErrors.with_time_limit(delivery_timeout))
        .with_backoff_policy(Waits(retry));
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(credentials) = credentials {
        builder = builder.with_credentials(credentials);
    }
    if let Some(channels) = channels {
        builder = builder.with_grpc_subchannel_count(channels);
    }
    builder.build().await.map_err(refused)
}

pub(crate) async fn subscriber(access: &PubSubAccess) -> Result<Subscriber, ConfigError> {
    choose_tls_provider();
    let (endpoint, credentials, channels) = access.resolve();
    let mut builder = Subscriber::builder();
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(credentials) = credentials {
        builder = builder.with_credentials(credentials);
    }
    if let Some(channels) = channels {
        builder = builder.with_grpc_subchannel_count(channels);
    }
    builder.build().await.map_err(refused)
}

/// For topics. A request of it ends within `request_timeout`, retries included.
pub(crate) async fn topics(
    access: &PubSubAccess,
    request_timeout: Duration,
    retry: Backoff,
) -> Result<TopicAdmin, ConfigError> {
    choose_tls_provider();
    let (endpoint, credentials, _) = access.resolve();
    let mut builder = TopicAdmin::builder()
        .with_retry_policy(RetryableErrors.with_time_limit(request_timeout))
        .with_backoff_policy(Waits(retry));
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(credentials) = credentials {
        builder = builder.with_credentials(credentials);
    }
    builder.build().await.map_err(refused)
}

/// The same for subscriptions.
pub(crate) async fn subscriptions(
    access: &PubSubAccess,
    request_timeout: Duration,
    retry: Backoff,
) -> Result<SubscriptionAdmin, ConfigError> {
    choose_tls_provider();
    let (endpoint, credentials, _) = access.resolve();
    let mut builder = SubscriptionAdmin::builder()
        .with_retry_policy(RetryableErrors.with_time_limit(request_timeout))
        .with_backoff_policy(Waits(retry));
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(credentials) = credentials {
        builder = builder.with_credentials(credentials);
    }
    builder.build().await.map_err(refused)
}

/// Google's client brings aws-lc-rs along. Where another crate has brought `ring`, rustls has two and no default
/// any more, and whoever leaves the choice to it panics on connecting, that other crate for one. So one is
/// chosen, unless somebody has before.
fn choose_tls_provider() {
    static CHOSEN: Once = Once::new();
    CHOSEN.call_once(|| {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}

fn refused(error: client_builder::Error) -> ConfigError {
    ConfigError::new("connect to Pub/Sub", format!("access: {}", watermill_core::error::chain(&error)))
}

/// A schedule of waits, as Google's client takes it.
struct Waits(Backoff);

impl BackoffPolicy for Waits {
    fn on_failure(&self, state: &RetryState) -> Duration {
        self.0.delay(state.attempt_count.saturating_sub(1))
    }
}

impl fmt::Debug for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
