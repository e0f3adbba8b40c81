//! [`Writers`]: an application that stores rows and messages in one transaction, in every way that makes relays err.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use sqlx::{Connection as _, Transaction};
use tokio::time::{sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use watermill_core::{Message, Publisher as _};
use watermill_forwarder::ForwarderPublisher;
use watermill_sql::SqlPublisher;

use crate::{
    Result,
    database::{ConnectionOf, Database},
    options::Design,
    records::{Event, Records},
    schedule::random,
};

const WRITERS: usize = 8;
/// Few, so that keys are contended for, and many transactions commit in another order than they began.
const KEYS: i64 = 24;
/// Larger than the topic takes, as a payload.
const REFUSED_BYTES: usize = 300_000;
/// Every so many transactions of one writer there is a message that the broker refuses.
const REFUSED_EVERY: u64 = 60;
/// No transaction lasts longer; the connection of one that does is given up.
const TRANSACTION_MAX: Duration = Duration::from_secs(20);
/// What is called late, from the last statement to the commit.
const LATE: Duration = Duration::from_millis(300);
const RECONNECT: Duration = Duration::from_millis(100);
/// Of a burst: what each writer adds but one, which commits late: a relay that keeps the order waits for it, and then has
/// many batches in hand.
const BURST_TRANSACTIONS: u64 = 12;
const BURST_EVENTS: usize = 20;
const BURST_HELD: Duration = Duration::from_millis(600);

/// Where writers write, and how.
#[derive(Clone, Debug)]
pub(crate) struct Shop {
    /// By way of a network that leads to the server of the moment.
    pub(crate) url: String,
    pub(crate) design: Design,
    /// Where messages are to go.
    pub(crate) topic: String,
    /// The topic of the outbox, where it is ours.
    pub(crate) outbox: String,
}

/// The writers at work.
#[derive(Debug)]
pub(crate) struct Writers {
    tasks: TaskTracker,
    stop: CancellationToken,
    bursts: Arc<Bursts>,
}

/// Moments in which much is written.
#[derive(Debug, Default)]
struct Bursts {
    wanted: AtomicU64,
    /// Those whose late transaction is about to commit.
    released: AtomicU64,
}

impl Writers {
    pub(crate) fn start<D: Database>(shop: &Shop, seed: u64, records: &Arc<Records>) -> Self {
        let (tasks, stop, bursts) = (TaskTracker::new(), CancellationToken::new(), Arc::<Bursts>::default());
        for number in 0..WRITERS {
            let writer = Writer {
                shop: shop.clone(),
                number,
                next: 0,
                transactions: 0,
                random: random(seed, "writer", number),
                records: Arc::clone(records),
                bursts: Arc::clone(&bursts),
                burst: 0,
                burst_transactions: 0,
            };
            let stop = stop.clone();
            tasks.spawn(async move { writer.run::<D>(stop).await });
        }
        tasks.close();
        Self { tasks, stop, bursts }
    }

    /// Has them write as much as they can for a moment. What it returns is to be asked for.
    pub(crate) fn burst(&self) -> u64 {
        self.bursts.wanted.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether what was written in a burst becomes visible now.
    pub(crate) fn has_released(&self, burst: u64) -> bool {
        self.bursts.released.load(Ordering::Relaxed) >= burst
    }

    /// Waits until each has ended what it was at.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

/// The tables of the application, and the outbox of a relay written by hand.
pub(crate) async fn make_tables<D: Database>(connection: &mut ConnectionOf<D>) -> Result {
    let (serial, text) = (D::SERIAL, D::TEXT);
    for statement in [
        "create table orders_by_key (k bigint primary key, version bigint not null)".to_owned(),
        "create table orders (id varchar(40) primary key, k bigint not null, version bigint not null, \
         refused bigint not null)"
            .to_owned(),
        format!(
            "create table outbox (id {serial} primary key, k varchar(40) not null, payload {text} not null, \
             attempts bigint not null default 0)"
        ),
        "create table outbox_position (name varchar(40) primary key, last_id bigint not null)".to_owned(),
        "insert into outbox_position values ('relay', 0)".to_owned(),
    ] {
        D::execute(connection, statement).await?;
    }
    for key in 0..KEYS {
        D::execute(connection, format!("insert into orders_by_key values ({key}, 0)")).await?;
    }
    Ok(())
}

struct Writer {
    shop: Shop,
    number: usize,
    /// The number of the next message.
    next: u64,
    transactions: u64,
    random: Rng,
    records: Arc<Records>,
    bursts: Arc<Bursts>,
    /// The last burst that it has taken part in, and how often.
    burst: u64,
    burst_transactions: u64,
}

/// What one transaction is to do.
struct Plan {
    /// How many messages of each key.
    events: BTreeMap<i64, usize>,
    /// The first is one that the broker refuses.
    is_refused: bool,
    rolls_back: bool,
    /// How long it takes from its last statement to its end.
    late: Duration,
    /// The burst that it holds back until it commits.
    releases: Option<u64>,
}

/// How far a transaction got that failed.
#[derive(Clone, Copy, PartialEq)]
enum Reached {
    Statements,
    Commit,
}

impl Writer {
    async fn run<D: Database>(mut self, stop: CancellationToken) {
        let mut connection = None;
        while !stop.is_cancelled() {
            let Some(open) = &mut connection else {
                connection = D::connect(&self.shop.url).await.ok();
                if connection.is_none() {
                    sleep(RECONNECT).await;
                }
                continue;
            };
            let plan = self.plan();
            if !self.transaction::<D>(open, plan).await {
                // In a state that nobody knows; whatever it has begun ends with it.
                connection = None;
            }
            if self.burst == self.bursts.wanted.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(self.random.u64(0..120))).await;
            }
        }
    }

    fn plan(&mut self) -> Plan {
        self.transactions += 1;
        let wanted = self.bursts.wanted.load(Ordering::Relaxed);
        if self.burst < wanted {
            return self.plan_of_burst(wanted);
        }
        let mut events = BTreeMap::new();
        for _ in 0..self.random.usize(1..=3) {
            *events.entry(self.random.i64(0..KEYS)).or_default() += self.random.usize(1..=2);
        }
        let late = match self.random.u32(0..20) {
            0 => self.random.u64(300..1_200),
            1..=8 => self.random.u64(0..40),
            _ => 0,
        };
        Plan {
            events,
            is_refused: self.number == 0 && self.transactions % REFUSED_EVERY == REFUSED_EVERY / 3,
            rolls_back: self.random.u32(0..6) == 0,
            late: Duration::from_millis(late),
            releases: None,
        }
    }

    fn plan_of_burst(&mut self, burst: u64) -> Plan {
        let holds = self.number == 0;
        self.burst_transactions += 1;
        if holds || self.burst_transactions == BURST_TRANSACTIONS {
            (self.burst, self.burst_transactions) = (burst, 0);
        }
        Plan {
            events: BTreeMap::from([(self.random.i64(0..KEYS), if holds { 1 } else { BURST_EVENTS })]),
            is_refused: false,
            rolls_back: false,
            late: if holds { BURST_HELD } else { Duration::ZERO },
            releases: holds.then_some(burst),
        }
    }

    /// One transaction. False where its connection is of no use any more.
    async fn transaction<D: Database>(&mut self, connection: &mut ConnectionOf<D>, plan: Plan) -> bool {
        let (mut ids, mut reached) = (Vec::new(), Reached::Statements);
        let work = self.attempt::<D>(connection, &plan, &mut ids, &mut reached);
        let done = matches!(timeout(TRANSACTION_MAX, work).await, Ok(Ok(())));
        let counts = &self.records.counts;
        counts.transactions.fetch_add(1, Ordering::Relaxed);
        match (done, reached) {
            (true, Reached::Commit) => {
                counts.late.fetch_add((plan.late >= LATE).into(), Ordering::Relaxed);
                counts.refused.fetch_add(plan.is_refused.into(), Ordering::Relaxed);
                self.records.committed(ids);
            }
            (false, Reached::Commit) => {
                counts.unknown.fetch_add(1, Ordering::Relaxed);
            }
            (_, Reached::Statements) => {
                counts.rolled_back.fetch_add(1, Ordering::Relaxed);
                self.records.rolled_back(ids);
            }
        }
        done
    }

    async fn attempt<D: Database>(
        &mut self,
        connection: &mut ConnectionOf<D>,
        plan: &Plan,
        ids: &mut Vec<String>,
        reached: &mut Reached,
    ) -> Result {
        let mut tx = connection.begin().await?;
        for (key, count) in &plan.events {
            // Whoever has locked a key writes its next versions, and commits before the next one does.
            let advance = format!("update orders_by_key set version = version + {count} where k = {key}");
            D::execute(&mut tx, advance).await?;
            let query = format!("select version from orders_by_key where k = {key}");
            let last = D::number(&mut tx, query).await?.unwrap_or_default();
            let first = last - i64::try_from(*count)?;
            let refused = plan.is_refused && ids.is_empty();
            let events: Vec<Event> = (first + 1..=last).map(|version| self.event(*key, version)).collect();
            ids.extend(events.iter().map(|event| event.id.clone()));
            self.write::<D>(&mut tx, &events, refused).await?;
            if count < &BURST_EVENTS {
                sleep(Duration::from_millis(self.random.u64(0..15))).await;
            }
        }
        sleep(plan.late).await;
        if let Some(burst) = plan.releases {
            self.bursts.released.store(burst, Ordering::Relaxed);
        }
        if plan.rolls_back {
            return Ok(tx.rollback().await?);
        }
        *reached = Reached::Commit;
        Ok(tx.commit().await?)
    }

    fn event(&mut self, key: i64, version: i64) -> Event {
        self.next += 1;
        Event { id: format!("{}-{}", self.number, self.next), key, version }
    }

    /// The rows of the application, and their messages.
    async fn write<D: Database>(
        &self,
        tx: &mut Transaction<'_, D>,
        events: &[Event],
        refused: bool,
    ) -> Result {
        let is_refused = |at: usize| refused && at == 0;
        let rows: Vec<String> = (events.iter().enumerate())
            .map(|(at, Event { id, key, version })| {
                format!("('{id}', {key}, {version}, {})", u8::from(is_refused(at)))
            })
            .collect();
        D::execute(tx, format!("insert into orders (id, k, version, refused) values {}", rows.join(", ")))
            .await?;
        let payloads = (events.iter().enumerate()).map(|(at, event)| {
            let mut payload = serde_json::json!(event);
            if is_refused(at) {
                payload["pad"] = "x".repeat(REFUSED_BYTES).into();
            }
            (event, payload.to_string())
        });
        if self.shop.design == Design::Watermill {
            let messages = payloads.map(|(event, payload)| {
                Message::with_id(&*event.id, payload).with_key(event.key.to_string())
            });
            let publisher =
                ForwarderPublisher::new(SqlPublisher::in_transaction(tx)).topic(&*self.shop.outbox);
            publisher.publish(&self.shop.topic, messages.collect()).await?;
        } else {
            let rows: Vec<String> =
                payloads.map(|(event, payload)| format!("('{}', '{payload}')", event.key)).collect();
            D::execute(tx, format!("insert into outbox (k, payload) values {}", rows.join(", "))).await?;
        }
        Ok(())
    }
}
