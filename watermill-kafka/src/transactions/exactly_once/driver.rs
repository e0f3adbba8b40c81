//! The task that opens and ends transactions.

use std::{collections::HashMap, sync::Arc};

use rdkafka::{
    TopicPartitionList,
    error::KafkaError,
    producer::{Producer as _, ThreadedProducer},
};
use tokio::{sync::oneshot, time::sleep};
use watermill_core::{
    Backoff,
    backend::{Failure, Trouble},
    error::chain,
};

use super::{
    open::Open,
    pair::{Ended, Pair, tell},
};
use crate::{
    client::{Client, Command},
    report::Reports,
    settle::Shared,
    transactions::producer::{Refusal, Transactions},
};

/// Positions that are committed in a transaction, and whose they are.
type Positions = Vec<(Arc<Client>, TopicPartitionList)>;

/// What is known from one term of the transactional id to the next.
struct Driver {
    pair: Arc<Pair>,
    /// Assignments whose deliveries are read again, for what was made of them was not committed.
    aborted: Vec<(Arc<Shared>, u64)>,
    /// Terms that have ended without committing anything.
    failures: u32,
    /// Messages are sent one by one until a transaction is committed, to find out which of them is refused.
    careful: bool,
}

/// Opens one transaction after another until nobody needs them any more.
pub(super) async fn run(pair: Arc<Pair>) {
    let mut driver = Driver { pair, aborted: Vec::new(), failures: 0, careful: false };
    loop {
        let ended = driver.term().await;
        if driver.pair.is_closed() {
            break;
        }
        let Err(failure) = ended else { continue };
        let ended = Ended::new(failure.trouble(), chain(&failure.publishing(driver.pair.id())));
        driver.pair.down(&ended);
        if ended.is_final() {
            tracing::error!(
                id = driver.pair.id(),
                reason = ended.reason,
                "positions cannot be committed any more"
            );
            for client in driver.pair.clients() {
                client.group.end_all(&|| ended.failure());
            }
            return;
        }
        let wait = Backoff::default().delay(driver.failures);
        tracing::warn!(id = driver.pair.id(), reason = ended.reason, ?wait, "a transaction has failed");
        driver.failures = driver.failures.saturating_add(1);
        tokio::select! {
            () = sleep(wait) => {}
            () = driver.pair.closed() => break,
        }
    }
    driver.pair.down(&Ended::new(Trouble::Refused, "the subscriber and its publisher are closed"));
}

impl Driver {
    /// From the initialisation of a producer, which fences earlier ones of the name, to the first error.
    async fn term(&mut self) -> Result<(), Failure> {
        let pair = self.pair.clone();
        let patience = pair.config().transaction_timeout() * 3 / 4;
        let mut config = pair.config().clone();
        if self.careful {
            config = config.option("batch.num.messages", "1");
        }
        let producer = Transactions::begin_term(&config, pair.id(), pair.topic_locks()).await?;
        // What became of the last transaction is known from here on: the positions tell.
        self.rewind().await;
        loop {
            producer.open().await?;
            pair.open(producer.shared());
            let waiting = pair.until_due().await;
            let Some(open) = pair.take(patience).await else { return Ok(()) };
            let ended = self.end(&producer, &open).await;
            if ended.is_err() {
                self.aborted.extend(open.parts().map(|(shared, scope)| (shared.clone(), scope)));
            }
            let told = ended.as_ref().map(|_| ()).map_err(|failure| {
                Ended::new(
                    failure.trouble(),
                    "the transaction was not committed, and what was acked comes again",
                )
            });
            // Before anything else: the one who waits may be the one who is needed to read again.
            tell(waiting, &told);
            if ended? {
                self.failures = 0;
                if std::mem::take(&mut self.careful) {
                    return Ok(());
                }
            }
            if pair.is_closed() {
                return Ok(());
            }
        }
    }

