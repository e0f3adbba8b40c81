//! One transaction for a batch.

use std::time::Duration;

use watermill_core::{Handler, MessageId, State, delivery::Outcome};
use watermill_sql::Tx;
use watermill_testkit::ScriptedSubscriber;

use super::*;

/// What a batch function has seen: how often it ran, and with how many messages the last time.
#[derive(Clone, Default)]
struct Seen {
    runs: Count,
    ids: Arc<std::sync::Mutex<Vec<String>>>,
}

/// Writes all effects; those of messages called `bad` fail.
async fn bill<S: Server>(
    mut tx: Tx<S::Database>,
    ids: Vec<MessageId>,
    State(seen): State<Seen>,
) -> Vec<Result<Message, BoxError>> {
    seen.runs.up();
    *seen.ids.lock().unwrap() = ids.iter().map(ToString::to_string).collect();
    let mut outcomes = Vec::new();
    for id in &ids {
        let written = S::write(&mut tx, &format!("insert into effects values ('{id}')")).await;
        outcomes.push(match id.starts_with("bad") {
            true => Err("it is bad".into()),
            false => written.map_err(Into::into).and_then(|()| invoice(id.as_str())),
        });
    }
    outcomes
}

async fn handle<S: Server>(
    inbox: &SqlInbox<S::Database>,
    ids: &[&str],
    seen: &Seen,
) -> Vec<(String, Outcome)> {
    let source = ScriptedSubscriber::new().redeliver(false);
    ids.iter().for_each(|id| source.push(message(id)));
    let handler = Handler::batch("bill", ids.len(), Duration::from_secs(60), inbox.batch(bill::<S>))
        .from(source.clone(), "orders")
        .to_topic("invoices");
    let router = Router::new().with_state(seen.clone()).add(handler);
    let control = router.control();
    let task = tokio::spawn(router.run());
    tokio::time::timeout(watermill_testkit::patience(), source.settled(ids.len())).await.expect("settled");
    control.stop();
    task.await.unwrap().unwrap();
    source.outcomes().into_iter().map(|(id, outcome)| (id.to_string(), outcome)).collect()
}

pub(crate) async fn a_batch_is_one_transaction<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let (inbox, seen) = (inbox::<S>(&pool, SqlInboxConfig::default()), Seen::default());
    let outcomes = handle::<S>(&inbox, &["1", "2", "3"], &seen).await;
    assert!(outcomes.iter().all(|(_, outcome)| *outcome == Outcome::Ack), "{outcomes:?}");
    assert_eq!((effects::<S>(&pool).await, invoices::<S>(&pool).await, marks::<S>(&pool).await), (3, 3, 3));
}

pub(crate) async fn what_fails_leaves_the_rest_of_its_batch_alone<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let (inbox, seen) = (inbox::<S>(&pool, SqlInboxConfig::default()), Seen::default());
    for (id, outcome) in handle::<S>(&inbox, &["1", "bad", "2", "bad too"], &seen).await {
        assert_eq!(outcome == Outcome::Ack, !id.starts_with("bad"), "{id}: {outcome:?}");
    }
    assert_eq!(*seen.ids.lock().unwrap(), ["1", "2"]);
    assert_eq!((effects::<S>(&pool).await, invoices::<S>(&pool).await, marks::<S>(&pool).await), (2, 2, 2));
}

pub(crate) async fn duplicates_are_not_in_the_batch<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let (inbox, seen) = (inbox::<S>(&pool, SqlInboxConfig::default()), Seen::default());
    handle::<S>(&inbox, &["1", "2"], &seen).await;
    // One that was handled before, and one that comes twice at once.
    let outcomes = handle::<S>(&inbox, &["2", "3", "3", "4"], &seen).await;
    assert!(outcomes.iter().all(|(_, outcome)| *outcome == Outcome::Ack), "{outcomes:?}");
    assert_eq!(*seen.ids.lock().unwrap(), ["3", "4"]);
    let runs = seen.runs.get();
    handle::<S>(&inbox, &["4", "3"], &seen).await;
    assert_eq!(seen.runs.get(), runs, "a batch of nothing is not run");
    assert_eq!((effects::<S>(&pool).await, invoices::<S>(&pool).await, marks::<S>(&pool).await), (4, 4, 4));
}
