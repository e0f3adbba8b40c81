//! What unit tests of this crate share: a publisher and an origin that remember.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use crate::{
    Delivery, DeliveryInfo, HandlerInfo, Message, Publisher,
    delivery::{Origin, Outcome, Receipt, Settle, Token},
    error::{PublishError, PublishErrorKind},
    publisher::PublisherCapabilities,
};

/// Remembers what was published, and refuses calls when told to.
#[derive(Clone, Default)]
pub(crate) struct RecordingPublisher(Arc<Mutex<Recorded>>);

#[derive(Default)]
struct Recorded {
    calls: Vec<(String, Vec<Message>)>,
    refusals: Vec<Option<Vec<usize>>>,
}

impl RecordingPublisher {
    /// Refuses the next call: the messages at these positions, or all of them.
    pub(crate) fn refuse(&self, not_accepted: Option<Vec<usize>>) {
        self.0.lock().unwrap().refusals.insert(0, not_accepted);
    }

    /// The calls that were made, refused ones included.
    pub(crate) fn calls(&self) -> Vec<(String, Vec<Message>)> {
        self.0.lock().unwrap().calls.clone()
    }

    /// The only message of the only call.
    pub(crate) fn single(&self) -> (String, Message) {
        let calls = self.calls();
        let [(topic, messages)] = &*calls else { panic!("{} calls", calls.len()) };
        let [message] = &**messages else { panic!("{} messages", messages.len()) };
        (topic.clone(), message.clone())
    }
}

#[async_trait]
impl Publisher for RecordingPublisher {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let mut recorded = self.0.lock().unwrap();
        recorded.calls.push((topic.to_owned(), messages));
        match recorded.refusals.pop() {
            None => Ok(()),
            Some(not_accepted) => {
                let error = PublishError::new(PublishErrorKind::Unavailable, topic);
                Err(match not_accepted {
                    Some(positions) => error.with_not_accepted(positions),
                    None => error,
                })
            }
        }
    }

    async fn close(&self) -> Result<(), PublishError> {
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new("recording").keeps_order(true).atomic(true)
    }
}

/// The outcomes that an origin was told.
#[derive(Clone, Default)]
pub(crate) struct Outcomes(Arc<Mutex<Vec<Outcome>>>);

impl Outcomes {
    pub(crate) fn all(&self) -> Vec<Outcome> {
        self.0.lock().unwrap().clone()
    }

    /// Delivers a message to the handler `bill`, from partition 3 and offset 42 of `orders`.
    pub(crate) fn deliver(&self, message: Message) -> Delivery {
        let origin = Origin::builder("memory", "orders").build(self.clone());
        let info = DeliveryInfo::new(origin, Token { scope: 3, position: 42, delivery: 1 })
            .with_partition(3)
            .with_offset(42);
        let handler = Arc::new(HandlerInfo::consumer("bill", "memory", "orders"));
        Delivery::new(message, info).map(|message| message.with_handler(handler))
    }
}

impl Settle for Outcomes {
    fn settle(&self, _token: Token, outcome: Outcome, receipt: Option<Receipt>) {
        self.0.lock().unwrap().push(outcome);
        if let Some(receipt) = receipt {
            receipt.complete(Ok(()));
        }
    }

    fn handled(&self, _token: Token) {}
}
