//! What is larger than the server takes at once, which it answers by closing the connection. On a server of the test's
//! own, because the limit is the server's.

use watermill_core::delivery::Outcome;
use watermill_sql::{Layout, SqlQueueSubscriber, SqlQueueSubscriberConfig, SqlStatus};
use watermill_testkit::{PrivateServer, Service};

use super::*;

const LIMITS: [usize; 2] = [64 * 1024, 1024 * 1024];

/// The server, a database there, and a pool of one connection whose packets are limited.
async fn limited(server: &PrivateServer, limit: usize) -> (Database, MySqlPool) {
    let database = Database::on(server.url());
    let pool = database.pool().await;
    execute(&pool, &format!("set global max_allowed_packet = {limit}")).await;
    pool.close().await;
    let pool = sqlx::mysql::MySqlPoolOptions::new().max_connections(1);
    let pool = pool.connect_with(database.options.clone()).await.unwrap();
    (database, pool)
}

async fn server() -> PrivateServer {
    tokio::task::spawn_blocking(|| PrivateServer::start(Service::MYSQL)).await.unwrap()
}

/// JSON of so many bytes.
fn large(bytes: usize) -> Message {
    Message::new(format!("\"{}\"", "x".repeat(bytes - 2)))
}

async fn connection_id(pool: &MySqlPool) -> i64 {
    sqlx::query_scalar("select cast(connection_id() as signed)").fetch_one(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_larger_than_a_packet_is_refused_before_it_is_sent() {
    let server = server().await;
    for limit in LIMITS {
        let (_database, pool) = limited(&server, limit).await;
        for layout in [Layout::Log, Layout::Queue] {
            let topic = format!("{layout:?}").to_lowercase();
            let config = SqlPublisherConfig::default().layout(layout);
            let publisher = SqlPublisher::new(pool.clone(), config.clone()).unwrap();
            publisher.initialize(&topic).await.unwrap();
            let before = connection_id(&pool).await;
            for messages in [vec![large(limit)], vec![large(10), large(2 * limit), large(10)]] {
                let error = publisher.publish(&topic, messages.clone()).await.unwrap_err();
                assert_eq!(error.kind(), PublishErrorKind::Message, "{error}");
                assert_eq!((error.is_retryable(), error.not_accepted()), (false, &NotAccepted::All));
                assert!(error.to_string().contains("max_allowed_packet"), "{error}");
                let mut transaction = pool.begin().await.unwrap();
                let inside = SqlPublisher::in_transaction(&mut transaction).config(config.clone());
                inside.publish(&topic, vec![large(20)]).await.unwrap();
                let error = inside.publish(&topic, messages).await.unwrap_err();
                assert_eq!(error.kind(), PublishErrorKind::Message, "{error}");
                drop(inside);
                transaction.rollback().await.unwrap();
            }
            assert_eq!(connection_id(&pool).await, before, "nothing was sent for which the server hangs up");
            publisher.publish(&topic, vec![large(limit - 1_024)]).await.unwrap();
            assert_eq!(count(&pool, &topic).await, 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_larger_than_a_packet_is_sent_in_parts_and_is_there_as_a_whole() {
    let server = server().await;
    for limit in LIMITS {
        let (_database, pool) = limited(&server, limit).await;
        for layout in [Layout::Log, Layout::Queue] {
            let topic = format!("{layout:?}").to_lowercase();
            let config = SqlPublisherConfig::default().layout(layout);
            let publisher = SqlPublisher::new(pool.clone(), config.clone()).unwrap();
            let few_and_large = (0..9).map(|_| large(limit / 3)).collect::<Vec<_>>();
            publisher.publish(&topic, few_and_large.clone()).await.unwrap();
            let later = |n: usize| Message::new(n.to_string()).delay_for(Duration::from_secs(n as u64));
            let many_and_small: Vec<_> = match layout {
                Layout::Log => numbered(0..2_000),
                _ => (0..2_000).map(later).collect(),
            };
            publisher.publish(&topic, many_and_small).await.unwrap();
            assert_eq!(count(&pool, &topic).await, 2_009);
            let mut transaction = pool.begin().await.unwrap();
            let inside = SqlPublisher::in_transaction(&mut transaction).config(config);
            inside.publish(&topic, few_and_large).await.unwrap();
            drop(inside);
            transaction.rollback().await.unwrap();
            assert_eq!(count(&pool, &topic).await, 2_009);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_larger_than_a_packet_goes_without_its_payload() {
    let server = server().await;
    let limit = LIMITS[1];
    let (_database, pool) = limited(&server, limit).await;
    let message = || vec![large(limit - 600)];
    publisher(&pool).publish("log", message()).await.unwrap();
    let queue = SqlPublisherConfig::default().layout(Layout::Queue);
    SqlPublisher::new(pool.clone(), queue).unwrap().publish("queue", message()).await.unwrap();
    let reader = subscriber_with(&pool, SqlSubscriberConfig::default().dead_letter_topic("log_dead"));
    let worker = SqlQueueSubscriberConfig::default().dead_letter_topic("queue_dead");
    let worker = SqlQueueSubscriber::new(pool.clone(), worker).unwrap();
    for (subscriber, topic) in [(&reader as &dyn Subscriber, "log"), (&worker, "queue")] {
        let mut subscription = subscriber.subscribe(topic).await.unwrap();
        let reject = Outcome::Reject { reason: "no ".repeat(1_000) };
        within("the reject", next(&mut subscription).await.settle_confirmed(reject)).await.unwrap();
        subscription.close().await.unwrap();
        let dead = SqlStatus::new(pool.clone()).peek(&format!("{topic}_dead"), 0, 10).await.unwrap();
        let [letter] = &dead[..] else { panic!("{} dead letters", dead.len()) };
        let lost = (limit - 600).to_string();
        assert_eq!(letter.message.metadata().get("payload_poisoned_bytes"), Some(&*lost));
        assert!(letter.message.metadata().get("reason_poisoned").unwrap().starts_with("no no"));
    }
}
