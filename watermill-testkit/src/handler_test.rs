//! [`HandlerTest`]: runs a handler on messages, and says what became of each.

use std::{error::Error, fmt};

use watermill_core::{Message, MessageId, Router, delivery::Outcome};

use crate::{RecordingPublisher, ScriptedDelivery, ScriptedSubscriber};

/// Runs a handler on messages, one after another, and returns of each what it was settled with and what was
/// published for it.
///
/// The handler is that of the application, with its layers, its failure policy and its state: it consumes
/// from [`subscriber`](Self::subscriber), and publishes to [`publisher`](Self::publisher), dead letters too.
/// It needs no broker. With tokio's time paused nobody waits for a backoff or a timeout.
///
/// ```
/// use std::time::Duration;
/// use watermill_core::{FailurePolicy, Handler, Json, Message, Router, State, delivery::Outcome};
/// use watermill_testkit::HandlerTest;
///
/// async fn bill(Json(cents): Json<u64>, State(percent): State<u64>) -> Result<Json<u64>, &'static str> {
///     if cents == 0 { Err("nothing to pay") } else { Ok(Json(cents + cents * percent / 100)) }
/// }
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
/// # runtime.unwrap().block_on(async {
/// // In a function with `#[tokio::test(start_paused = true)]`:
/// let test = HandlerTest::new();
/// let handler = Handler::new("bill", bill)
///     .from(test.subscriber(), "orders.placed")
///     .to(test.publisher(), "invoices.due")
///     .on_failure(FailurePolicy::retry(5).then_dead_letter(test.publisher(), "billing.dead"));
/// let router = Router::new().with_state(19_u64).add(handler);
///
/// let handled = test.run(router, [Message::new("100"), Message::new("0")]).await;
/// assert_eq!(handled[0].outcome, Outcome::Ack);
/// assert_eq!(handled[0].published_to("invoices.due")[0].payload(), "119");
/// assert!(handled[1].published_to("invoices.due").is_empty());
/// assert_eq!(handled[1].published_to("billing.dead").len(), 1);
/// # });
/// ```
#[derive(Clone, Debug, Default)]
pub struct HandlerTest {
    subscriber: ScriptedSubscriber,
    publisher: RecordingPublisher,
}

/// What became of one message.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Handled {
    /// Its id.
    pub id: MessageId,
    /// What it was settled with in the end, after all tries in place.
    pub outcome: Outcome,
    /// What was published for it, each with its topic.
    pub published: Vec<(String, Message)>,
}

impl HandlerTest {
    /// A subscriber with nothing to deliver yet, and a publisher that accepts everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the handler consumes from, for any topic.
    pub fn subscriber(&self) -> ScriptedSubscriber {
        self.subscriber.clone()
    }

    /// What the handler, and its policy for dead letters, publish to. It fails when it
    /// [is told to](RecordingPublisher::fail_next).
    pub fn publisher(&self) -> RecordingPublisher {
        self.publisher.clone()
    }

    /// Runs a router with the handler until every message is settled, and then stops it. Each message is
    /// delivered when the one before is settled; one that is nacked does not come again. Give it
    /// [`ScriptedDelivery`]s to state an attempt, a partition or an age.
    ///
    /// # Panics
    ///
    /// When the router does not start or does not end well, and when a message is not settled within the
    /// [`patience`](crate::patience), which the real clock counts.
    pub async fn run<S, L, D: Into<ScriptedDelivery>>(
        &self,
        router: Router<S, L>,
        messages: impl IntoIterator<Item = D>,
    ) -> Vec<Handled> {
        let mut handled = Vec::new();
        let deliveries: Vec<ScriptedDelivery> = messages.into_iter().map(Into::into).collect();
        let expected = deliveries.len();
        let ended = router
            .run_until(async {
                for delivery in deliveries {
                    handled.push(self.handle(delivery).await);
                }
            })
            .await;
        if let Err(error) = ended {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            panic!("the router did not end well, after {} of {expected} messages: {text}", handled.len());
        }
        assert_eq!(handled.len(), expected, "the router was stopped before every message was settled");
        handled
    }

    async fn handle(&self, delivery: ScriptedDelivery) -> Handled {
        let settled = self.subscriber.outcomes().len();
        let published = self.publisher.all_published().len();
        self.subscriber.push(delivery);
        let (id, outcome) = self.subscriber.settled(settled + 1).await.swap_remove(settled);
        Handled { id, outcome, published: self.publisher.all_published().split_off(published) }
    }
}

