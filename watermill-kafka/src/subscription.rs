//! [`KafkaSource`]: what the kit makes a subscription of.

use std::{
    sync::Arc,
    task::Waker,
    time::{Duration, UNIX_EPOCH},
};

use async_trait::async_trait;
use tokio::{sync::oneshot, time::timeout};
use watermill_core::{
    Window,
    backend::{self, DeliveryMaker, Failure, Next, Source, Trouble},
    delivery::{Outcome, Receipt, Token},
    error::SubscribeError,
    subscription::{Health, SubscriptionStatus},
};

use crate::{
    PartitionLag,
    assigned::scope,
    client::{Client, Command},
    ledger::Handed,
    settle::{Item, Shared},
};

/// A subscription: its state, and the client that reads for it.
pub(crate) struct KafkaSource {
    pub(crate) client: Arc<Client>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) group: Option<String>,
    /// How long closing may take: the client may be caught in a request that takes longer.
    pub(crate) close_timeout: Duration,
}

impl KafkaSource {
    /// How far each partition is behind that was measured.
    pub(crate) fn lag(&self) -> Vec<PartitionLag> {
        let topic = &self.shared.topic;
        let lag = |(partition, watermark)| {
            let messages = self.client.context.measured(topic, partition)?.lag(watermark)?;
            Some(PartitionLag { topic: topic.clone(), partition, messages })
        };
        self.shared.watermarks().into_iter().filter_map(lag).collect()
    }

    /// Has the client leave the topic, unless it was told before. What is acked from now on does not count.
    fn leave(&self) -> oneshot::Receiver<Result<(), Failure>> {
        let (done, left) = oneshot::channel();
        self.shared.stop_intake();
        if self.shared.end() {
            self.client.command(Command::Leave(self.shared.clone(), done));
        }
        left
    }

    fn health(&self) -> Health {
        match (self.shared.health(), self.client.context.silence.too_long()) {
            (Health::Healthy, Some(silent)) => {
                let reason = format!("the brokers have not answered for {:.1} s", silent.as_secs_f64());
                Health::Degraded { reason }
            }
            (health, _) => health,
        }
    }
}

#[async_trait]
impl Source for KafkaSource {
    #[inline]
    fn next(&self, deliveries: &mut DeliveryMaker, waker: &Waker) -> Next {
        loop {
            return match self.shared.next(waker) {
                Item::Handed(scope, handed) => Next::Delivery(deliveries.make(hand_out(scope, handed))),
                Item::Error(error) => Next::Error(error),
                Item::Back(partition) => {
                    self.client.group.begin_anew(&self.shared, deliveries.origin(), partition);
                    continue;
                }
                Item::Ended => Next::Ended,
                Item::Nothing(due) => Next::Sleep(due),
            };
        }
    }

    #[inline]
    fn settle(&self, token: Token, outcome: Outcome, receipt: Option<Receipt>) {
        self.shared.settle(token, outcome, receipt);
    }

    #[inline]
    fn handled(&self, token: Token) {
        self.shared.handled(token);
    }

    fn set_window(&self, window: Window) {
        self.shared.set_window(window);
    }

    fn stop_intake(&self) {
        self.shared.stop_intake();
    }

    fn end(&self) {
        drop(self.leave());
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        let left = async {
            match self.leave().await {
                Ok(committed) => committed,
                // Somebody else has ended it; it is over when the client has let go.
                Err(_) => {
                    self.shared.left.cancelled().await;
                    Ok(())
                }
            }
        };
        let committed = match timeout(self.close_timeout, left).await {
            Ok(committed) => committed.map_err(|failure| {
                failure.explained("what was settled last is not recorded and comes again")
            }),
            Err(_) => Err(Failure::because(
                Trouble::Unavailable,
                "Kafka has not answered in time; what was settled last may not be recorded, and comes again then",
            )),
        };
        committed.map_err(|failure| failure.subscribing(&self.shared.topic))
    }

    fn has_ended(&self) -> bool {
        self.shared.left.is_cancelled()
    }

    fn status(&self) -> SubscriptionStatus {
        let lag = self.lag();
        SubscriptionStatus::new(&*self.shared.topic, self.health())
            .group(self.group.as_deref())
            .outstanding(self.shared.outstanding())
            .lag((!lag.is_empty()).then(|| lag.iter().map(|lag| lag.messages).sum()))
    }
}

#[inline]
fn hand_out(scope: u64, handed: Handed) -> backend::Handed {
    let Handed { offset, attempt, delivery, timestamp, message } = handed;
    let published_at = timestamp.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
    let token = Token { scope, position: offset.cast_unsigned(), delivery };
    backend::Handed::new(token, message)
        .attempt(attempt)
        .partition(Some(scope::partition(scope)))
        .published_at(published_at.map(|since| UNIX_EPOCH + since))
        .offset(Some(offset))
}
