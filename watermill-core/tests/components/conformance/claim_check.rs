//! A publisher and a subscriber that keep every payload in a store.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use watermill_core::{
    components::claim_check::{
        Claim, ClaimCheckPublisher, ClaimCheckSubscriber, ClaimError, ClaimErrorKind, ClaimStore,
    },
    memory::{History, MemoryBroker},
};
use watermill_testkit::{Backend, Connection, Lack};

use super::{CAPACITY, broker};

/// In memory: what the suite asks of a disk it asks 10,000 times.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<HashMap<Claim, Bytes>>>);

#[async_trait]
impl ClaimStore for Store {
    async fn put(&self, claim: &Claim, payload: Bytes) -> Result<(), ClaimError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(claim.clone(), payload);
        // A store that is elsewhere answers later.
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn get(&self, claim: &Claim) -> Result<Bytes, ClaimError> {
        tokio::task::yield_now().await;
        let payload = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(claim).cloned();
        payload.ok_or_else(|| ClaimError::new(ClaimErrorKind::Lost, claim))
    }
}

struct Claims {
    broker: MemoryBroker,
    store: Store,
}

#[async_trait]
impl Backend for Claims {
    async fn connect(&self) -> Connection {
        let publisher = ClaimCheckPublisher::new(self.broker.publisher(), self.store.clone());
        let subscriber = ClaimCheckSubscriber::new(self.broker.subscriber(), self.store.clone());
        Connection::new(publisher.above(0), subscriber)
    }

    fn lacks(&self) -> &[Lack] {
        &[Lack::ConsumerTimeout, Lack::Restart]
    }

    fn capacity(&self) -> Option<usize> {
        Some(CAPACITY)
    }
}

watermill_testkit::conformance!(Claims { broker: broker(History::All), store: Store::default() });
