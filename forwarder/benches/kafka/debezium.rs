//! The same table relayed by Debezium's embedded engine, with its outbox event router.

use std::{path::PathBuf, process::Stdio, time::Duration};

use sqlx::{AssertSqlSafe, PgPool};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    time::Instant,
};
use watermill_forwarder::DestinationFrom;
use watermill_sql::SqlSource;
use watermill_testkit::{Figure, Figures, Limit, unique, workload};

use crate::{
    NAME, Options, drain,
    ours::{Delivery, Relay},
    servers::Servers,
};

/// The folder of Debezium's jars, with our class that runs its engine.
const VARIABLE: &str = "WATERMILL_BENCH_DEBEZIUM";
const CLASS: &str = "OutboxRouter";

const BATCH: usize = 1_000;
const ROUNDS: usize = 3;

pub(crate) fn is_wanted(options: &Options) -> bool {
    jars().is_some() && options.wants("debezium")
}

pub(crate) async fn measure(servers: &Servers, options: &Options, figures: &mut Figures) {
    let Some(jars) = jars().filter(|_| options.wants("debezium")) else { return };
    let (pool, count) = (servers.pool().await, options.size(200_000, 40_000));
    let mut rates = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..options.size(ROUNDS, 1) {
        let table = Table::new(&pool, servers).await;
        table.fill(&pool, count).await;
        let took = table.debezium(&jars, servers, count).await;
        rates[0].push(workload::per_second(count, took));
        for (rates, delivery) in rates[1..].iter_mut().zip(Delivery::BOTH) {
            rates.push(workload::per_second(
                count,
                drain::drain(table.relay(&pool, servers, delivery), count).await,
            ));
        }
        table.drop(&pool).await;
    }
    for (who, rates) in ["debezium", "at-least-once", "exactly-once"].iter().zip(&rates) {
        let shown: Vec<String> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
        eprintln!("{:<44} {}", format!("{NAME}/debezium/{who}"), shown.join(" "));
    }
    let [debezium, ours @ ..] = rates.map(workload::middle);
    for (delivery, rate) in Delivery::BOTH.into_iter().zip(ours) {
        let figure = Figure::new(format!("{NAME}/debezium/{delivery}"), rate, "messages per second");
        figures.push(figure.baseline(debezium).limit(Limit::AtLeast(1.0)));
    }
    pool.close().await;
}

fn jars() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).map(PathBuf::from)
}

/// A table as the router expects it, a column that counts up for ours, and a replication slot.
struct Table {
    name: String,
    /// What all its rows are about.
    aggregate: String,
}

impl Table {
    async fn new(pool: &PgPool, servers: &Servers) -> Self {
        let name = unique("outbox").replace('-', "_");
        let table = Self { aggregate: name.clone(), name };
        servers.create(&table.destination()).await;
        let Self { name, .. } = &table;
        table
            .run(
                pool,
                &format!(
                    "create table {name} (id uuid primary key default gen_random_uuid(), aggregatetype varchar(255) not null,
                       aggregateid varchar(255) not null, type varchar(255) not null, payload jsonb not null,
                       seq bigint generated always as identity unique)"
                ),
            )
            .await;
        table.run(pool, &format!("create publication {name} for table {name}")).await;
        // Of what is written from now on.
        table.run(pool, &format!("select pg_create_logical_replication_slot('{name}', 'pgoutput')")).await;
        table
    }

    async fn fill(&self, pool: &PgPool, count: usize) {
        const TRANSACTION: usize = 1_000;
        let (Self { name, aggregate }, body) = (self, workload::message(0));
        let payload = std::str::from_utf8(body.payload()).expect("text");
        for first in (0..count).step_by(TRANSACTION) {
            let last = count.min(first + TRANSACTION) - 1;
            let text = format!(
                "insert into {name} (aggregatetype, aggregateid, type, payload)
                 select '{aggregate}', 'key-' || n % 1000, 'workload.measured', '{payload}'::jsonb
                 from generate_series({first}, {last}) n"
            );
            self.run(pool, &text).await;
        }
        self.run(pool, &format!("vacuum analyze {name}")).await;
        self.run(pool, "checkpoint").await;
    }

    /// From the first batch that the engine hands over until the last record is accepted and its offset noted: what its
    /// machine and its connector take to start is not counted.
    async fn debezium(&self, jars: &std::path::Path, servers: &Servers, count: usize) -> Duration {
        let address = servers.postgres.url().trim_start_matches("postgres://postgres@");
        let (address, database) = address.split_once('/').expect("a URL with a database");
        let (host, port) = address.split_once(':').expect("a URL with a port");
        let mut child = Command::new("java")
            .args(["-Xmx1g", "-cp"])
            .arg(format!("{}:{}/*", jars.display(), jars.display()))
            .args([CLASS, host, port, database, &self.name, servers.kafka.url(), &count.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("a Java runtime");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut said = async |expected: &str| loop {
            match lines.next_line().await.expect("a pipe") {
                Some(line) if line == expected => return Instant::now(),
                Some(_) => {}
                None => panic!("Debezium has ended before it said {expected:?}"),
            }
        };
        let first = said("first").await;
        let took = said("last").await - first;
        child.wait().await.expect("it is ours");
        took
    }

    fn relay(&self, pool: &PgPool, servers: &Servers, delivery: Delivery) -> Relay {
        let source = SqlSource::debezium().named(&self.name).offset("seq");
        Relay {
            delivery,
            pool: pool.clone(),
            brokers: servers.kafka.url().to_owned(),
            topic: self.name.clone(),
            group: unique("relay"),
            batch: BATCH,
            source: Some((source, DestinationFrom::template("outbox.event.${aggregatetype}"))),
        }
    }

    fn destination(&self) -> String {
        format!("outbox.event.{}", self.aggregate)
    }

    async fn drop(&self, pool: &PgPool) {
        let Self { name, .. } = self;
        self.run(pool, &format!("select pg_drop_replication_slot('{name}')")).await;
        self.run(pool, &format!("drop publication {name}")).await;
    }

    async fn run(&self, pool: &PgPool, text: &str) {
        sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(pool).await.expect("a table of ours");
    }
}
