//! [`PoisonQueue`]: puts aside what cannot be handled, and goes on.

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::future::BoxFuture;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{
    DeadLetter, DeliveryInfo, Message, Outputs, Publisher,
    dead_letter::{DeadLetterError, EmptyTopic},
    error::{BoxError, Classifier, Nack, Verdict, chain},
    panic::CatchPanic,
};

/// Publishes a message that failed to another topic, with the story of the failure in its metadata,
/// and calls it done: the message is acked, and counted as dead-lettered, and later ones follow.
///
/// Put it outside of [`Retry`](super::Retry), which sees no error otherwise. It handles panics of
/// what is inside as errors. Outputs are never published for a message that failed. When the dead
/// letter cannot be published, the message fails with a [`DeadLetterError`] that names both errors,
/// and is nacked.
///
/// What is not the message's fault passes: an error marked with [`Nack`], such as that of a duplicate in
/// progress, and every error of a delivery that the subscription has lost.
///
/// The metadata are those of [`DeadLetter::message`]; the attempts are the deliveries that the
/// backend counted, tries of a [`Retry`](super::Retry) inside do not add to them. Where they
/// should, [`FailurePolicy`](crate::FailurePolicy) retries and dead-letters in one.
///
/// Each message costs a clone of its metadata; only one that fails allocates more.
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use watermill_core::{Message, Outputs, Publisher, error::BoxError, middleware::PoisonQueue};
///
/// # async fn run(publisher: impl Publisher + 'static) -> Result<(), BoxError> {
/// let handler = service_fn(async |_: Message| Err::<Outputs, _>("no such customer"));
/// let poison_queue = PoisonQueue::new(publisher, "billing.dead")?;
/// poison_queue.layer(handler).oneshot(Message::new("x")).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PoisonQueue {
    dead_letter: DeadLetter,
    classifier: Classifier,
}

impl PoisonQueue {
    /// Publishes messages that failed to `topic`.
    ///
    /// # Errors
    ///
    /// [`EmptyTopic`] when `topic` is empty.
    pub fn new(publisher: impl Publisher + 'static, topic: impl Into<Arc<str>>) -> Result<Self, EmptyTopic> {
        DeadLetter::new(publisher, topic).map(Self::from)
    }

    /// Decides from the error, instead of [`Verdict::of`]: puts the message aside after
    /// [`Verdict::GiveUp`] and [`Verdict::Retry`] (all tries are over here), passes the error on after
    /// [`Verdict::Nack`], and succeeds without outputs after [`Verdict::Ignore`]. Not asked about what is
    /// marked with [`Nack`].
    #[must_use]
    pub fn classify(
        mut self,
        classify: impl Fn(&(dyn Error + 'static)) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        self.classifier = Classifier::new(classify);
        self
    }
}

impl From<DeadLetter> for PoisonQueue {
    fn from(dead_letter: DeadLetter) -> Self {
        Self { dead_letter, classifier: Classifier::default() }
    }
}

impl fmt::Debug for PoisonQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PoisonQueue").field(&self.dead_letter).finish()
    }
}

impl<S> Layer<S> for PoisonQueue {
    type Service = PoisonQueueService<S>;

    fn layer(&self, inner: S) -> PoisonQueueService<S> {
        PoisonQueueService { inner, config: self.clone() }
    }
}

/// The service that [`PoisonQueue`] makes.
#[derive(Clone, Debug)]
pub struct PoisonQueueService<S> {
    inner: S,
    config: PoisonQueue,
}

impl<S> Service<Message> for PoisonQueueService<S>
where
    S: Service<Message, Response = Outputs>,
    S::Error: Into<BoxError>,
{
    type Response = Outputs;
    type Error = BoxError;
    type Future = PoisonQueueFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        let kept = Some(message.clone());
        let future = CatchPanic::new(|| self.inner.call(message));
        PoisonQueueFuture { config: self.config.clone(), step: Step::Handling { future, kept } }
    }
}

