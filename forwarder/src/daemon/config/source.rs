//! [`Source`]: the database that envelopes are read from.

use std::time::Duration;

use watermill_forwarder::ForwarderConfig;
use watermill_sql::{
    CommitOrder, SqlNeeds, SqlPublisherConfig, SqlQueueSubscriberConfig, SqlSource, SqlSubscriberConfig,
    SqlUrl,
};

use super::{reader::Reader, table};

/// Where envelopes are read.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) url: SqlUrl,
    pub(crate) layout: Layout,
    pub(crate) topic: String,
    group: Option<String>,
    /// Where it keeps what cannot be forwarded.
    pub(crate) dead_letter_topic: String,
    /// Whether missing tables are made.
    pub(crate) create_tables: bool,
    /// The table that has the messages, where it is not one of Watermill's.
    pub(crate) table: Option<SqlSource>,
    pub(crate) shards: bool,
}

/// What the topic is, with how it is read.
#[derive(Debug)]
pub(crate) enum Layout {
    Log(SqlSubscriberConfig),
    Queue(SqlQueueSubscriberConfig),
}

/// How long a connection is waited for, before what is tried is tried again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The most rows of one fetch.
const FETCH_MAX: usize = 1_000;

pub(super) fn read(reader: &mut Reader<'_>, forwarder: &ForwarderConfig) -> Option<Source> {
    let url = reader.url("source").and_then(|url| match SqlUrl::new(url) {
        Ok(url) => Some(url),
        Err(error) => {
            reader.check("source", Err(error));
            None
        }
    });
    let password = reader.password("source");
    let create_tables = reader.flag("source.create_tables");
    let (lease, poll) = (reader.duration("source.lease"), reader.duration("source.poll_interval_max"));
    let fetch = forwarder.batch_size.clamp(1, FETCH_MAX);
    let dead_letter_topic = forwarder.dead_letter_topic.clone();
    let table = table::read(reader, &forwarder.topic);
    let layout = if reader.text("source.layout").as_deref() == Some("queue") {
        reader.no_use("source", &["group", "commit_order"], "a queue");
        if forwarder.shards.is_some() {
            reader.problem("shards", "they mean nothing to a queue, which any number of processes work on");
        }
        let mut config = SqlQueueSubscriberConfig::default()
            .batch_size(fetch)
            .visibility_timeout(lease)
            .poll_interval_max(poll)
            .dead_letter_topic(&*dead_letter_topic)
            .initialize_schema(create_tables);
        if let Some(table) = &table {
            config = config.source(table.clone());
        }
        reader.check("source", config.validate());
        Layout::Queue(config)
    } else {
        let commit_order = match reader.text("source.commit_order").as_deref() {
            Some("lock-holders") => CommitOrder::LockHolders,
            Some("snapshot") => CommitOrder::Snapshot,
            _ => CommitOrder::Auto,
        };
        let mut config = SqlSubscriberConfig::default()
            .batch_size(fetch)
            .lease(lease)
            .poll_interval_max(poll)
            .commit_order(commit_order)
            .dead_letter_topic(&*dead_letter_topic)
            .initialize_schema(create_tables);
        if let Some(table) = &table {
            config = config.source(table.clone());
        }
        if let Some(group) = reader.text("source.group") {
            config = config.group(group);
        }
        reader.check("source", config.validate());
        Layout::Log(config)
    };
    let connections = u32::try_from(reader.count("source.connections")).unwrap_or(u32::MAX);
    if connections < 2 {
        reader.problem("source.connections", "less than two: it fetches and records side by side");
    }
    let url = url?
        .application_name("watermill-forwarder")
        .connections(connections)
        .acquire_timeout(CONNECT_TIMEOUT);
    let url = match password {
        Some(password) => url.password(password.0),
        None => url,
    };
    Some(Source {
        url,
        layout,
        topic: forwarder.topic.clone(),
        group: reader.text("source.group"),
        dead_letter_topic,
        create_tables,
        table,
        shards: forwarder.shards.is_some(),
    })
}

impl Source {
    /// How to publish to the topic, and to others beside it.
    pub(crate) fn publisher(&self) -> SqlPublisherConfig {
        let layout = match self.layout {
            Layout::Log(_) => watermill_sql::Layout::Log,
            Layout::Queue(_) => watermill_sql::Layout::Queue,
        };
        SqlPublisherConfig::default().layout(layout).initialize_schema(self.create_tables)
    }

    /// What the account must be allowed to do.
    pub(crate) fn needs(&self) -> SqlNeeds {
        let layout = match self.layout {
            Layout::Log(_) => watermill_sql::Layout::Log,
            Layout::Queue(_) => watermill_sql::Layout::Queue,
        };
        SqlNeeds::new(&*self.topic, layout, &*self.dead_letter_topic)
            .create_tables(self.create_tables)
            .source(self.table.clone())
            .shards(self.shards)
    }

    /// The consumer group of a log, as its offsets table has it.
    pub(crate) fn group(&self) -> &str {
        match &self.group {
            Some(group) => group,
            // What Go's library defaults to.
            None if self.url.database() == "sqlite" => "default",
            None => "",
        }
    }
}
