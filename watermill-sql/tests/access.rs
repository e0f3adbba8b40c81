//! What an account lacks for reading, on every database.

#![cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]

#[expect(dead_code, reason = "nothing of this suite is inside a transaction, or counts")]
#[macro_use]
#[path = "databases/mod.rs"]
mod databases;

use databases::TestDatabase;
use sqlx::ConnectOptions as _;
use watermill_core::Subscriber as _;
use watermill_sql::{
    Layout, SqlNeeds, SqlQueueSubscriber, SqlQueueSubscriberConfig, SqlSubscriber, SqlSubscriberConfig,
    SqlUrl,
};

mod tables {
    use super::*;

    /// An insert of a whole row would write what the database makes by itself.
    pub(crate) async fn a_column_that_the_database_makes_is_no_reason_not_to_insert<S: TestDatabase>() {
        let server = S::default();
        let pool = server.connect().await;
        let config = SqlSubscriberConfig::default().dead_letter_topic("dead");
        SqlSubscriber::new(pool.clone(), config).unwrap().initialize("log").await.unwrap();
        let queue = SqlQueueSubscriberConfig::default().dead_letter_topic("worked_on");
        SqlQueueSubscriber::new(pool.clone(), queue).unwrap().initialize("queue").await.unwrap();
        let ordered = SqlQueueSubscriberConfig::default().ordered_by_key(true);
        SqlQueueSubscriber::new(pool.clone(), ordered).unwrap().initialize("worked_on").await.unwrap();
        let size = "alter table watermill_dead add column size int generated always as (length(uuid))";
        let url = pool.connect_options().to_url_lossy().to_string();
        let kind = if url.starts_with("sqlite") { "virtual" } else { "stored" };
        S::execute(&pool, &format!("{size} {kind}")).await;

        let url = SqlUrl::new(url).unwrap().connect();
        for needs in
            [SqlNeeds::new("log", Layout::Log, "dead"), SqlNeeds::new("queue", Layout::Queue, "worked_on")]
        {
            assert_eq!(url.missing(&needs).await.unwrap(), [""; 0]);
        }
    }
}

on_every_database! {
    tables::a_column_that_the_database_makes_is_no_reason_not_to_insert,
}