pin_project! {
    /// A handler's future, and the dead letter of its message.
    #[must_use = "futures do nothing unless polled"]
    pub struct PoisonQueueFuture<F> {
        config: PoisonQueue,
        #[pin]
        step: Step<F>,
    }
}

pin_project! {
    #[project = StepProject]
    enum Step<F> {
        Handling { #[pin] future: CatchPanic<F>, kept: Option<Message> },
        Sending { sending: BoxFuture<'static, Result<(), DeadLetterError>>, outputs: Outputs },
    }
}

impl<F, E> Future for PoisonQueueFuture<F>
where
    F: Future<Output = Result<Outputs, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Outputs, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.step.as_mut().project() {
                StepProject::Handling { future, kept } => {
                    let error = match ready!(future.poll(cx)) {
                        Ok(Ok(outputs)) => return Poll::Ready(Ok(outputs)),
                        Ok(Err(error)) => error.into(),
                        Err(panicked) => BoxError::from(panicked),
                    };
                    let (verdict, error) = this.config.classifier.judge(error);
                    match verdict {
                        Verdict::Nack => return Poll::Ready(Err(error)),
                        Verdict::Ignore => return Poll::Ready(Ok(Outputs::none())),
                        Verdict::Retry | Verdict::GiveUp => {}
                    }
                    let message = kept.take().expect("polled again after it was ready");
                    if message.delivery().is_some_and(DeliveryInfo::is_lost) {
                        // Another owner gets the message, and may have more luck.
                        return Poll::Ready(Err(Nack::new(error).into()));
                    }
                    let outputs = Outputs::dead_lettered(&*error);
                    Step::Sending { sending: send(this.config.dead_letter.clone(), message, error), outputs }
                }
                StepProject::Sending { sending, outputs } => {
                    ready!(sending.as_mut().poll(cx))?;
                    return Poll::Ready(Ok(std::mem::take(outputs)));
                }
            };
            this.step.set(next);
        }
    }
}

