//! The outbox on SQLite: a row and its event in one transaction, and a relay that is killed.

use std::{collections::HashMap, time::Duration};

use futures::StreamExt;
use sqlx::{
    Row, Sqlite, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use watermill_core::{
    FailurePolicy, MemoryBroker, Message, Publisher, Router, State, Subscriber,
    cqrs::{CommandBus, CommandProcessor, EventBus, Events, Named, Topics, TypedBus},
    error::{BoxError, PublishErrorKind},
    router::Phase,
};
use watermill_forwarder::{
    DEFAULT_TOPIC, Envelope, Forwarder, ForwarderConfig, ForwarderError, ForwarderPublisher, ForwarderReport,
};
use watermill_sql::{SqlInbox, SqlInboxConfig, SqlPublisher, SqlSubscriber, SqlSubscriberConfig, Tx};
use watermill_testkit::{RecordingPublisher, patience};

/// A database with an outbox and a table of orders.
struct Shop {
    pool: SqlitePool,
    _folder: TempDir,
}

impl Shop {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(folder.path().join("shop.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal);
        let pool = SqlitePool::connect_with(options).await.unwrap();
        sqlx::query("create table orders (id integer primary key)").execute(&pool).await.unwrap();
        let shop = Self { pool, _folder: folder };
        shop.outbox().initialize(DEFAULT_TOPIC).await.unwrap();
        shop
    }

    fn outbox(&self) -> SqlSubscriber<Sqlite> {
        let config = SqlSubscriberConfig::default().group("relay").lease(Duration::from_secs(1));
        SqlSubscriber::new(self.pool.clone(), config).unwrap()
    }

    /// Stores an order and announces it, in one transaction that is committed or not.
    async fn order(&self, id: i64, commit: bool) {
        let mut tx = self.pool.begin().await.unwrap();
        sqlx::query("insert into orders (id) values (?)").bind(id).execute(&mut *tx).await.unwrap();
        let event = Message::with_id(id.to_string(), vec![0xff, 0x00])
            .with_key(format!("customer-{}", id % 5))
            .with_metadata("a", "<b>");
        let publisher = ForwarderPublisher::new(SqlPublisher::in_transaction(&mut tx));
        publisher.publish("orders.placed", vec![event]).await.unwrap();
        drop(publisher);
        if commit {
            tx.commit().await.unwrap();
        }
    }

    async fn orders(&self) -> Vec<i64> {
        sqlx::query_scalar("select id from orders order by id").fetch_all(&self.pool).await.unwrap()
    }

    fn relay(&self, destination: &RecordingPublisher) -> Relay {
        let config = ForwarderConfig::default().batch_size(20);
        let forwarder = Forwarder::builder(self.outbox(), destination.clone()).config(config);
        let stop = CancellationToken::new();
        let running = forwarder.build().unwrap().run_until(stop.clone().cancelled_owned());
        Relay { stop, task: tokio::spawn(running) }
    }
}

struct Relay {
    stop: CancellationToken,
    task: JoinHandle<Result<ForwarderReport, ForwarderError>>,
}

impl Relay {
    async fn stop(self) -> ForwarderReport {
        self.stop.cancel();
        self.task.await.unwrap().unwrap()
    }

    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// An event, for a bus.
#[derive(serde::Serialize)]
struct OrderPlaced {
    id: u32,
}

impl Named for OrderPlaced {
    const NAME: &'static str = "OrderPlaced";
}

#[tokio::test]
async fn a_bus_publishes_within_a_transaction_what_is_relayed_if_that_is_committed() {
    let shop = Shop::open().await;
    let elsewhere = RecordingPublisher::new();
    let events = EventBus::new(elsewhere.clone(), Topics::prefixed("events."));
    for (id, commit) in [(1, false), (2, true)] {
        let mut tx = shop.pool.begin().await.unwrap();
        let outbox = ForwarderPublisher::new(SqlPublisher::in_transaction(&mut tx));
        events.through(outbox).publish(&OrderPlaced { id }).await.unwrap();
        if commit {
            tx.commit().await.unwrap();
        }
    }
    let destination = RecordingPublisher::new();
    let relay = shop.relay(&destination);
    destination.await_published(1).await;
    assert_eq!(relay.stop().await.forwarded, 1);
    let published = destination.published("events.OrderPlaced");
    assert_eq!(published[0].payload(), r#"{"id":2}"#);
    assert_eq!(published[0].metadata().get("name"), Some("OrderPlaced"));
    assert!(elsewhere.calls().is_empty());
}

/// A command, for a handler.
#[derive(serde::Serialize, serde::Deserialize)]
struct PlaceOrder {
    id: u32,
}

impl Named for PlaceOrder {
    const NAME: &'static str = "PlaceOrder";
}

#[tokio::test]
async fn a_handler_of_commands_has_its_row_and_its_event_in_one_atomic_step() {
    async fn place(
        command: PlaceOrder,
        mut tx: Tx<Sqlite>,
        State(placed): State<TypedBus<OrderPlaced, Events>>,
    ) -> Result<Message, BoxError> {
        sqlx::query("insert into orders (id) values (?)").bind(command.id).execute(&mut *tx).await?;
        if command.id == 1 {
            return Err("there is nothing left".into());
        }
        Ok(placed.message(&OrderPlaced { id: command.id })?)
    }
    let (shop, broker) = (Shop::open().await, MemoryBroker::new());
    let inbox = SqlInbox::new(shop.pool.clone(), SqlInboxConfig::default()).unwrap();
    let placed = SqlSubscriber::new(shop.pool.clone(), SqlSubscriberConfig::default()).unwrap();
    let mut placed = placed.subscribe("placed").await.unwrap();
    let events = EventBus::new(RecordingPublisher::new(), Topics::one("placed"));
    let commands = CommandProcessor::new(broker.subscriber(), Topics::by_name());
    let handler = commands
        .handler("place", place)
        .to_topic("placed")
        .layer(inbox.layer())
        .on_failure(FailurePolicy::retry(0).then_drop());
    let router = Router::new().with_state(events.typed::<OrderPlaced>().unwrap()).plugin(inbox).add(handler);
    let control = router.control();
    let running = tokio::spawn(router.run());
    control.reached(Phase::Running).await;
    let bus = CommandBus::new(broker.publisher(), Topics::by_name());
    bus.send_all(&[PlaceOrder { id: 1 }, PlaceOrder { id: 2 }]).await.unwrap();
    let event = timeout(patience(), placed.next()).await.expect("it comes in time").unwrap().unwrap();
    assert_eq!(event.payload(), r#"{"id":2}"#);
    event.ack();
    assert_eq!(shop.orders().await, [2]);
    placed.close().await.unwrap();
    control.stop();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_commit_publishes_the_row_and_its_event_and_a_rollback_neither() {
    let shop = Shop::open().await;
    shop.order(1, true).await;
    shop.order(2, false).await;
    shop.order(3, true).await;
    let destination = RecordingPublisher::new();
    let relay = shop.relay(&destination);
    destination.await_published(2).await;
    let report = relay.stop().await;

    assert_eq!(shop.orders().await, [1, 3]);
    assert_eq!(report.forwarded, 2);
    let events = destination.published("orders.placed");
    let expected = |id: &str, key: &str| {
        Message::with_id(id, vec![0xff, 0x00]).with_key(key.to_owned()).with_metadata("a", "<b>")
    };
    assert_eq!(events, [expected("1", "customer-1"), expected("3", "customer-3")]);
}

#[tokio::test]
async fn the_table_holds_the_envelope_that_go_reads() {
    let shop = Shop::open().await;
    shop.order(1, true).await;
    let row = sqlx::query("select uuid, payload, metadata from 'watermill_forwarder_topic'")
        .fetch_one(&shop.pool)
        .await
        .unwrap();
    let payload: Vec<u8> = row.get("payload");
    assert_eq!(
        String::from_utf8(payload.clone()).unwrap(),
        r#"{"destination_topic":"orders.placed","uuid":"1","payload":"/wA=","metadata":{"a":"\u003cb\u003e"}}"#
    );
    // Beside it: an id of its own, and the key.
    assert_ne!(row.get::<String, _>("uuid"), "1");
    assert_eq!(row.get::<String, _>("metadata"), r#"{"_watermill_key":"customer-1"}"#);
    assert_eq!(Envelope::from_json(&payload).unwrap().destination(), "orders.placed");
}

#[tokio::test]
async fn what_a_destination_refuses_is_kept_beside_the_outbox_and_not_read_again() {
    let shop = Shop::open().await;
    for id in 1..=3 {
        shop.order(id, true).await;
    }
    let destination = RecordingPublisher::new();
    // All three together, then 1 and its attempts.
    destination.fail_next(2, PublishErrorKind::Message);
    let config = ForwarderConfig::default().batch_size(20).attempts(1);
    let forwarder = Forwarder::builder(shop.outbox(), destination.clone()).config(config).build().unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(forwarder.run_until(stop.clone().cancelled_owned()));
    destination.await_published(2).await;
    let report = Relay { stop, task }.stop().await;
    assert_eq!((report.forwarded, report.dead_lettered), (2, 1));

    let row = sqlx::query("select payload, metadata from 'watermill_forwarder_dead_letter'")
        .fetch_one(&shop.pool)
        .await
        .unwrap();
    let envelope = Envelope::from_json(&row.get::<Vec<u8>, _>("payload")).unwrap();
    assert_eq!((envelope.destination(), envelope.message().id().as_str()), ("orders.placed", "1"));
    let metadata: String = row.get("metadata");
    assert!(metadata.contains("a message cannot be represented"), "{metadata}");

    let relay = shop.relay(&destination);
    shop.order(4, true).await;
    destination.await_published(3).await;
    assert_eq!(relay.stop().await.forwarded, 1, "nothing comes again");
}

#[tokio::test]
async fn an_envelope_written_by_go_is_forwarded() {
    let shop = Shop::open().await;
    let json = r#"{"destination_topic":"orders.placed","uuid":"u1","payload":"AP8B","metadata":null}"#;
    let row = "insert into 'watermill_forwarder_topic' (uuid, created_at, payload, metadata)
               values ('d2c1', '2024-05-01T10:00:00Z', ?, '{}')";
    sqlx::query(row).bind(json.as_bytes()).execute(&shop.pool).await.unwrap();
    let destination = RecordingPublisher::new();
    let relay = shop.relay(&destination);
    destination.await_published(1).await;
    relay.stop().await;
    assert_eq!(destination.published("orders.placed"), [Message::with_id("u1", vec![0x00, 0xff, 0x01])]);
}

#[tokio::test]
async fn a_graceful_stop_leaves_nothing_to_forward_again() {
    let shop = Shop::open().await;
    let destination = RecordingPublisher::new();
    for round in 0..3 {
        for id in round * 30..(round + 1) * 30 {
            shop.order(id, true).await;
        }
        let relay = shop.relay(&destination);
        destination.await_published(30 * (round as usize + 1)).await;
        relay.stop().await;
    }
    let ids: Vec<_> =
        destination.published("orders.placed").iter().map(|event| event.id().to_string()).collect();
    assert_eq!(ids, (0..90).map(|id: i32| id.to_string()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_killed_again_and_again_loses_nothing_and_keeps_the_order_of_each_key() {
    const KILLS: usize = 8;
    const IN_HAND: usize = 2 * 20;
    let shop = Shop::open().await;
    // Orders are placed while relays come and go, and every seventh is rolled back.
    let enough = CancellationToken::new();
    let placing = async {
        for id in 0.. {
            shop.order(id, id % 7 != 3).await;
            if enough.is_cancelled() {
                break;
            }
        }
    };
    let destination = RecordingPublisher::new().with_latency(Duration::from_millis(2));
    let relaying = async {
        for kill in 1..=KILLS {
            let relay = shop.relay(&destination);
            // In the middle of a call: it has begun, and its answer is on its way.
            destination.await_calls(3 * kill).await;
            relay.kill().await;
        }
        enough.cancel();
        shop.relay(&destination)
    };
    let ((), relay) = tokio::join!(placing, relaying);

    let committed = shop.orders().await;
    let mut first_arrivals: Vec<i64> = Vec::new();
    let mut expect = committed.len();
    while first_arrivals.len() < committed.len() {
        first_arrivals.clear();
        for (_, event) in destination.await_published(expect).await {
            let id = event.id().parse().unwrap();
            if !first_arrivals.contains(&id) {
                first_arrivals.push(id);
            }
        }
        expect = destination.all_published().len() + 1;
    }
    relay.stop().await;

    let mut by_key: HashMap<i64, Vec<i64>> = HashMap::new();
    for id in &first_arrivals {
        by_key.entry(id % 5).or_default().push(*id);
    }
    assert!(by_key.values().all(|ids| ids.is_sorted()), "{by_key:?}");
    first_arrivals.sort_unstable();
    assert_eq!(first_arrivals, committed, "what was committed has arrived, and nothing else");
    let duplicates = destination.all_published().len() - committed.len();
    assert!(duplicates <= KILLS * IN_HAND, "{duplicates} duplicates");
}
