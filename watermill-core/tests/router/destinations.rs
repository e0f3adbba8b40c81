//! Destinations: a topic whose publisher is a layer's business.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use tower::{Layer, Service, layer::layer_fn};
use watermill_core::{
    FailurePolicy, Handler, Json, Message, Outputs, Publisher, Router,
    delivery::Outcome,
    error::BoxError,
    metadata_keys::REASON_POISONED,
    router::{Extract, Handlers, MessageService, Promise, Required, RunErrorKind},
};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use crate::{Running, ids, message, router};

async fn pass(message: Message) -> Message {
    message
}

/// Publishes the outputs of what is inside of it, to the topic that the handler names.
#[derive(Clone)]
struct PublishInside(RecordingPublisher);

#[derive(Clone)]
struct PublishInsideService<S>(RecordingPublisher, S);

impl<S> Layer<S> for PublishInside {
    type Service = PublishInsideService<S>;

    fn layer(&self, inner: S) -> PublishInsideService<S> {
        Promise::publishes();
        PublishInsideService(self.0.clone(), inner)
    }
}

impl<S: MessageService> Service<Message> for PublishInsideService<S> {
    type Response = Outputs;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Outputs, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.1.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        let topic = message.handler().and_then(|handler| handler.publish_topic.clone());
        let (publisher, handling) = (self.0.clone(), self.1.call(message));
        async move {
            let outputs = handling.await.map_err(Into::into)?;
            let topic = topic.ok_or("the handler names no topic")?;
            publisher.publish(&topic, outputs.messages().to_vec()).await?;
            Ok(Outputs::none())
        }
        .boxed()
    }
}

#[tokio::test]
async fn a_layer_publishes_to_the_topic_that_the_handler_names() {
    let (source, target) = (ScriptedSubscriber::new(), RecordingPublisher::new());
    source.push(message(1));
    let handler = Handler::new("pass", pass).from(source.clone(), "in").to_topic("out");
    let running = Running::start(router().layer(PublishInside(target.clone())).add(handler)).await;
    assert_eq!(source.settled(1).await, [("1".into(), Outcome::Ack)]);
    assert_eq!(ids(&target.published("out")), ["1"]);
    running.stop().await.unwrap();
}

#[test]
fn a_topic_without_a_publisher_takes_every_handler_that_one_with_a_publisher_takes() {
    macro_rules! both_ways {
        ($($handler:expr),*) => {
            Router::new()$(
                .add($handler.from(ScriptedSubscriber::new(), "in").to(RecordingPublisher::new(), "out"))
                .add($handler.from(ScriptedSubscriber::new(), "in").to_topic("out"))
            )*
        };
    }
    async fn maybe() -> Result<Option<Json<u32>>, BoxError> {
        Ok(None)
    }
    async fn many() -> Vec<Message> {
        Vec::new()
    }
    async fn batch(messages: Vec<Message>) -> Vec<Result<Message, BoxError>> {
        messages.into_iter().map(Ok).collect()
    }
    let service = || tower::service_fn(async |_: Message| Ok::<_, BoxError>(Outputs::none()));
    let router = both_ways!(
        Handler::new("pass", pass),
        Handler::new("maybe", maybe),
        Handler::new("many", many),
        Handler::batch("batch", 10, Duration::from_millis(1), batch),
        Handler::service("service", service())
    );
    let ends = |end: &str| router.to_string().lines().filter(|line| line.contains(end)).count();
    assert_eq!((ends("-> recording:out "), ends("-> out ")), (5, 5));
}

#[tokio::test]
async fn outputs_that_no_layer_took_fail_their_message_for_good_and_say_so() {
    let (source, dead) = (ScriptedSubscriber::new(), RecordingPublisher::new());
    source.push(message(1));
    let policy = FailurePolicy::retry(5).then_dead_letter(dead.clone(), "dead");
    let promises = layer_fn(|inner| {
        Promise::publishes();
        inner
    });
    let handler = Handler::new("pass", pass).from(source.clone(), "in").to_topic("out").on_failure(policy);
    let running = Running::start(router().layer(promises).add(handler)).await;
    assert_eq!(source.settled(1).await, [("1".into(), Outcome::Ack)]);
    let letters = dead.published("dead");
    let reason = letters[0].metadata().get(REASON_POISONED).expect("a dead letter says why");
    assert!(reason.contains("none of its layers took the outputs"), "{reason}");
    assert_eq!(running.stop().await.unwrap().handler("pass").unwrap().counts.retried, 0);
}

/// An argument that a layer provides.
struct Tenant;

impl<S> Extract<S> for Tenant {
    type Rejection = BoxError;

    fn extract(_message: &Message, _state: &S) -> Result<Self, BoxError> {
        Ok(Self)
    }

    fn required() -> Option<Required> {
        Some(Required::of::<Self>("put the layer of tenants around the handler"))
    }
}

async fn by_tenant(_tenant: Tenant) {}

async fn refused(router: Router) -> String {
    let error = router.run_until(async {}).await.expect_err("it is not built");
    assert_eq!(error.kind(), RunErrorKind::Build);
    error.to_string()
}

#[tokio::test]
async fn a_topic_whose_layer_was_forgotten_is_refused_at_the_start() {
    let pass = || Handler::new("pass", pass).from(ScriptedSubscriber::new(), "in").to_topic("out");
    let error = refused(Router::new().add(pass())).await;
    assert!(error.contains("handler \"pass\"") && error.contains("none of its layers publishes"), "{error}");
    let error = refused(Router::new().merge(Handlers::new().add(pass()))).await;
    assert!(error.contains("none of its layers publishes"), "{error}");
    async fn batch(messages: Vec<Message>) -> Vec<Result<Message, BoxError>> {
        messages.into_iter().map(Ok).collect()
    }
    let batch = Handler::batch("batch", 9, Duration::ZERO, batch).from(ScriptedSubscriber::new(), "in");
    let error = refused(Router::new().add(batch.to_topic("out"))).await;
    assert!(error.contains("none of its layers publishes"), "{error}");
}

#[tokio::test]
async fn an_argument_whose_layer_was_forgotten_is_refused_at_the_start() {
    let handler = || Handler::new("greet", by_tenant).from(ScriptedSubscriber::new(), "in");
    let error = refused(Router::new().add(handler())).await;
    assert!(error.contains("put the layer of tenants around the handler"), "{error}");
    let provides = layer_fn(|inner| {
        Promise::provides::<Tenant>();
        inner
    });
    let router = Router::new().add(handler().layer(provides));
    router.run_until(async {}).await.expect("it is built");
}