    /// Commits a transaction, with the positions behind what it was made of; or aborts it. Whether there was
    /// anything in it.
    async fn end(&mut self, producer: &Transactions, open: &Open) -> Result<bool, Failure> {
        let broken =
            open.broken.as_ref().map(|reason| Failure::because(Trouble::Unavailable, reason.clone()));
        let ended = match broken {
            Some(failure) => Err(producer.abort(&open.call, failure).await),
            None => self.commit(producer, open).await,
        };
        match ended {
            Ok(anything) => Ok(anything),
            Err(refusal) => Err(self.blame(open, refusal).await),
        }
    }

    async fn commit(&self, producer: &Transactions, open: &Open) -> Result<bool, Refusal> {
        if !open.call.accepted().await {
            let failure = Failure::because(Trouble::Unavailable, "a message was not accepted");
            return Err(producer.abort(&open.call, failure).await);
        }
        let clients = self.pair.clients();
        let request = self.pair.config().request_timeout;
        let sent = producer.blocking_until(move |producer| send_positions(producer, &clients, request)).await;
        let positions = match sent {
            Ok(positions) => positions,
            Err(error) => return Err(producer.abort(&open.call, producer.explain(error)).await),
        };
        // Looked at after the group was asked who we are: what was given up before is missed here, and what is
        // given up after makes the group refuse us.
        if !open.holds_all() {
            let detail = "a partition that takes part was given to another member of the group";
            let failure = Failure::because(Trouble::Unavailable, detail);
            return Err(producer.abort(&open.call, failure).await);
        }
        let anything = open.since.is_some() || !positions.is_empty();
        producer.commit(&open.call).await?;
        for (client, offsets) in positions {
            client.group.recorded(&offsets);
            for element in offsets.elements() {
                if let Some(offset) = element.offset().to_raw() {
                    self.pair
                        .refusals(|refusals| refusals.pass(element.topic(), element.partition(), offset));
                }
            }
        }
        Ok(anything)
    }

    /// Remembers whose message was refused for good: that delivery comes again, and its failure policy is to
    /// hear of it.
    async fn blame(&mut self, open: &Open, Refusal { at, mut failure, .. }: Refusal) -> Failure {
        let Some((topic, _)) = at.first().and_then(|at| open.sent(*at)) else { return failure };
        if failure.trouble() == Trouble::Topic {
            failure = self.pair.topic_locks().unknown(topic, failure).await;
        }
        let trouble = failure.trouble();
        let error = failure.publishing(topic);
        if error.is_retryable() {
            return Failure::because(trouble, chain(&error));
        }
        if at.len() == 1 || self.careful {
            let all = at.iter().filter_map(|at| open.sent(*at));
            all.for_each(|(_, causes)| self.pair.refusals(|refusals| refusals.insert(causes, &error)));
        } else {
            // A broker that refuses one message refuses the batch that it is in.
            self.careful = true;
        }
        // The next transaction does without it, or finds it out.
        Failure::because(Trouble::Unavailable, chain(&error))
    }

    /// Has the partitions of what was aborted read again, from what is committed.
    async fn rewind(&mut self) {
        let mut by_subscription: HashMap<usize, (Arc<Shared>, Vec<u64>)> = HashMap::new();
        for (shared, scope) in self.aborted.drain(..) {
            by_subscription
                .entry(Arc::as_ptr(&shared).addr())
                .or_insert_with(|| (shared, Vec::new()))
                .1
                .push(scope);
        }
        for (shared, scopes) in by_subscription.into_values() {
            let (done, ended) = oneshot::channel();
            let client = self.pair.clients().into_iter().find(|client| client.group.serves(&shared));
            if let Some(client) = client {
                client.command(Command::Rewind(shared, scopes, done));
                // A client that has gone has nothing to read any more.
                let _ = ended.await;
            }
        }
    }
}

/// Adds the positions of all members to the transaction.
fn send_positions(
    producer: &ThreadedProducer<Reports>,
    clients: &[Arc<Client>],
    timeout: std::time::Duration,
) -> Result<Positions, KafkaError> {
    let mut positions = Vec::new();
    for client in clients {
        if let Some((member, offsets)) = client.group.positions() {
            producer.send_offsets_to_transaction(&offsets, &member, timeout)?;
            positions.push((client.clone(), offsets));
        }
    }
    Ok(positions)
}
