//! Positions that are committed in transactions, with what was made of the deliveries.

use std::{collections::HashMap, sync::Arc};

use rdkafka::{
    consumer::{BaseConsumer, Consumer as _, ConsumerGroupMetadata},
    topic_partition_list::TopicPartitionList,
};
use watermill_core::{backend::Failure, error::SettleError};

use super::{Group, Subscribed, uncommitted};
use crate::{
    assigned::scope,
    context::Context,
    error,
    ledger::Reread,
    settle::{Shared, Together},
};

impl Group {
    /// Commits what is done of a subscription that leaves.
    pub(crate) fn commit_last(
        &self,
        consumer: &BaseConsumer<Context>,
        shared: &Shared,
    ) -> Result<(), Failure> {
        match self.together() {
            None => self.commit(consumer, [shared]).map_err(error::classify),
            Some(together) if shared.is_uncommitted() => together.commit(self.request_timeout),
            Some(_) => Ok(()),
        }
    }

    /// The transactions that positions are committed in, if any.
    pub(crate) fn together(&self) -> Option<&dyn Together> {
        self.together.as_deref()
    }

    /// What is done and not committed, and who we are in the group, by whose word others are told from us. The
    /// latter is asked for first: what is done of a partition that is given up in between is missing then, and
    /// not committed in the name of who came after.
    pub(crate) fn positions(&self) -> Option<(ConsumerGroupMetadata, TopicPartitionList)> {
        let client = self.client.get()?.upgrade()?;
        let member = client.consumer().group_metadata()?;
        let subscribed = self.subscribed();
        let offsets = uncommitted(subscribed.iter().map(|subscribed| &*subscribed.shared));
        (offsets.count() > 0).then_some((member, offsets))
    }

    /// Whether a subscription is this client's.
    pub(crate) fn serves(&self, shared: &Arc<Shared>) -> bool {
        self.subscribed_to(&shared.topic).is_some_and(|subscribed| Arc::ptr_eq(&subscribed.shared, shared))
    }

    /// Ends all subscriptions for good.
    pub(crate) fn end_all(&self, why: &dyn Fn() -> Failure) {
        for Subscribed { shared, .. } in self.subscribed() {
            shared.report(why());
            shared.stop_intake();
        }
    }

    /// Takes assignments back from a subscription, to be read again, by partition.
    pub(crate) fn take_back(&self, shared: &Shared, scopes: &[u64]) -> HashMap<i32, Reread> {
        let subscribed = self.subscribed_to(&shared.topic);
        let mut taken = HashMap::new();
        for &scope in scopes {
            let revoked = match &subscribed {
                Some(subscribed) => subscribed.revoke(|_| shared.revoke_scope(scope)),
                None => shared.revoke_scope(scope).map(|(_, ledger)| ledger),
            };
            let Some(ledger) = revoked else { continue };
            taken.insert(scope::partition(scope), ledger.reread());
            ledger.lose(SettleError::lost);
        }
        taken
    }

    /// Ends the open transaction if these partitions take part in it.
    pub(super) fn commit_with_outputs(&self, partitions: &TopicPartitionList) {
        let Some(together) = self.together() else { return };
        let elements = partitions.elements();
        let mut subscriptions = elements.iter().filter_map(|element| self.subscribed_to(element.topic()));
        if subscriptions.any(|subscribed| subscribed.shared.is_uncommitted())
            && let Err(failure) = together.commit(self.request_timeout)
        {
            let error = failure.subscribing("");
            tracing::warn!(%error, "what was done of revoked partitions could not be committed and comes again");
        }
    }
}
