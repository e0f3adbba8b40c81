//! Testing handlers with paused time: retries, waits, a time limit and a delay, without a broker, and without waiting for any of it.
//!
//! ```sh
//! cargo test -p watermill-testkit --test testing_handlers
//! ```
//!
//! In a service the first part is the application and the second its module `tests`, and `[dev-dependencies]` has `watermill-testkit`
//! and tokio with its feature `test-util`. While time is paused, tokio's clock jumps to the next timer as soon as everybody
//! waits: half a minute of backoff is over at once, and still exactly half a minute.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use watermill_core::{
    Backoff, FailurePolicy, Handler, Json, Message, Publisher, Router, State, Subscriber,
    error::{BoxError, Permanent},
    middleware::Timeout,
};

const A_WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Whoever charges cards: in production somebody else's service.
#[async_trait]
trait Bank: Send + Sync {
    async fn charge(&self, cents: u64) -> Result<(), BoxError>;
}

/// Charges a card, and has the customer asked a week later how it was.
async fn charge(Json(cents): Json<u64>, State(bank): State<Arc<dyn Bank>>) -> Result<Message, BoxError> {
    bank.charge(cents).await?;
    Ok(Message::new("how was it?").delay_for(A_WEEK))
}

/// The whole of it, for any broker: what is tested is what runs.
fn charging(
    orders: impl Subscriber + 'static,
    publisher: impl Publisher + Clone + 'static,
    bank: Arc<dyn Bank>,
) -> Router<Arc<dyn Bank>> {
    let waits = Backoff::exponential(Duration::from_secs(1)).jitter(0.0);
    let charge = Handler::new("charge", charge)
        .from(orders, "orders")
        .to(publisher.clone(), "surveys")
        .layer(Timeout::new(Duration::from_secs(10))) // of each try
        .on_failure(FailurePolicy::retry(3).backoff(waits).then_dead_letter(publisher, "orders.dead"));
    Router::new().with_state(bank).add(charge)
}

mod tests {
    use std::{collections::VecDeque, sync::Mutex};

    use tokio::time::{Instant, sleep};
    use watermill_core::{delivery::Outcome, error::PublishErrorKind, metadata_keys};
    use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

    use super::*;

    /// What the bank does when it is asked the next time. In the end it charges.
    #[derive(Clone, Copy)]
    enum Answer {
        Away,
        Silence,
        Declined,
    }

    /// A bank that does as it is told, and knows when it was asked.
    struct ScriptedBank {
        opened: Instant,
        answers: Mutex<VecDeque<Answer>>,
        asked: Mutex<Vec<u64>>,
    }

    impl ScriptedBank {
        fn new(answers: impl Into<VecDeque<Answer>>) -> Arc<Self> {
            let answers = Mutex::new(answers.into());
            Arc::new(Self { opened: Instant::now(), answers, asked: Mutex::default() })
        }

        /// When it was asked, in seconds.
        fn asked(&self) -> Vec<u64> {
            self.asked.lock().unwrap().clone()
        }
    }

    #[async_trait]
    impl Bank for ScriptedBank {
        async fn charge(&self, _cents: u64) -> Result<(), BoxError> {
            self.asked.lock().unwrap().push(self.opened.elapsed().as_secs());
            let answer = self.answers.lock().unwrap().pop_front();
            match answer {
                None => Ok(()),
                Some(Answer::Away) => Err("the bank is away".into()),
                Some(Answer::Silence) => std::future::pending().await,
                Some(Answer::Declined) => Err(Permanent::new("the card is declined").into()),
            }
        }
    }

    /// The application between a script of orders and a record of what it publishes.
    struct Shop {
        orders: ScriptedSubscriber,
        published: RecordingPublisher,
        bank: Arc<ScriptedBank>,
    }

    impl Shop {
        fn new(answers: impl Into<VecDeque<Answer>>) -> Self {
            // One that keeps delays, as a queue does; otherwise it would refuse them, as most brokers do.
            let published = RecordingPublisher::new().delays(true);
            let orders = ScriptedSubscriber::new().redeliver(true);
            orders.push(Message::new("1200"));
            Self { orders, published, bank: ScriptedBank::new(answers) }
        }

        /// Runs it until every order is settled for good.
        async fn run(&self) {
            let router = charging(self.orders.clone(), self.published.clone(), self.bank.clone());
            router.run_until(self.orders.finished()).await.unwrap();
        }

        fn outcomes(&self) -> Vec<Outcome> {
            self.orders.outcomes().into_iter().map(|(_, outcome)| outcome).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_customer_is_asked_a_week_after_paying() {
        let shop = Shop::new([]);
        shop.run().await;
        let surveys = shop.published.published("surveys");
        assert_eq!(surveys[0].metadata().get(metadata_keys::DELAYED_FOR), Some("168h0m0s"));
        assert_eq!(shop.outcomes(), [Outcome::Ack]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bank_that_is_away_is_asked_again_with_growing_waits() {
        let shop = Shop::new([Answer::Away; 3]);
        shop.run().await;
        assert_eq!(shop.bank.asked(), [0, 1, 3, 7]);
        assert_eq!(shop.published.published("surveys").len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bank_that_says_nothing_has_ten_seconds_a_try() {
        let shop = Shop::new([Answer::Silence; 2]);
        shop.run().await;
        assert_eq!(shop.bank.asked(), [0, 11, 23]);
        assert_eq!(shop.outcomes(), [Outcome::Ack]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_four_times_is_a_dead_letter_and_is_not_in_the_way_of_others() {
        let shop = Shop::new([Answer::Away; 4]);
        shop.orders.push(Message::new("300"));
        shop.run().await;
        assert_eq!(shop.bank.asked(), [0, 1, 3, 7, 7]);
        assert_eq!(shop.published.published("orders.dead")[0].payload(), "1200");
        assert_eq!(shop.published.published("surveys").len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_card_that_is_declined_is_not_tried_again() {
        let shop = Shop::new([Answer::Declined]);
        shop.run().await;
        assert_eq!(shop.bank.asked(), [0]);
        let dead = shop.published.published("orders.dead");
        assert_eq!(dead[0].metadata().get(metadata_keys::REASON_POISONED), Some("the card is declined"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_is_charged_again_when_its_survey_cannot_be_published() {
        let shop = Shop::new([]);
        shop.published.fail_next(1, PublishErrorKind::Unavailable);
        shop.run().await;
        // At least once, then: a bank has to know an order that it has charged already.
        assert_eq!(shop.bank.asked(), [0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_does_not_wait_for_a_retry_and_gives_the_order_back() {
        let shop = Shop::new([Answer::Away; 9]);
        let router = charging(shop.orders.clone(), shop.published.clone(), shop.bank.clone());
        router.run_until(sleep(Duration::from_secs(5))).await.unwrap();
        assert_eq!(shop.bank.asked(), [0, 1, 3]);
        assert!(matches!(shop.outcomes()[..], [Outcome::Nack { .. }]));
    }
}
