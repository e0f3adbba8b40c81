//! [`Bus`]: sends commands, or publishes events.

use std::{borrow::Cow, fmt, marker::PhantomData, sync::Arc};

use super::{
    BusError, Commands, Encode, Events, JsonCodec, Kind, Marshaler, Named, Topics, codec::Codec,
    typed::TypedBus,
};
use crate::{Message, Publisher, error::BoxError, message::vector, router::To};

/// Sends commands, each to the one who handles it. See [`Bus`].
pub type CommandBus<C = JsonCodec, P = Arc<dyn Publisher>> = Bus<Commands, C, P>;

/// Publishes events, for whoever wants to know. See [`Bus`].
pub type EventBus<C = JsonCodec, P = Arc<dyn Publisher>> = Bus<Events, C, P>;

/// Sends commands ([`CommandBus`]), or publishes events ([`EventBus`]): values become messages by the bus's
/// [`Marshaler`], and go to the topic that its [`Topics`] have for their name.
///
/// ```
/// # use watermill_core::{MemoryBroker, cqrs::Named, error::BoxError};
/// use watermill_core::cqrs::{CommandBus, Topics};
///
/// # #[derive(serde::Serialize)]
/// # struct BookRoom { room: u32 }
/// # impl Named for BookRoom { const NAME: &'static str = "BookRoom"; }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # let broker = MemoryBroker::new();
/// let commands = CommandBus::new(broker.publisher(), Topics::prefixed("commands."));
/// commands.send(&BookRoom { room: 7 }).await?; // to the topic `commands.BookRoom`
/// # Ok(())
/// # }
/// ```
///
/// Clones are cheap, and are the same bus: put one into the router's state. The publisher stays yours to close.
///
/// # In a transaction
///
/// [`through`](Self::through) sends by way of another publisher, one that writes into your transaction for instance.
///
/// A handler need not publish at all: it returns what [`message`](Self::message) makes, and the router publishes it. Within
/// the transaction of the atomic step it returns what [`TypedBus::message`] makes, and the step's layer publishes it.
pub struct Bus<K, C = JsonCodec, P = Arc<dyn Publisher>> {
    pub(super) shared: Arc<Shared<C>>,
    pub(super) publisher: P,
    pub(super) kind: PhantomData<fn() -> K>,
}

#[derive(Clone)]
pub(super) struct Shared<C> {
    pub(super) marshaler: Marshaler<C>,
    topics: Topics,
    hooks: Vec<Arc<Hook>>,
}

type Hook = dyn Fn(&mut Sending<'_>) -> Result<(), BoxError> + Send + Sync;

/// What is about to be sent: what a [hook](Bus::on_send) sees, and may change.
#[derive(Debug)]
#[non_exhaustive]
pub struct Sending<'s> {
    /// What it is called.
    pub name: &'s str,
    /// Where it goes.
    pub topic: &'s str,
    /// The message.
    pub message: &'s mut Message,
}

impl<K: Kind> Bus<K> {
    /// A bus that writes JSON.
    pub fn new(publisher: impl Publisher + 'static, topics: Topics) -> Self {
        let shared = Shared { marshaler: Marshaler::json(), topics, hooks: Vec::new() };
        Self { shared: Arc::new(shared), publisher: Arc::new(publisher), kind: PhantomData }
    }
}

impl<K: Kind, C: Codec, P: Publisher> Bus<K, C, P> {
    /// Writes messages with this marshaler.
    #[must_use]
    pub fn with_marshaler<D: Codec>(self, marshaler: Marshaler<D>) -> Bus<K, D, P> {
        let shared = Arc::unwrap_or_clone(self.shared);
        let shared = Shared { marshaler, topics: shared.topics, hooks: shared.hooks };
        Bus { shared: Arc::new(shared), publisher: self.publisher, kind: PhantomData }
    }

    /// Calls a function for each message before it is published: to add metadata or to set a key, or to refuse it. Hooks
    /// are called in the order in which they were added.
    #[must_use]
    pub fn on_send(
        mut self,
        hook: impl Fn(&mut Sending<'_>) -> Result<(), BoxError> + Send + Sync + 'static,
    ) -> Self {
        Arc::make_mut(&mut self.shared).hooks.push(Arc::new(hook));
        self
    }

    /// The same bus by way of another publisher: one that writes into a transaction, or envelopes for a forwarder.
    pub fn through<Q: Publisher>(&self, publisher: Q) -> Bus<K, C, Q> {
        Bus { shared: self.shared.clone(), publisher, kind: PhantomData }
    }

    /// The part of the bus that sends values of one type, with its name and its topic looked up. Made at the start, it
    /// finds out there what would fail later.
    ///
    /// # Errors
    ///
    /// [`BusErrorKind::NoTopic`](super::BusErrorKind::NoTopic), if there is no topic for the type.
    pub fn typed<T: Named>(&self) -> Result<TypedBus<T, K, C, P>, BusError>
    where
        C: Encode<T>,
        P: Clone,
    {
        let name = self.shared.name_of::<T>();
        let topic = self.shared.topic_of(&name)?.into_owned();
        Ok(TypedBus::new(name.as_ref().to_owned(), topic, self.clone()))
    }

    /// The message of a value with the topic it belongs to, not published: what a handler returns, to have it published by
    /// its router once it has succeeded.
    ///
    /// # Errors
    ///
    /// As of sending, but for the publisher's.
    pub fn message<T: Named>(&self, value: &T) -> Result<To<String, Message>, BusError>
    where
        C: Encode<T>,
    {
        let name = self.shared.name_of::<T>();
        let topic = self.shared.topic_of(&name)?;
        let message = self.shared.make(&name, &topic, value, &[])?;
        Ok(To(topic.into_owned(), message))
    }

    /// The publisher.
    pub fn publisher(&self) -> &P {
        &self.publisher
    }

    pub(crate) async fn deliver<T: Named>(
        &self,
        value: &T,
        entries: &[(&str, &str)],
        change: impl FnOnce(&mut Message),
    ) -> Result<(), BusError>
    where
        C: Encode<T>,
    {
        let name = self.shared.name_of::<T>();
        let topic = self.shared.topic_of(&name)?;
        let mut message = self.shared.make(&name, &topic, value, entries)?;
        change(&mut message);
        let published = self.publisher.publish(&topic, vector::of(message)).await;
        published.map_err(|error| BusError::publish(&name, error))
    }

    async fn deliver_all<'v, T: Named>(&self, values: impl IntoIterator<Item = &'v T>) -> Result<(), BusError>
    where
        C: Encode<T>,
    {
        let name = self.shared.name_of::<T>();
        let topic = self.shared.topic_of(&name)?;
        let messages = values.into_iter().map(|value| self.shared.make(&name, &topic, value, &[]));
        let messages = messages.collect::<Result<Vec<_>, _>>()?;
        self.publisher.publish(&topic, messages).await.map_err(|error| BusError::publish(&name, error))
    }
}

