//! [`perform`]: one run, from its servers to its verdict.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::Write as _,
    marker::PhantomData,
    path::Path,
    sync::Arc,
    time::Duration,
};

use sqlx::Connection as _;
use tokio::time::{Instant, sleep};
use watermill_core::Subscriber as _;
use watermill_sql::{SqlSubscriberConfig, SqlUrl};

use crate::{
    Result,
    breaker::{Breaker, DATABASE},
    checks::{Evidence, Promise, What, check, repeats_by_fault, stalls},
    database::{ConnectionOf, Database, Row},
    fault::Fault,
    options::{Delivery, Design, Judge, Length, Run},
    progress::Progress,
    proxy::Proxy,
    records::{Made, Records, now},
    relays::{BATCH, Job, Relays},
    report::Report,
    schedule::Schedule,
    servers::{Server, Service, target},
    topic::Topic,
    writers::{Shop, Writers, make_tables},
};

/// After this time without a single message nothing is waited for any more: longer than a transaction may hang in a client,
/// and its end be waited for.
const NOTHING_MORE: Duration = Duration::from_secs(180);
/// How long everything is left alone before the first fault.
const WARM_UP: Duration = Duration::from_secs(2);

/// Breaks things, and says what was seen.
pub(crate) async fn perform<D: Database>(run: &Run, broker: &Server, name: &str) -> Result<Report> {
    let (database, clock) = Server::database(Service::from(run.database), name).await?;
    let mut cannot = BTreeMap::new();
    if let Err(why) = clock {
        cannot.insert(Fault::TurnClock, why);
    }
    let mut admin = D::connect(&database.url).await?;
    D::execute(&mut admin, format!("create database {DATABASE}")).await?;
    admin.close().await?;

    let records = Arc::new(Records::default());
    let topic = Topic::make(&broker.url, &format!("orders-{name}")).await?;
    let (network_of_relays, network_of_writers) =
        (Proxy::to(database.address()).await?, Proxy::to(database.address()).await?);
    let url = |server: &str| format!("{}/{DATABASE}", server.rsplit_once('/').map_or(server, |(url, _)| url));
    let shop = Shop {
        url: url(&network_of_writers.url(&database.url)),
        design: run.design,
        topic: topic.name.clone(),
        outbox: format!("outbox_{}", name.replace('-', "_")),
    };
    let mut connection = D::connect(&url(&database.url)).await?;
    make_tables::<D>(&mut connection).await?;
    connection.close().await?;
    let pool = SqlUrl::new(url(&database.url))?.connect();
    // The group begins with what is published from now on.
    pool.subscriber(SqlSubscriberConfig::default())?.initialize(&shop.outbox).await?;
    pool.close().await;

    let job = Job {
        run: *run,
        database: url(&network_of_relays.url(&database.url)),
        brokers: broker.url.clone(),
        topic: topic.name.clone(),
        outbox: shop.outbox.clone(),
        dead_letters: format!("{}_dead", shop.outbox),
        folder: target().join("chaos").join(name),
    };
    let consumer = topic.consume(&records)?;
    let (relays, folder) = (Relays::start(job.clone())?, job.folder.clone());
    let writers = Writers::start::<D>(&shop, run.seed, &records);
    let mut breaker = Breaker::<D> {
        database,
        broker,
        relays,
        network_of_relays,
        network_of_writers,
        writers: &writers,
        records: Arc::clone(&records),
        clock: 0,
        standbys: 0,
        misbehaved: Vec::new(),
        notes: Vec::new(),
        kind: PhantomData,
    };
    let schedule = Schedule::new(run.seed, run.length, run.part, |fault| !cannot.contains_key(&fault));
    let made = break_things(run, schedule, &mut breaker, &records, &folder).await?;
    let Breaker { database, mut relays, mut misbehaved, notes, .. } = breaker;
    writers.stop().await;

    let mut connection = D::connect(&url(&database.url)).await?;
    let query = "select id, k, version, refused from orders".to_owned();
    let rows = D::rows(&mut connection, query).await?;
    let dead_letters = DeadLetters { topic: &job.dead_letters, are_kept: promise(run).has_dead_letters };
    wait_for_all::<D>(&rows, &records, &dead_letters, &mut connection).await?;
    let until = now();
    misbehaved.extend(relays.stop().await?);
    let by_themselves = relays.ended_by_themselves.iter();
    let ended_by_themselves = by_themselves.map(|status| format!("a relay, with {status}")).collect();
    drop(consumer);
    let dead = dead_letters.ids::<D>(&mut connection).await?;
    let evidence = Evidence {
        rows,
        committed: records.all_committed(),
        rolled_back: records.all_rolled_back(),
        seen: records.all_seen(),
        arrived: topic.read_all().await?,
        dead,
        made,
        until,
        misbehaved,
        ended_by_themselves,
    };
    let mut findings = check(&evidence, promise(run));
    if run.judge == Judge::Delivery {
        findings.retain(|finding| !depends_on_the_machine(run, finding.what));
    }
    let (repeats, stalls) = (repeats_by_fault(&evidence.arrived, &evidence.made), stalls(&evidence));
    Ok(Report { run: *run, evidence, findings, repeats, stalls, cannot, notes, counts: records, folder })
}

