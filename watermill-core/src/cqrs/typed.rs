//! [`TypedBus`]: the part of a bus that sends values of one type.

use std::{fmt, marker::PhantomData, sync::Arc};

use super::{Bus, BusError, Encode, JsonCodec, Kind, Named, codec::Codec};
use crate::{Message, Publisher, message::vector};

/// Sends values of one type: a [`Bus`] whose name and topic for it are known to be there. Made by [`Bus::typed`].
pub struct TypedBus<T, K, C = JsonCodec, P = Arc<dyn Publisher>> {
    route: Arc<Route>,
    bus: Bus<K, C, P>,
    value: PhantomData<fn(T)>,
}

struct Route {
    name: String,
    topic: String,
}

impl<T: Named, K: Kind, C: Codec + Encode<T>, P: Publisher> TypedBus<T, K, C, P> {
    pub(super) fn new(name: String, topic: String, bus: Bus<K, C, P>) -> Self {
        Self { route: Arc::new(Route { name, topic }), bus, value: PhantomData }
    }

    /// Sends a value.
    ///
    /// # Errors
    ///
    /// [`BusError`], as of the bus; its kind is never [`NoTopic`](super::BusErrorKind::NoTopic).
    ///
    /// # Cancel safety
    ///
    /// A dropped future may have sent it, as that of [`Publisher::publish`].
    pub async fn send(&self, value: &T) -> Result<(), BusError> {
        let Route { name, topic } = &*self.route;
        let message = self.message(value)?;
        let published = self.bus.publisher.publish(topic, vector::of(message)).await;
        published.map_err(|error| BusError::publish(name, error))
    }

    /// The message of a value, not published.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), but for the publisher's.
    pub fn message(&self, value: &T) -> Result<Message, BusError> {
        self.bus.shared.make(&self.route.name, &self.route.topic, value, &[])
    }

    /// Where values of this type go.
    pub fn topic(&self) -> &str {
        &self.route.topic
    }
}

impl<T, K, C, P: Clone> Clone for TypedBus<T, K, C, P> {
    fn clone(&self) -> Self {
        Self { route: self.route.clone(), bus: self.bus.clone(), value: PhantomData }
    }
}

impl<T, K, C, P> fmt::Debug for TypedBus<T, K, C, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedBus")
            .field("name", &self.route.name)
            .field("topic", &self.route.topic)
            .finish_non_exhaustive()
    }
}