impl<C: Codec, P: Publisher> Bus<Commands, C, P> {
    /// Sends a command.
    ///
    /// # Errors
    ///
    /// [`BusError`] says what kept it from being sent; nothing was sent unless its kind is
    /// [`Publish`](super::BusErrorKind::Publish).
    ///
    /// # Cancel safety
    ///
    /// A dropped future may have sent it, as that of [`Publisher::publish`].
    pub async fn send<T: Named>(&self, command: &T) -> Result<(), BusError>
    where
        C: Encode<T>,
    {
        self.deliver(command, &[], |_| ()).await
    }

    /// Sends a command whose message is changed before: to delay it, say, or to set a key. The hooks have run then.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn send_with<T: Named>(
        &self,
        command: &T,
        change: impl FnOnce(&mut Message),
    ) -> Result<(), BusError>
    where
        C: Encode<T>,
    {
        self.deliver(command, &[], change).await
    }

    /// Sends commands of one type in one call, in their order. If one of them cannot be written, none is sent.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); the [`publish_error`](BusError::publish_error) says which were not accepted.
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn send_all<'v, T: Named>(
        &self,
        commands: impl IntoIterator<Item = &'v T>,
    ) -> Result<(), BusError>
    where
        C: Encode<T>,
    {
        self.deliver_all(commands).await
    }
}

impl<C: Codec, P: Publisher> Bus<Events, C, P> {
    /// Publishes an event.
    ///
    /// # Errors
    ///
    /// [`BusError`] says what kept it from being published; nothing was published unless its kind is
    /// [`Publish`](super::BusErrorKind::Publish).
    ///
    /// # Cancel safety
    ///
    /// A dropped future may have published it, as that of [`Publisher::publish`].
    pub async fn publish<T: Named>(&self, event: &T) -> Result<(), BusError>
    where
        C: Encode<T>,
    {
        self.deliver(event, &[], |_| ()).await
    }

    /// Publishes an event whose message is changed before. The hooks have run then.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish).
    ///
    /// # Cancel safety
    ///
    /// As [`publish`](Self::publish).
    pub async fn publish_with<T: Named>(
        &self,
        event: &T,
        change: impl FnOnce(&mut Message),
    ) -> Result<(), BusError>
    where
        C: Encode<T>,
    {
        self.deliver(event, &[], change).await
    }

    /// Publishes events of one type in one call, in their order. If one of them cannot be written, none is published.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish); the [`publish_error`](BusError::publish_error) says which were not accepted.
    ///
    /// # Cancel safety
    ///
    /// As [`publish`](Self::publish).
    pub async fn publish_all<'v, T: Named>(
        &self,
        events: impl IntoIterator<Item = &'v T>,
    ) -> Result<(), BusError>
    where
        C: Encode<T>,
    {
        self.deliver_all(events).await
    }
}

impl<C: Codec> Shared<C> {
    fn name_of<T: Named>(&self) -> Cow<'_, str> {
        self.marshaler.shared.names.of::<T>()
    }

    fn topic_of<'t>(&'t self, name: &'t str) -> Result<Cow<'t, str>, BusError> {
        self.topics.of(name).ok_or_else(|| BusError::no_topic(name))
    }

    /// The message of a value, past the hooks.
    pub(super) fn make<T: Named>(
        &self,
        name: &str,
        topic: &str,
        value: &T,
        entries: &[(&str, &str)],
    ) -> Result<Message, BusError>
    where
        C: Encode<T>,
    {
        let mut message = self.marshaler.write(name, value, entries)?;
        for hook in &self.hooks {
            let mut sending = Sending { name, topic, message: &mut message };
            hook(&mut sending).map_err(|error| BusError::hook(name, error))?;
        }
        Ok(message)
    }
}

impl<K, C, P: Clone> Clone for Bus<K, C, P> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), publisher: self.publisher.clone(), kind: PhantomData }
    }
}

impl<K: Kind, C: fmt::Debug, P> fmt::Debug for Bus<K, C, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus")
            .field("of", &K::NOUN)
            .field("topics", &self.shared.topics)
            .field("marshaler", &self.shared.marshaler)
            .finish_non_exhaustive()
    }
}
