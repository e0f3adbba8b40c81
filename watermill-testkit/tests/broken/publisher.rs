use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use watermill_core::{
    Message, MessageId, Metadata, Publisher,
    error::{PublishError, PublishErrorKind},
    memory::MemoryPublisher,
    publisher::PublisherCapabilities,
};

use super::{Fault, PAYLOAD_MAX};

pub(super) struct BrokenPublisher {
    inner: Arc<MemoryPublisher>,
    fault: Fault,
    published: AtomicUsize,
    seen: Mutex<HashSet<MessageId>>,
}

impl BrokenPublisher {
    pub(super) fn new(inner: MemoryPublisher, fault: Fault) -> Self {
        Self { inner: Arc::new(inner), fault, published: AtomicUsize::new(0), seen: Mutex::default() }
    }

    fn change(&self, mut messages: Vec<Message>) -> Vec<Message> {
        let every_tenth = |_: &Message| self.published.fetch_add(1, Ordering::Relaxed) % 10 == 9;
        match self.fault {
            Fault::DropsMessages => messages.retain(|message| !every_tenth(message)),
            Fault::DuplicatesMessages => {
                let twice = |message| {
                    if every_tenth(&message) { vec![message.clone(), message] } else { vec![message] }
                };
                messages = messages.into_iter().flat_map(twice).collect();
            }
            Fault::SwapsMessages if messages.len() > 1 => {
                // Two of one key, or the order per key would be kept by chance.
                let other = messages.iter().skip(1).position(|m| m.key() == messages[0].key());
                messages.swap(0, other.map_or(1, |at| at + 1));
            }
            Fault::DropsEmptyMetadata => {
                change_metadata(&mut messages, |(name, value)| (!value.is_empty()).then_some((name, value)));
            }
            Fault::FoldsMetadataNames => {
                change_metadata(&mut messages, |(name, value)| Some((name.to_lowercase(), value)));
            }
            Fault::CutsLongMetadata => {
                change_metadata(&mut messages, |(name, value)| {
                    Some((name, value.chars().take(255).collect()))
                });
            }
            Fault::TakesEmptyKeysForNone => {
                for message in messages.iter_mut().filter(|m| m.key().is_some_and(|key| key.is_empty())) {
                    message.set_key(None);
                }
            }
            Fault::ReplacesBytesOfKeys => {
                for message in &mut messages {
                    let text = message.key().map(|key| String::from_utf8_lossy(key).into_owned());
                    message.set_key(text.map(Into::into));
                }
            }
            Fault::HidesSameIds => {
                let mut seen = self.seen.lock().unwrap();
                messages.retain(|message| seen.insert(message.id().clone()));
            }
            _ => {}
        }
        messages
    }
}

fn change_metadata(
    messages: &mut [Message],
    change: impl Fn((String, String)) -> Option<(String, String)> + Copy,
) {
    for message in messages {
        let metadata: Metadata =
            std::mem::take(message.metadata_mut()).into_iter().filter_map(change).collect();
        *message.metadata_mut() = metadata;
    }
}

#[async_trait]
impl Publisher for BrokenPublisher {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let mut messages = self.change(messages);
        if messages.iter().any(Message::asks_for_delay) {
            match self.fault {
                Fault::IgnoresDelays | Fault::ClaimsDelays => {
                    messages = messages.into_iter().map(Message::without_context).collect();
                }
                _ => return Err(PublishError::new(PublishErrorKind::Unsupported, topic)),
            }
        }
        let too_large = |message: &Message| message.payload().len() > PAYLOAD_MAX;
        if self.fault != Fault::IgnoresLimits && messages.iter().any(too_large) {
            let error = PublishError::new(PublishErrorKind::Message, topic);
            if self.fault != Fault::SkipsWhatIsRefused {
                return Err(error);
            }
            let refused = messages.iter().enumerate().filter(|(_, message)| too_large(message));
            let refused = refused.map(|(at, _)| at).collect();
            messages.retain(|message| !too_large(message));
            self.inner.publish(topic, messages).await?;
            return Err(error.with_not_accepted(refused));
        }
        match self.fault {
            Fault::AcceptsEmptyTopics if topic.is_empty() => return Ok(()),
            Fault::SplitsCalls => {
                for message in messages {
                    self.inner.publish(topic, vec![message]).await?;
                    tokio::task::yield_now().await;
                }
                return Ok(());
            }
            Fault::NeverWaits => {
                let (inner, topic) = (self.inner.clone(), topic.to_owned());
                tokio::spawn(async move { inner.publish(&topic, messages).await });
                return Ok(());
            }
            // Every other call waits a little before it is begun.
            Fault::OvertakesItself if self.published.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) => {
                tokio::task::yield_now().await;
            }
            _ => {}
        }
        let result = self.inner.publish(topic, messages).await;
        if self.fault == Fault::PublishesAfterClose { Ok(()) } else { result }
    }

    async fn close(&self) -> Result<(), PublishError> {
        self.inner.close().await
    }

    fn capabilities(&self) -> PublisherCapabilities {
        let capabilities = self.inner.capabilities();
        capabilities.delays(self.fault == Fault::ClaimsDelays)
    }
}
