//! tower's own layers around a handler, unmodified, and every layer of this crate around it and
//! them: as services, without a router.

use std::{convert::Infallible, future::Future, time::Duration};

use async_trait::async_trait;
use tokio::time::Instant;
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt,
    limit::{ConcurrencyLimitLayer, RateLimitLayer},
    timeout::TimeoutLayer,
};
use watermill_core::{
    Message, Outputs, Publisher,
    error::{BoxError, PublishError},
    middleware::{
        CircuitBreaker, Correlation, Deduplicator, DelayOnError, Duplicator, IgnoreErrors, InstantAck,
        MemoryDeduplicationStore, PoisonQueue, RandomFail, RandomPanic, Recoverer, Retry, Throttle,
        ThrottleByKey, Timeout,
    },
    publisher::PublisherCapabilities,
    router::{HandlerFn, HandlerService},
};

const SECOND: Duration = Duration::from_secs(1);

fn service<F, Args>(function: F) -> HandlerService<F, Args, ()>
where
    F: HandlerFn<Args, ()>,
{
    HandlerService::new(function, ())
}

async fn echo(message: Message) -> Message {
    message
}

async fn takes_ten_seconds(_: Message) {
    tokio::time::sleep(10 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn tower_timeout_drops_a_handler_that_takes_too_long() {
    let began = Instant::now();
    let layered = TimeoutLayer::new(SECOND).layer(service(takes_ten_seconds));
    let error = layered.oneshot(Message::new("x")).await.unwrap_err();
    assert!(error.is::<tower::timeout::error::Elapsed>());
    assert_eq!(began.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn tower_concurrency_limit_is_an_intake_valve() {
    let mut layered = ConcurrencyLimitLayer::new(1).layer(service(takes_ten_seconds));
    let first = layered.ready().await.unwrap().call(Message::new("x"));
    assert!(futures::poll!(Box::pin(layered.ready())).is_pending());
    first.await.unwrap();
    layered.ready().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn tower_rate_limit_is_an_intake_valve() {
    let mut layered = RateLimitLayer::new(2, SECOND).layer(service(echo));
    let began = Instant::now();
    for _ in 0..5 {
        layered.ready().await.unwrap().call(Message::new("x")).await.unwrap();
    }
    assert_eq!(began.elapsed(), 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_valve_works_through_all_the_layers_outside_of_it() {
    let mut layered = ServiceBuilder::new()
        .layer(Throttle::new(1000, SECOND).unwrap())
        .layer(Correlation::new())
        .layer(InstantAck::new())
        .layer(Deduplicator::new(MemoryDeduplicationStore::new(SECOND, 10)))
        .layer(PoisonQueue::new(NoPublisher, "dead").unwrap())
        .layer(DelayOnError::new(SECOND))
        .layer(CircuitBreaker::new(5, SECOND))
        .layer(ThrottleByKey::new(1000, SECOND, |_| None).unwrap())
        .layer(Retry::new(5))
        .layer(Timeout::new(60 * SECOND))
        .layer(Recoverer::new())
        .layer(IgnoreErrors::of::<std::fmt::Error>())
        .layer(ConcurrencyLimitLayer::new(1))
        .service(service(takes_ten_seconds));
    let mut first = Box::pin(layered.ready().await.unwrap().call(Message::new("x")));
    assert!(futures::poll!(&mut first).is_pending());
    tokio::time::advance(SECOND).await;
    assert!(futures::poll!(Box::pin(layered.ready())).is_pending(), "the one permit is taken");
    first.await.unwrap();
    layered.ready().await.unwrap();
}

/// What a router asks of a service.
fn fits_a_router<S>(_: S)
where
    S: Service<Message, Response = Outputs> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Future<Output = Result<Outputs, S::Error>> + Send + 'static,
{
}

#[tokio::test]
async fn every_layer_makes_a_service_that_fits_a_router() -> Result<(), BoxError> {
    let inner = || service(echo);
    fits_a_router(CircuitBreaker::new(5, SECOND).layer(inner()));
    fits_a_router(Correlation::new().layer(inner()));
    fits_a_router(Deduplicator::new(MemoryDeduplicationStore::new(SECOND, 10)).layer(inner()));
    fits_a_router(DelayOnError::new(SECOND).layer(inner()));
    fits_a_router(Duplicator::new().layer(inner()));
    fits_a_router(IgnoreErrors::of::<Infallible>().layer(inner()));
    fits_a_router(InstantAck::new().layer(inner()));
    fits_a_router(PoisonQueue::new(NoPublisher, "dead")?.layer(inner()));
    fits_a_router(RandomFail::new(0.5)?.layer(inner()));
    fits_a_router(RandomPanic::new(0.5)?.layer(inner()));
    fits_a_router(Recoverer::new().layer(inner()));
    fits_a_router(Retry::new(5).layer(inner()));
    fits_a_router(Throttle::new(1, SECOND)?.layer(inner()));
    fits_a_router(ThrottleByKey::new(1, SECOND, |_| None)?.layer(inner()));
    fits_a_router(Timeout::new(SECOND).layer(inner()));
    fits_a_router(TimeoutLayer::new(SECOND).layer(inner()));
    fits_a_router(ConcurrencyLimitLayer::new(1).layer(inner()));
    fits_a_router(RateLimitLayer::new(1, SECOND).layer(inner()));
    Ok(())
}

/// Refuses everything.
struct NoPublisher;

#[async_trait]
impl Publisher for NoPublisher {
    async fn publish(&self, topic: &str, _: Vec<Message>) -> Result<(), PublishError> {
        Err(PublishError::closed(topic))
    }

    async fn close(&self) -> Result<(), PublishError> {
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new("none")
    }
}
