//! Several active processes of one relay.

use std::collections::BTreeMap;

use serde_json::Value;
use watermill_core::{Message, Publisher};
use watermill_forwarder::ForwarderPublisher;
use watermill_sql::SqlPublisherConfig;

use crate::support::{Place, SQLITE, text, wait_until};

const SHARDS: [&str; 4] = ["--set", "relay.shop.shards=3", "--set", "relay.shop.source.lease=1s"];

impl Place {
    async fn publish_by_key(&self, numbers: std::ops::Range<usize>) {
        let publisher =
            ForwarderPublisher::new(self.outbox.publisher(SqlPublisherConfig::default()).unwrap());
        let message =
            |number: usize| Message::new(number.to_string()).with_key(format!("customer-{}", number % 7));
        publisher.publish("orders", numbers.map(message).collect()).await.unwrap();
    }

    fn shards(&self, args: &[&str]) -> Value {
        let told = self.verb(&[&["shards", "--json"][..], args].concat());
        assert_eq!(told.status.code(), Some(0), "{}", text(&told.stderr));
        serde_json::from_slice(&told.stdout).unwrap()
    }
}

#[tokio::test]
async fn processes_share_the_keys_and_the_number_of_shards_is_changed_while_they_are_killed() {
    let place = Place::with(SQLITE).await;
    let none = place.verb(&["shards"]);
    assert_eq!(none.status.code(), Some(1), "{}", text(&none.stdout));
    assert!(text(&none.stderr).contains("not read in shards"), "{}", text(&none.stderr));

    place.publish_by_key(0..500).await;
    let mut daemons = vec![place.start_with(&SHARDS, &[]), place.start_with(&SHARDS, &[])];
    wait_until("three shards", async || place.verb(&["shards"]).stdout == b"3 shards\n").await;
    for (wanted, more) in [(5, 500..1_000), (2, 1_000..1_500)] {
        place.shards(&[&wanted.to_string()]);
        place.publish_by_key(more).await;
        daemons.remove(0).kill().await;
        daemons.push(place.start_with(&SHARDS, &[]));
        let changed = format!("{wanted} shards");
        wait_until(&changed, async || {
            let shards = place.shards(&[]);
            (&shards["now"], &shards["wanted"]) == (&wanted.into(), &wanted.into())
        })
        .await;
    }
    let numbers = async || -> Vec<usize> {
        let arrived = place.arrived("orders").await;
        arrived.iter().map(|row| text(row.message.payload()).parse().unwrap()).collect()
    };
    wait_until("everything", async || {
        numbers().await.into_iter().collect::<std::collections::BTreeSet<_>>().len() == 1_500
    })
    .await;
    let status = || -> Value {
        let told = place.verb(&["status", "--json", "--set", "admin.listen=127.0.0.1:1"]);
        serde_json::from_slice(&told.stdout).unwrap()
    };
    wait_until("both shards to be read", async || {
        let status = status();
        let shards = status["relays"][0]["holds"]["shards"].as_array().cloned().unwrap_or_default();
        shards.len() == 2 && shards.iter().all(|shard| shard["active"].is_string())
    })
    .await;
    // Another look: a shard may be between two readers in one of them.
    wait_until("the table to tell of both", async || {
        text(&place.verb(&["status", "--set", "admin.listen=127.0.0.1:1"]).stdout).contains("2 of 2 shards")
    })
    .await;
    for daemon in daemons {
        daemon.stop().await;
    }

    let mut last: BTreeMap<usize, usize> = BTreeMap::new();
    for number in numbers().await {
        let newest = last.entry(number % 7).or_insert(number);
        // What is repeated is not newer; what is newer is the next of its key.
        assert!(number <= *newest || number == *newest + 7, "{number} came after {newest}");
        *newest = number.max(*newest);
    }
}

#[tokio::test]
async fn a_number_of_shards_that_is_refused_is_not_taken_for_a_source_that_is_away() {
    let place = Place::with(SQLITE).await;
    for (count, code, said) in [("65", 2, "1..=64"), ("2", 1, "does not read in shards")] {
        let refused = place.verb(&["shards", count]);
        assert_eq!(refused.status.code(), Some(code), "{}", text(&refused.stderr));
        assert!(text(&refused.stderr).contains(said), "{}", text(&refused.stderr));
    }
}

#[tokio::test]
async fn a_queue_has_no_shards() {
    let place = Place::with(SQLITE).await;
    let set = ["--set", "relay.shop.shards=3", "--set", "relay.shop.source.layout=queue"];
    let checked = place.verb(&[&["check"][..], &set].concat());
    assert_eq!(checked.status.code(), Some(3));
    assert!(text(&checked.stderr).contains("relay.shop.shards: "), "{}", text(&checked.stderr));
}
