//! What rows hold that our own tables cannot.

use super::{outbox::id, *};

/// A table of text, with keys of a length that no column of ours has.
const TEXTS: &str = "create table texts (id varchar(200) primary key, payload varchar(100))";

fn long_id(n: u32) -> String {
    format!("{}-{n}", "order".repeat(30))
}

fn texts() -> SqlSource {
    SqlSource::table("texts").after_ack(AfterAck::Delete)
}

pub(crate) async fn a_row_without_a_value_is_a_tombstone_and_one_with_an_empty_one_is_not<S: Outbox>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    S::execute(&pool, TEXTS).await;
    S::execute(&pool, "insert into texts values ('1', null), ('2', '')").await;
    let mut subscription = queue::<S>(&pool, texts()).subscribe("texts").await.unwrap();
    let mut are_tombstones = std::collections::BTreeMap::new();
    for _ in 0..2 {
        let delivery = next(&mut subscription).await;
        assert!(delivery.payload().is_empty());
        are_tombstones.insert(delivery.id().to_string(), delivery.message().is_tombstone());
        delivery.ack_confirmed().await.unwrap();
    }
    assert_eq!(
        are_tombstones.into_iter().collect::<Vec<_>>(),
        [("1".to_owned(), true), ("2".to_owned(), false)]
    );

    S::execute(&pool, &format!("insert into outbox (id, customer) values ('{}', 'c-7')", id(7))).await;
    let mut subscription = log::<S>(&pool, outbox::source()).subscribe("outbox").await.unwrap();
    let delivery = next(&mut subscription).await;
    assert!(delivery.message().is_tombstone());
    assert_eq!(delivery.key().unwrap(), "c-7");
}

pub(crate) async fn an_id_that_is_longer_than_ours_is_delivered_and_its_dead_letter_has_it<S: Outbox>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    S::execute(&pool, S::LONG_IDS).await;
    for n in 1..3 {
        S::execute(&pool, &format!("insert into long_ids (id, payload) values ('{}', '{n}')", long_id(n)))
            .await;
    }
    let source = || SqlSource::table("long_ids").offset("seq").topic("l").after_ack(AfterAck::Delete);
    let read = log::<S>(&pool, source()).with_dead_letters("dead_log").unwrap();
    let work = queue::<S>(&pool, source().topic("q")).with_dead_letters("dead_queue").unwrap();
    for (subscriber, topic) in [(read, "l"), (work, "q")] {
        let mut subscription = subscriber.subscribe(topic).await.unwrap();
        let delivery = next(&mut subscription).await;
        assert_eq!(delivery.id().as_str(), long_id(if topic == "l" { 1 } else { 2 }));
        delivery.reject("no");
        within("the row that is moved", async {
            while S::number(&pool, "select count(*) from long_ids").await != i64::from(topic == "l") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        subscription.close().await.unwrap();
    }
    for dead in ["dead_log", "dead_queue"] {
        let letters = watermill_sql::SqlStatus::new(pool.clone()).peek(dead, 0, 9).await.unwrap();
        let [letter] = &letters[..] else { panic!("{letters:?}") };
        let n = if dead == "dead_log" { 1 } else { 2 };
        assert_eq!(letter.message.metadata().get("uuid_poisoned"), Some(&*long_id(n)));
    }
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_row_that_was_published_at_the_end_of_all_times_is_read_like_any_other() {
    use crate::databases::TestDatabase as _;

    type S = crate::databases::postgres_database::Database;
    let server = S::default();
    let pool = server.with_outbox().await;
    outbox::fill::<S>(&pool, 0..2).await;
    S::execute(&pool, "update outbox set written_at = 'infinity' where kind = 'placed' and seq = 1").await;
    let source = || outbox::source().published_at("written_at");
    let mut subscription = log::<S>(&pool, source()).subscribe("outbox").await.unwrap();
    assert_eq!(read(&mut subscription, 2).await, ["0", "1"]);

    S::execute(&pool, "create table moments (id uuid primary key, payload text, written_at timestamp)").await;
    let insert = format!("insert into moments values ('{}', 'of no time', '-infinity')", id(7));
    S::execute(&pool, &insert).await;
    let source = SqlSource::table("moments").published_at("written_at").after_ack(AfterAck::Delete);
    let mut subscription = queue::<S>(&pool, source).subscribe("moments").await.unwrap();
    assert_eq!(read(&mut subscription, 1).await, ["of no time"]);
}
