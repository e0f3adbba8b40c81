//! A fan-out: one member, as a backend without groups, and its members as the groups of a backend that has such.
//!
//! They are no groups in one respect: a new one begins with what the others are not done with, which is neither all that
//! there was nor nothing of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use watermill_core::{
    Subscriber, Subscription,
    components::{FanOut, FanOutMember},
    error::SubscribeError,
    memory::{History, MemoryBroker},
    subscriber::SubscriberCapabilities,
    subscription::SubscriptionStatus,
};
use watermill_testkit::{Backend, Connection, Lack, suite::groups};

use super::{CAPACITY, broker};

/// The group of all members together.
const ALL: &str = "all";

/// A fan-out for each topic that is asked for. All connections share it, since it belongs to one process.
#[derive(Clone)]
struct FanOuts {
    broker: MemoryBroker,
    topics: Arc<Mutex<HashMap<String, FanOut>>>,
    members_are_groups: bool,
}

/// The members of one name.
struct Members {
    fan_outs: FanOuts,
    name: String,
    /// One for each topic that was asked for; `None` when they are closed.
    members: Mutex<Option<HashMap<String, FanOutMember>>>,
}

impl FanOuts {
    fn new(members_are_groups: bool) -> Self {
        Self { broker: broker(History::None), topics: Arc::default(), members_are_groups }
    }

    fn members(&self, name: &str) -> Members {
        Members { fan_outs: self.clone(), name: name.to_owned(), members: Mutex::new(Some(HashMap::new())) }
    }

    fn member(&self, topic: &str, name: &str) -> FanOutMember {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let fan_out = topics
            .entry(topic.to_owned())
            .or_insert_with(|| FanOut::new(self.broker.subscriber().group(ALL), topic));
        fan_out.member(name)
    }
}

impl Members {
    fn lock(&self) -> MutexGuard<'_, Option<HashMap<String, FanOutMember>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, topic: &str) -> Result<FanOutMember, SubscribeError> {
        let mut members = self.lock();
        let members = members.as_mut().ok_or_else(|| SubscribeError::closed(topic))?;
        let member =
            members.entry(topic.to_owned()).or_insert_with(|| self.fan_outs.member(topic, &self.name));
        Ok(member.clone())
    }
}

#[async_trait]
impl Subscriber for Members {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        self.of(topic)?.subscribe(topic).await
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.of(topic)?.initialize(topic).await
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        match self.fan_outs.members_are_groups {
            true => Ok(Arc::new(self.fan_outs.members(group))),
            false => self.of("any")?.in_group(group),
        }
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        let members = self.lock().take().unwrap_or_default();
        for member in members.into_values() {
            member.close().await?;
        }
        Ok(())
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.lock().iter().flatten().flat_map(|(_, member)| member.status()).collect()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        self.fan_outs.member("any", "any").capabilities().groups(self.fan_outs.members_are_groups)
    }
}

#[async_trait]
impl Backend for FanOuts {
    async fn connect(&self) -> Connection {
        Connection::new(self.broker.publisher(), self.members("member"))
    }

    fn lacks(&self) -> &[Lack] {
        &[Lack::ConsumerTimeout, Lack::Restart]
    }

    fn capacity(&self) -> Option<usize> {
        Some(CAPACITY)
    }
}

watermill_testkit::conformance!(FanOuts::new(false));

#[tokio::test(flavor = "multi_thread")]
async fn every_member_gets_every_message_and_waits_for_no_other() {
    groups::every_group_gets_every_message(Arc::new(FanOuts::new(true))).await;
    groups::a_group_does_not_wait_for_another(Arc::new(FanOuts::new(true))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_of_one_name_share_the_messages() {
    groups::the_members_of_a_group_share_its_messages(Arc::new(FanOuts::new(true))).await;
}