impl Handled {
    /// The messages published to `topic`, in order.
    pub fn published_to(&self, topic: &str) -> Vec<&Message> {
        self.published.iter().filter(|(to, _)| to == topic).map(|(_, message)| message).collect()
    }

    /// Whether it was acked: the handler, or its policy, has done with it.
    pub fn is_acked(&self) -> bool {
        self.outcome == Outcome::Ack
    }
}

impl fmt::Display for Handled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}, {} published", self.id, self.outcome, self.published.len())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;
    use watermill_core::{
        FailurePolicy, Handler, Json, State, error::PublishErrorKind, middleware::Timeout, router::To,
    };

    use super::*;
    use crate::with_patience;

    async fn double(Json(n): Json<u32>, State(limit): State<u32>) -> Result<Json<u32>, String> {
        if n > limit { Err(format!("{n} is too many")) } else { Ok(Json(n * 2)) }
    }

    fn numbers(numbers: &[u32]) -> Vec<Message> {
        numbers.iter().map(|n| Message::with_id(n.to_string(), n.to_string())).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_message_has_its_outcome_and_what_was_published_for_it() {
        let test = HandlerTest::new();
        let policy = FailurePolicy::retry(3).then_dead_letter(test.publisher(), "dead");
        let handler = Handler::new("double", double)
            .from(test.subscriber(), "numbers")
            .to(test.publisher(), "doubled")
            .on_failure(policy);
        let router = Router::new().with_state(5_u32).add(handler);
        let handled = test.run(router, numbers(&[1, 9, 2])).await;
        let topics: Vec<_> = handled.iter().map(|handled| handled.published[0].0.as_str()).collect();
        assert_eq!(topics, ["doubled", "dead", "doubled"]);
        assert!(handled.iter().all(Handled::is_acked));
        assert_eq!(handled[2].published_to("doubled")[0].payload(), "4");
        assert_eq!(handled[1].to_string(), "9: Ack, 1 published");
    }

    #[tokio::test(start_paused = true)]
    async fn layers_retries_and_failing_publishers_are_part_of_it() {
        async fn slow(message: Message) -> To<String, Message> {
            if message.id().as_str() == "slow" {
                tokio::time::sleep(Duration::from_secs(3600)).await;
            }
            To(format!("of-{}", message.id()), message)
        }
        let test = HandlerTest::new();
        test.publisher().fail_next(1, PublishErrorKind::Unavailable);
        let handler = Handler::new("slow", slow)
            .from(test.subscriber(), "in")
            .to_topics(test.publisher())
            .layer(Timeout::new(Duration::from_secs(60)))
            .on_failure(FailurePolicy::retry(2));
        let messages = ["once more", "slow"].map(|id| Message::with_id(id, ""));
        let handled = test.run(Router::new().add(handler), messages).await;
        assert!(handled[0].is_acked());
        assert_eq!(handled[0].published_to("of-once more").len(), 1);
        assert!(matches!(handled[1].outcome, Outcome::Nack { .. }), "{}", handled[1]);
        assert_eq!(handled[1].published, []);
    }

    #[tokio::test]
    async fn a_router_that_cannot_start_says_why() {
        let test = HandlerTest::new();
        let handler = Handler::new("double", double).from(test.subscriber(), "").to(test.publisher(), "out");
        let router = Router::new().with_state(5_u32).add(handler);
        let run = std::panic::AssertUnwindSafe(test.run(router, numbers(&[1])));
        let text = run.catch_unwind().await.unwrap_err().downcast::<String>().unwrap();
        assert!(text.contains("after 0 of 1 messages") && text.contains("has no name"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_hangs_is_a_failure_with_words_though_time_is_paused() {
        async fn hang() {
            std::future::pending().await
        }
        let test = HandlerTest::new();
        let router = Router::new().add(Handler::new("hang", hang).from(test.subscriber(), "in"));
        let run = with_patience(Duration::from_millis(50), test.run(router, numbers(&[1])));
        let text = std::panic::AssertUnwindSafe(run).catch_unwind().await.unwrap_err();
        let text = text.downcast::<String>().unwrap();
        assert!(text.contains("1 settled deliveries, but saw 1 handed out"), "{text}");
    }
}
