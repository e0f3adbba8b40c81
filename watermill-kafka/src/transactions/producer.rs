//! [`Transactions`]: a producer with a name, and one transaction after another.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    error::KafkaError,
    producer::{BaseRecord, Producer as _, ThreadedProducer},
    types::RDKafkaErrorCode as Code,
};
use tokio::{
    task,
    time::{Instant, sleep},
};

use watermill_core::backend::{Failure, Trouble};

use crate::{
    KafkaPublisherConfig, error,
    producer::Client,
    report::{Call, Reports},
    topic_locks::TopicLocks,
    topics,
};

/// How often a transaction is tried again one by one.
const NARROWED_MAX: usize = 3;

/// The pause after a transaction that was aborted, in which librdkafka takes back what it has left.
const ABORTED_PAUSE: Duration = Duration::from_millis(20);

/// How long a call waits for its turn as the producer of a name, at first and at most. While a coordinator still ends what a
/// predecessor has left open, librdkafka asks it every 500 ms; a call that is made again asks at once. One that
/// is on its way is waited for, however often it is called.
const INIT_WAIT: Duration = Duration::from_millis(25);
const INIT_WAIT_MAX: Duration = Duration::from_millis(400);

/// How often it is looked whether a client has put its last report away, and for how long: as long as a commit would wait for it.
const REPORTED_PAUSE: Duration = Duration::from_millis(1);
const REPORTED_MAX: Duration = Duration::from_millis(100);

/// How many records are queued before others have a turn: whoever puts the next transaction together meanwhile.
const QUEUED_AT_ONCE: usize = 200;

/// A producer of transactions. Whoever initialises the next one of the same name fences it.
pub(crate) struct Transactions {
    client: Arc<Client>,
    config: KafkaPublisherConfig,
    topic_locks: Arc<TopicLocks>,
}

/// Why a transaction was not committed.
pub(crate) struct Refusal {
    /// The positions of the messages that were not accepted, in ascending order. Brokers refuse a batch for one of
    /// its messages: then all of them are here.
    pub(crate) at: Vec<usize>,
    pub(crate) failure: Failure,
    /// Whether nothing is wrong but that messages were taken back.
    taken_back: bool,
}

impl Refusal {
    fn of(failure: Failure) -> Self {
        Self { at: Vec::new(), failure, taken_back: false }
    }
}

impl Transactions {
    /// Fences every earlier producer of this name, and ends what it has left open.
    pub(crate) async fn begin_term(
        config: &KafkaPublisherConfig,
        id: &str,
        topic_locks: &Arc<TopicLocks>,
    ) -> Result<Self, Failure> {
        let client = Client::new(&config.transactional_client(id)).map_err(error::classify)?;
        let this = Self { client, config: config.clone(), topic_locks: topic_locks.clone() };
        let until = Instant::now() + config.transaction_timeout();
        let mut wait = INIT_WAIT.min(config.request_timeout);
        loop {
            match this.blocking(move |producer| producer.init_transactions(wait)).await {
                Ok(()) => return Ok(this),
                Err(error) if is_retriable(&error) && Instant::now() < until => {
                    wait = (wait * 2).min(INIT_WAIT_MAX).min(config.request_timeout);
                }
                Err(error) => return Err(this.explain(error)),
            }
        }
    }

    /// The client, for those who queue messages themselves.
    pub(crate) fn shared(&self) -> Arc<Client> {
        self.client.clone()
    }

    /// Makes a topic where that is configured. Outside of a transaction: it takes its time.
    pub(crate) async fn make(&self, topic: &str) -> Result<(), Failure> {
        let Some(create) = self.config.create_topics else { return Ok(()) };
        let mut topic_lock = self.topic_locks.lock(topic).await;
        if !topic_lock.exists() {
            topics::create(self.config.client(), create, topic, self.config.request_timeout).await?;
            topic_lock.found(true);
        }
        Ok(())
    }

    /// Opens a transaction.
    pub(crate) async fn open(&self) -> Result<(), Failure> {
        let opened = self.blocking(ThreadedProducer::begin_transaction).await;
        opened.map_err(|error| self.explain(error))
    }