/// Whether a slow machine alone can break it.
fn depends_on_the_machine(run: &Run, what: What) -> bool {
    match what {
        What::Stalled | What::Misbehaved => true,
        What::Repeated => run.delivery == Delivery::AtLeastOnce,
        _ => false,
    }
}

fn promise(run: &Run) -> Promise {
    Promise {
        repeats_max: match run.delivery {
            // Those with calls in progress, and those that were accepted and whose acks are not recorded.
            Delivery::AtLeastOnce => Some(2 * BATCH),
            Delivery::ExactlyOnce => None,
        },
        stall_max: i64::try_from(run.stall_max.as_millis()).unwrap_or(i64::MAX),
        has_dead_letters: run.design == Design::Watermill,
    }
}

async fn break_things<D: Database>(
    run: &Run,
    schedule: Schedule,
    breaker: &mut Breaker<'_, D>,
    records: &Records,
    folder: &Path,
) -> Result<Vec<Made>> {
    let begin = Instant::now();
    let until = match run.length {
        Length::Short => None,
        Length::For(length) => Some(begin + length),
    };
    // Whoever looks at the logs of relays wants to know what was done when.
    let mut log = File::create(folder.join("faults.log"))?;
    let progress = Progress::start(run, until.map(|until| until - begin));
    let mut made = Vec::new();
    sleep(WARM_UP).await;
    for step in schedule {
        progress.show(records, made.len(), Some(step.fault));
        if let Some(one) = breaker.make(&step).await? {
            writeln!(log, "{} to {}: {}, luck {}", one.from, one.to, one.fault.name(), step.luck)?;
            made.push(one);
        }
        progress.show(records, made.len(), None);
        sleep(step.rest).await;
        if until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
    }
    Ok(made)
}

/// Waits for what was committed, as long as anything comes: to the topic, or to the dead letters what the broker refuses,
/// which is tried several times before.
async fn wait_for_all<D: Database>(
    rows: &[Row],
    records: &Records,
    dead_letters: &DeadLetters<'_>,
    connection: &mut ConnectionOf<D>,
) -> Result {
    let (mut refused, mut expected): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.is_refused);
    if !dead_letters.are_kept {
        refused.clear();
    }
    let (mut missing, mut until) = (usize::MAX, Instant::now() + NOTHING_MORE);
    loop {
        expected.retain(|row| !records.has_seen(&row.id));
        if expected.is_empty() && !refused.is_empty() {
            let dead = dead_letters.ids::<D>(connection).await?;
            refused.retain(|row| !dead.contains(&row.id));
        }
        let still = expected.len() + refused.len();
        if still < missing {
            (missing, until) = (still, Instant::now() + NOTHING_MORE);
        }
        if still == 0 || Instant::now() > until {
            return Ok(());
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Where relays set aside what the broker refuses.
struct DeadLetters<'j> {
    topic: &'j str,
    /// Loops that are written by hand keep none.
    are_kept: bool,
}

impl DeadLetters<'_> {
    /// The ids of the messages in the envelopes there.
    async fn ids<D: Database>(&self, connection: &mut ConnectionOf<D>) -> Result<HashSet<String>> {
        let mut ids = HashSet::new();
        if !self.are_kept {
            return Ok(ids);
        }
        for payload in D::payloads(connection, self.topic).await? {
            let envelope: serde_json::Value = serde_json::from_str(&payload)?;
            let id = envelope["uuid"].as_str().ok_or("a dead letter is no envelope")?;
            ids.insert(id.to_owned());
        }
        Ok(ids)
    }
}