fn send(
    dead_letter: DeadLetter,
    message: Message,
    error: BoxError,
) -> BoxFuture<'static, Result<(), DeadLetterError>> {
    let attempts = message.delivery().map_or(1, |delivery| delivery.attempt());
    tracing::error!(
        message_id = %message.id(),
        handler = message.handler().map(|handler| handler.name.as_str()),
        topic = dead_letter.topic(),
        error = %chain(&*error),
        "handling failed, dead-lettering the message"
    );
    Box::pin(async move { dead_letter.send(message, error, attempts).await })
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::{
        fixtures::{Outcomes, RecordingPublisher},
        middleware::Retry,
    };

    async fn run<H, F>(publisher: &RecordingPublisher, handle: H) -> Result<Outputs, BoxError>
    where
        H: FnMut(Message) -> F,
        F: Future<Output = Result<Outputs, BoxError>>,
    {
        let delivery = Outcomes::default().deliver(Message::with_id("1", "x"));
        let layer = PoisonQueue::new(publisher.clone(), "dead").unwrap();
        layer.layer(service_fn(handle)).oneshot(delivery.message().clone()).await
    }

    #[tokio::test]
    async fn a_handled_message_is_not_poisoned() {
        let publisher = RecordingPublisher::default();
        let outputs = run(&publisher, async |message| Ok(message.into())).await.unwrap();
        assert_eq!(outputs.len(), 1);
        assert!(publisher.calls().is_empty());
    }

    #[tokio::test]
    async fn a_failed_message_is_published_with_its_story_and_nothing_else_is() {
        // P5: in Go, what the handler returns beside its error is published. Here there is no beside.
        let publisher = RecordingPublisher::default();
        let outputs = run(&publisher, async |_| Err("boom".into())).await.unwrap();
        assert!(outputs.is_empty());
        let (topic, letter) = publisher.single();
        assert_eq!(topic, "dead");
        assert_eq!(letter.id(), "1");
        for (name, value) in [
            ("reason_poisoned", "boom"),
            ("topic_poisoned", "orders"),
            ("handler_poisoned", "bill"),
            ("subscriber_poisoned", "memory"),
            ("attempts_poisoned", "1"),
        ] {
            assert_eq!(letter.metadata().get(name), Some(value), "{name}");
        }
    }

    #[tokio::test]
    async fn a_panic_is_poisoned_without_any_other_layer() {
        // P6: in Go it is not, unless a Recoverer is inside.
        let publisher = RecordingPublisher::default();
        run(&publisher, async |_| panic!("boom")).await.unwrap();
        let (_, letter) = publisher.single();
        let reason = letter.metadata().get("reason_poisoned");
        assert_eq!(reason, Some("run the handler: it panicked: boom"));
    }

    #[tokio::test]
    async fn a_letter_that_cannot_be_published_fails_the_message_with_both_errors() {
        let publisher = RecordingPublisher::default();
        publisher.refuse(None);
        let error = run(&publisher, async |_| Err("boom".into())).await.unwrap_err();
        assert_eq!(Verdict::of(&*error), Verdict::Nack);
        let error = error.downcast::<DeadLetterError>().unwrap();
        assert_eq!(error.failure().to_string(), "boom");
        assert!(error.publish_error().is_retryable());
    }

    #[tokio::test]
    async fn the_verdict_decides_what_is_poisoned() {
        let publisher = RecordingPublisher::default();
        let classify = |error: &(dyn Error + 'static)| match &*error.to_string() {
            "bad" => Verdict::GiveUp,
            "fine" => Verdict::Ignore,
            _ => Verdict::Nack,
        };
        let layer = PoisonQueue::new(publisher.clone(), "dead").unwrap().classify(classify);
        let handler = service_fn(async |message: Message| match &**message.payload() {
            b"bad" => Err::<Outputs, BoxError>("bad".into()),
            b"fine" => Err("fine".into()),
            _ => Err("busy".into()),
        });
        let error = layer.layer(handler).oneshot(Message::new("x")).await.unwrap_err();
        assert_eq!(error.to_string(), "busy");
        assert!(Nack::is(&*error), "whatever stands outside gives it back too");
        assert!(layer.layer(handler).oneshot(Message::new("fine")).await.unwrap().is_empty());
        assert!(publisher.calls().is_empty());
        layer.layer(handler).oneshot(Message::new("bad")).await.unwrap();
        assert_eq!(publisher.single().0, "dead");
    }

    #[tokio::test]
    async fn a_lost_delivery_is_left_to_its_next_owner() {
        let publisher = RecordingPublisher::default();
        let (message, settlement) = Outcomes::default().deliver(Message::with_id("1", "x")).split();
        let handler = service_fn(async |message: Message| {
            let delivery = message.delivery().unwrap();
            delivery.origin().revoke(|| [delivery.token()]);
            Err::<Outputs, BoxError>("boom".into())
        });
        let layer = PoisonQueue::new(publisher.clone(), "dead").unwrap();
        let error = layer.layer(handler).oneshot(message).await.unwrap_err();
        assert!(Nack::is(&*error));
        assert!(publisher.calls().is_empty());
        settlement.nack();
    }

    #[tokio::test(start_paused = true)]
    async fn outside_of_retry_it_gets_the_error_of_the_last_try() {
        let publisher = RecordingPublisher::default();
        let tries = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let handler = service_fn(move |_: Message| {
            let n = 1 + tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            std::future::ready(Err::<Outputs, BoxError>(format!("try {n}").into()))
        });
        let layer = PoisonQueue::new(publisher.clone(), "dead").unwrap();
        layer.layer(Retry::new(2).layer(handler)).oneshot(Message::new("x")).await.unwrap();
        assert_eq!(publisher.single().1.metadata().get("reason_poisoned"), Some("try 3"));
    }

    #[test]
    fn the_empty_topic_is_refused() {
        assert!(PoisonQueue::new(RecordingPublisher::default(), "").is_err());
    }
}