    /// Publishes so many records in a transaction of their own.
    pub(crate) async fn publish<'r>(
        &self,
        count: usize,
        record: impl Fn(usize, &Arc<Call>) -> BaseRecord<'r, [u8], [u8], Arc<Call>>,
    ) -> Result<(), Refusal> {
        let call = self.send(count, record).await?;
        self.commit(&call).await
    }

    /// Sends so many records in a transaction of their own, and returns the call by which it is [committed](Self::commit) when
    /// all are accepted. Where a broker has refused a batch of them as too large, they are sent one by one, before one of
    /// them is blamed.
    pub(crate) async fn send<'r>(
        &self,
        count: usize,
        record: impl Fn(usize, &Arc<Call>) -> BaseRecord<'r, [u8], [u8], Arc<Call>>,
    ) -> Result<Arc<Call>, Refusal> {
        let mut sent = self.attempt(count, &record, false).await;
        for _ in 0..NARROWED_MAX {
            match &sent {
                Err(Refusal { at, failure, .. }) if at.len() > 1 && failure.trouble() == Trouble::Message => {
                }
                // What librdkafka takes back of an aborted transaction can be a message of the next one.
                Err(Refusal { at, taken_back: true, .. }) if at.is_empty() => {}
                _ => break,
            }
            sleep(ABORTED_PAUSE).await;
            sent = self.attempt(count, &record, true).await;
        }
        sent
    }

    async fn attempt<'r>(
        &self,
        count: usize,
        record: &impl Fn(usize, &Arc<Call>) -> BaseRecord<'r, [u8], [u8], Arc<Call>>,
        one_by_one: bool,
    ) -> Result<Arc<Call>, Refusal> {
        self.open().await.map_err(Refusal::of)?;
        let call = Call::open();
        for at in 0..count {
            call.expect(1);
            if let Err(error) = self.client.send(record(at, &call)).await {
                return Err(self.abort(&call, self.explain(error)).await);
            }
            if one_by_one && !call.accepted().await {
                break;
            }
            if at % QUEUED_AT_ONCE == QUEUED_AT_ONCE - 1 {
                task::yield_now().await;
            }
        }
        self.accepted(&call).await?;
        Ok(call)
    }

    /// Waits until everything is accepted. Once one was refused, librdkafka sends no other before it is told to abort.
    async fn accepted(&self, call: &Call) -> Result<(), Refusal> {
        if call.accepted().await {
            return Ok(());
        }
        let refused = Failure::because(Trouble::Unavailable, "a message was not accepted");
        Err(self.abort(call, refused).await)
    }

    /// Commits what was queued, whose reports go to `call`, or nothing of it. `Timeout` and `Fenced` leave
    /// open which.
    pub(crate) async fn commit(&self, call: &Call) -> Result<(), Refusal> {
        self.accepted(call).await?;
        let until = Instant::now() + self.config.transaction_timeout();
        let request = self.config.request_timeout;
        self.reported().await;
        loop {
            // A commit that was begun goes on where it was when it is asked for again.
            match self.blocking(move |producer| producer.commit_transaction(request)).await {
                Ok(()) => return Ok(()),
                Err(error) if must_abort(&error) => {
                    let failure = self.explain(error);
                    return Err(self.abort(call, failure).await);
                }
                Err(error) if is_retriable(&error) && Instant::now() < until => {}
                Err(error) => {
                    let failure = self.explain(error);
                    return Err(Refusal::of(match failure.trouble() {
                        Trouble::Unavailable => failure.with_trouble(Trouble::Timeout),
                        _ => failure,
                    }));
                }
            }
        }
    }

    /// Waits until the client has put away the last report that it gave. A commit that comes before waits for 100 ms, whatever happens
    /// meanwhile.
    async fn reported(&self) {
        let until = Instant::now() + REPORTED_MAX;
        while self.client.get().in_flight_count() > 0 && Instant::now() < until {
            sleep(REPORTED_PAUSE).await;
        }
    }

    /// Ends the open transaction without a trace, and returns what was wrong: the message that was refused,
    /// if there is one, rather than what followed from it.
    pub(crate) async fn abort(&self, call: &Call, failure: Failure) -> Refusal {
        let request = self.config.request_timeout;
        if let Err(error) = self.blocking(move |producer| producer.abort_transaction(request)).await {
            // It is ended by its timeout or its successor; it cannot be committed any more.
            tracing::warn!(%error, "a transaction could not be aborted");
            if self.explain(error).trouble() == Trouble::Fenced {
                return Refusal::of(error::classify_code(Code::Fenced));
            }
        }
        let purged = |error: &KafkaError| {
            let code = error.rdkafka_error_code();
            matches!(code, Some(Code::PurgeQueue | Code::PurgeInflight))
        };
        let failed = call.failed_so_far();
        let taken_back = !failed.is_empty();
        let mut refused: Vec<_> = failed.into_iter().filter(|(_, error)| !purged(error)).collect();
        let at = refused.iter().map(|(at, _)| *at).collect();
        match refused.drain(..).next() {
            Some((_, error)) => Refusal { at, failure: error::classify(error), taken_back: false },
            None => Refusal { at, failure, taken_back },
        }
    }

    /// What an error means; after a fatal one, what that was.
    pub(crate) fn explain(&self, error: KafkaError) -> Failure {
        let fatal = self.client.get().client().fatal_error();
        match fatal {
            Some((code, reason)) => error::classify_code(code).explained(reason),
            None => error::classify(error),
        }
    }

    /// The same, again and again while that may help.
    pub(crate) async fn blocking_until<T: Send + 'static>(
        &self,
        call: impl Fn(&ThreadedProducer<Reports>) -> Result<T, KafkaError> + Clone + Send + 'static,
    ) -> Result<T, KafkaError> {
        let until = Instant::now() + self.config.transaction_timeout();
        loop {
            match self.blocking(call.clone()).await {
                Err(error) if is_retriable(&error) && Instant::now() < until => {}
                called => return called,
            }
        }
    }

    /// Calls the client on a thread that may wait. It goes on when the caller does not.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&ThreadedProducer<Reports>) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, KafkaError> {
        let client = self.client.clone();
        let called = task::spawn_blocking(move || call(client.get())).await;
        called.unwrap_or(Err(KafkaError::Canceled))
    }
}

fn is_retriable(error: &KafkaError) -> bool {
    match error {
        KafkaError::Transaction(error) => error.is_retriable(),
        // A commit begins with a flush.
        KafkaError::Flush(code) => *code == Code::OperationTimedOut,
        _ => false,
    }
}

fn must_abort(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(error) if error.txn_requires_abort())
}
