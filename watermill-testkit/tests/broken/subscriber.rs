use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, OnceLock},
    task::{Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use futures::{Stream, StreamExt, stream};
use watermill_core::{
    Delivery, DeliveryInfo, Settlement, Subscriber, Subscription, Window,
    delivery::{Origin, Outcome, Receipt, Settle, Token},
    error::SubscribeError,
    memory::MemorySubscriber,
    subscriber::SubscriberCapabilities,
    subscription::SubscriptionStatus,
};

use super::{Fault, control::CrossedControl};

pub(super) struct BrokenSubscriber {
    inner: MemorySubscriber,
    fault: Fault,
    group: String,
}

type Item = Result<Delivery, SubscribeError>;
type Settlements = Arc<Mutex<HashMap<Token, Settlement>>>;

impl BrokenSubscriber {
    pub(super) fn new(inner: MemorySubscriber, fault: Fault) -> Self {
        Self { inner, fault, group: String::new() }
    }
}

#[async_trait]
impl Subscriber for BrokenSubscriber {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        let subscription = match self.fault {
            // A new group for every subscription.
            Fault::StartsFromNow => {
                self.inner.group(&watermill_testkit::unique("group")).subscribe(topic).await?
            }
            Fault::SubscribesAfterClose => self.inner.group(&self.group).subscribe(topic).await?,
            _ => self.inner.subscribe(topic).await?,
        };
        let fault = self.fault;
        if fault == Fault::IgnoresTheWindow {
            subscription.set_window(Window::ordered(NonZeroUsize::new(10).unwrap()));
        }
        if fault == Fault::SendsNackedToTheEnd {
            subscription.set_window(Window::unordered(NonZeroUsize::MIN));
        }
        let origin = Arc::<OnceLock<Origin>>::default();
        let (deliveries, inner) = subscription.into_parts();
        let control = CrossedControl { fault, inner: Some(inner), origin: origin.clone() };
        let deliveries: Box<dyn Stream<Item = Item> + Send + Unpin> = match fault {
            Fault::EndsInSilence => Box::new(deliveries.take(5)),
            Fault::LosesWhatNextWasDropped => Box::new(Box::pin(forgetful(deliveries))),
            Fault::AcksWhatIsNacked
            | Fault::AcksLazily
            | Fault::NacksWhatIsRejected
            | Fault::IgnoresNackDelays
            | Fault::SendsNackedToTheEnd
            | Fault::ForgetsToCancel
            | Fault::ConfirmsAcksOnly
            | Fault::ReusesTokens
            | Fault::ConfirmsLateAcks
            | Fault::IgnoresWhatIsHandled => {
                let mut wires = Wires { fault, settlements: Arc::default(), origin };
                Box::new(deliveries.map(move |next| next.map(|delivery| wires.cross(delivery))))
            }
            _ => Box::new(deliveries),
        };
        Ok(Subscription::new(deliveries, control))
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.inner.initialize(topic).await
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        let group = if self.fault == Fault::MixesGroups { "all" } else { group };
        Ok(Arc::new(Self { inner: self.inner.group(group), fault: self.fault, group: group.to_owned() }))
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.inner.close().await
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.inner.status()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        self.inner.capabilities().dead_letters(self.fault == Fault::ClaimsDeadLetters)
    }
}

/// Every tenth delivery is acked and kept for the next poll: whoever drops `next` then has lost it.
fn forgetful(mut deliveries: impl Stream<Item = Item> + Send + Unpin + 'static) -> impl Stream<Item = Item> {
    let mut handed_out = 0;
    stream::poll_fn(move |cx| {
        let next = ready!(deliveries.poll_next_unpin(cx));
        handed_out += 1;
        if handed_out % 10 == 0
            && let Some(Ok(delivery)) = next
        {
            delivery.ack();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(next)
    })
}

/// Stands between the deliveries and their backend, and passes on something else than was said.
struct Wires {
    fault: Fault,
    settlements: Settlements,
    origin: Arc<OnceLock<Origin>>,
}

struct CrossedSettle {
    fault: Fault,
    settlements: Settlements,
    late: Mutex<Option<Settlement>>,
}

impl Wires {
    fn cross(&mut self, delivery: Delivery) -> Delivery {
        let origin = self.origin.get_or_init(|| {
            let inner = delivery.info().origin();
            let settlements = self.settlements.clone();
            let settle = CrossedSettle { fault: self.fault, settlements, late: Mutex::default() };
            Origin::builder(inner.backend(), inner.topic()).group(inner.group()).build(settle)
        });
        let mut token = delivery.info().token();
        if self.fault == Fault::ReusesTokens {
            token.delivery = 1;
        }
        let info = DeliveryInfo::new(origin.clone(), token).with_attempt(delivery.info().attempt());
        let (message, settlement) = delivery.split();
        self.settlements.lock().unwrap().insert(token, settlement);
        Delivery::new(message, info)
    }
}

impl Settle for CrossedSettle {
    fn settle(&self, token: Token, outcome: Outcome, receipt: Option<Receipt>) {
        let settlement = self.settlements.lock().unwrap().remove(&token);
        let Some(settlement) = settlement else { return };
        let acks = outcome == Outcome::Ack;
        match (self.fault, outcome) {
            (Fault::AcksWhatIsNacked, _) => settlement.ack(),
            (Fault::AcksLazily, Outcome::Ack) => {
                let before = self.late.lock().unwrap().replace(settlement);
                if let Some(before) = before {
                    before.ack();
                }
            }
            (Fault::NacksWhatIsRejected, Outcome::Reject { .. }) => settlement.nack(),
            (Fault::IgnoresNackDelays, Outcome::Nack { .. }) => settlement.nack(),
            // So late that all the others go first.
            (Fault::SendsNackedToTheEnd, Outcome::Nack { .. }) => {
                settlement.nack_after(Duration::from_secs(1));
            }
            (_, Outcome::Nack { delay }) => settlement.nack_after(delay),
            (_, Outcome::Reject { reason }) => settlement.reject(reason),
            (_, _) => settlement.ack(),
        }
        if let Some(receipt) = receipt.filter(|_| self.fault != Fault::ConfirmsAcksOnly || acks) {
            receipt.complete(Ok(()));
        }
    }

    fn handled(&self, token: Token) {
        if self.fault == Fault::IgnoresWhatIsHandled {
            return;
        }
        if let Some(settlement) = self.settlements.lock().unwrap().get(&token) {
            settlement.handled();
        }
    }
}
