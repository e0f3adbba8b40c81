//! A database that is named by its URL.
#![cfg(feature = "sqlite")]

use watermill_core::{Message, PublisherExt};
use watermill_sql::{Layout, SqlNeeds, SqlPool, SqlPublisherConfig, SqlSubscriberConfig, SqlUrl};

fn pool(folder: &tempfile::TempDir) -> SqlPool {
    let file = folder.path().join("a.db");
    SqlUrl::new(format!("sqlite:{}", file.display())).unwrap().connect()
}

#[tokio::test]
async fn rows_that_are_taken_are_gone_and_published_elsewhere_once() {
    let folder = tempfile::tempdir().unwrap();
    let pool = pool(&folder);
    let publisher = pool.publisher(SqlPublisherConfig::default()).unwrap();
    for text in ["one", "two", "three"] {
        publisher.publish_one("dead", Message::new(text).with_key("k")).await.unwrap();
    }
    let dead = pool.peek("dead", 0, 10).await.unwrap();
    let (first, second) = (dead[0].offset, dead[1].offset);

    let again = vec![(first, Some(dead[0].message.clone())), (second, None)];
    let take = || pool.take("dead", again.clone(), ("orders", SqlPublisherConfig::default()));
    assert_eq!(take().await.unwrap(), 2);
    assert_eq!(take().await.unwrap(), 0, "what is gone is not taken twice");

    let left: Vec<_> = pool.peek("dead", 0, 10).await.unwrap();
    assert_eq!(left.iter().map(|row| row.message.payload()).collect::<Vec<_>>(), ["three"]);
    let again = pool.peek("orders", 0, 10).await.unwrap();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].message.id(), dead[0].message.id());
    assert_eq!(again[0].message.key().unwrap(), "k");
}

#[tokio::test]
async fn a_gauge_tells_who_is_held_back_without_a_type_of_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let (subscriber, held_back) = pool(&folder).subscriber_and_gauge(SqlSubscriberConfig::default()).unwrap();
    let subscription = subscriber.subscribe("orders").await.unwrap();
    assert_eq!(held_back(), []);
    subscription.close().await.unwrap();
}

#[test]
fn the_debug_form_shows_no_password() {
    let url = SqlUrl::new("sqlite:a.db").unwrap().password("hunter2");
    assert!(!format!("{url:?}").contains("hunter2"));
}

#[tokio::test]
async fn what_a_reader_lacks_is_told_table_by_table() {
    let folder = tempfile::tempdir().unwrap();
    let pool = pool(&folder);
    let needs = SqlNeeds::new("orders", Layout::Log, "dead");
    let missing = pool.missing(&needs).await.unwrap();
    assert_eq!(missing.len(), 4, "{missing:#?}");
    assert!(missing[0].contains("watermill_orders"), "{missing:#?}");
    assert_eq!(pool.missing(&needs.clone().create_tables(true)).await.unwrap(), [""; 0]);

    let config = SqlSubscriberConfig::default().dead_letter_topic("dead");
    pool.subscriber(config).unwrap().initialize("orders").await.unwrap();
    assert_eq!(pool.missing(&needs).await.unwrap(), [""; 0]);
}
