//! What was given up is listed by cause, sent again, archived and deleted.

use serde_json::Value;
use watermill_core::{Message, Publisher};
use watermill_forwarder::ForwarderPublisher;
use watermill_sql::SqlPublisherConfig;

use crate::support::{Place, SQLITE, text, wait_until};

/// As what the destination is refuses everything that is no JSON.
const REFUSING: [&str; 4] =
    ["--set", "relay.shop.destination.payload=json", "--set", "relay.shop.attempts=1"];

impl Place {
    async fn publish_with_ids(&self, messages: impl IntoIterator<Item = (String, &'static str)>) {
        let publisher =
            ForwarderPublisher::new(self.outbox.publisher(SqlPublisherConfig::default()).unwrap());
        let messages = messages.into_iter().map(|(id, payload)| Message::with_id(id, payload).with_key("k"));
        publisher.publish("orders", messages.collect()).await.unwrap();
    }

    /// Lets so many messages be given up.
    async fn with_dead_letters(count: usize) -> Self {
        let place = Self::with(SQLITE).await;
        let daemon = place.start_with(&REFUSING, &[]);
        let messages = (0..count).map(|number| (format!("bad-{number}"), "no JSON"));
        place.publish_with_ids(messages.chain([("good".to_owned(), "{}")])).await;
        place.await_arrived("orders", 1).await;
        place.await_letters(count).await;
        let counted =
            format!("watermill_forwarder_dead_lettered_total{{relay=\"shop\",reason=\"message\"}} {count}\n");
        // They are counted a moment after they are there.
        wait_until(&counted, async || daemon.get("/metrics").await.1.contains(&counted)).await;
        daemon.stop().await;
        place
    }

    fn letters(&self, args: &[&str]) -> Value {
        let told = self.verb(&[&["dead-letters"][..], args, &["--json"]].concat());
        assert_eq!(told.status.code(), Some(0), "{}", text(&told.stderr));
        serde_json::from_slice(&told.stdout).unwrap()
    }

    async fn await_letters(&self, count: usize) {
        wait_until(&format!("{count} dead letters"), async || {
            self.letters(&["list", "--one-by-one"]).as_array().unwrap().len() == count
        })
        .await;
    }
}

#[tokio::test]
async fn letters_are_listed_by_cause_and_sent_again_with_their_ids_and_keys() {
    let place = Place::with_dead_letters(3).await;
    let groups = place.letters(&["list"]);
    let group = &groups["groups"][0];
    assert_eq!(groups["groups"].as_array().unwrap().len(), 1, "{groups:#}");
    assert_eq!(
        (&group["destination"], &group["kind"], &group["count"]),
        (&"orders".into(), &"message".into(), &3.into())
    );
    assert!(group["first_seen_ms"].is_u64() && group["example"]["id"] == "bad-0", "{group:#}");

    let shown = text(&place.verb(&["dead-letters", "show", "bad-1"]).stdout);
    assert!(shown.contains("destination   orders\n") && shown.ends_with("\nno JSON\n"), "{shown}");

    let nothing_said = place.verb(&["dead-letters", "redrive"]);
    assert_eq!(nothing_said.status.code(), Some(1));
    let dry = place.letters(&["redrive", "--all", "--dry-run"]);
    assert_eq!((&dry["matched"], &dry["done"]), (&3.into(), &0.into()));

    let one = place.letters(&["redrive", "--id", "bad-1"]);
    assert_eq!((&one["matched"], &one["done"], &one["overtaken"]), (&1.into(), &1.into(), &1.into()));
    let group = group["group"].as_str().unwrap().to_owned();
    let rest = place.letters(&["redrive", "--group", &group[..8], "--rate", "1000"]);
    assert_eq!(rest["done"], 2);
    assert_eq!(place.letters(&["list"])["groups"], serde_json::json!([]));

    let daemon = place.start();
    place.await_arrived("orders", 4).await;
    daemon.stop().await;
    let arrived = place.arrived("orders").await;
    let ids: Vec<&str> = arrived.iter().map(|row| row.message.id().as_str()).collect();
    assert_eq!(ids, ["good", "bad-1", "bad-0", "bad-2"]);
    assert!(arrived.iter().all(|row| row.message.key().unwrap() == "k"));
    assert!(arrived[1].message.metadata().is_empty(), "the original is untouched");
}

#[tokio::test]
async fn a_second_failure_is_told() {
    let place = Place::with_dead_letters(2).await;
    assert_eq!(place.letters(&["redrive", "--id", "bad-0"])["done"], 1);
    let daemon = place.start_with(&REFUSING, &[]);
    place.publish_with_ids([("better".to_owned(), "{}")]).await;
    place.await_letters(2).await;
    daemon.stop().await;

    let groups = place.letters(&["list"]);
    assert_eq!((&groups["groups"][0]["count"], &groups["groups"][0]["failed_again"]), (&2.into(), &1.into()));
    let again = place.letters(&["show", "bad-0"]);
    assert_eq!(again["redriven"], 1, "{again:#}");
    assert!(again["first_failed_at_ms"].as_u64() < again["failed_at_ms"].as_u64(), "{again:#}");
    let told = place.verb(&["dead-letters", "redrive", "--all"]);
    assert!(text(&told.stdout).contains("1 of them had been sent again before"), "{}", text(&told.stdout));
}

#[tokio::test]
async fn letters_are_archived_and_deleted() {
    let place = Place::with_dead_letters(3).await;
    assert_eq!(place.letters(&["archive", "--id", "bad-0"])["done"], 1);
    let archived = place.outbox.peek("forwarder_dead_letter_archive", 0, 10).await.unwrap();
    assert_eq!(archived.len(), 1);
    assert!(archived[0].message.metadata().get("reason_poisoned").is_some(), "the story goes along");
    assert_eq!(place.letters(&["delete", "--destination", "invoices"])["matched"], 0);
    assert_eq!(place.letters(&["delete", "--kind", "message"])["done"], 2);
    assert_eq!(place.letters(&["list"])["groups"], serde_json::json!([]));
    assert_eq!(text(&place.verb(&["dead-letters", "list"]).stdout), "there are no dead letters\n");
}
