//! Sources and destinations beside SQLite and Kafka.

use crate::support::{Place, SQLITE, text};

/// A relay from another source, or to another destination.
fn config(source: &str, destination: &str, topic: &str) -> String {
    SQLITE
        .replace("url = \"sqlite:outbox.db\"", &format!("url = \"{source}\""))
        .replace("url = \"sqlite:events.db\"", &format!("url = \"{destination}\""))
        .replace(
            "[relay.shop.source]",
            &format!(
                "[relay.shop]\ntopic = \"{topic}\"\ndead_letter_topic = \"{topic}_dead\"\n[relay.shop.source]"
            ),
        )
}

#[cfg(feature = "mysql")]
mod mysql {
    use watermill_core::{Message, Publisher as _, Subscriber as _};
    use watermill_forwarder::ForwarderPublisher;
    use watermill_sql::{SqlPublisherConfig, SqlSubscriberConfig, SqlUrl};
    use watermill_testkit::{Service, unique};

    use super::*;

    /// From MySQL or MariaDB into the same, where the destination keeps the checkpoint.
    #[tokio::test]
    async fn from_mysql_into_mysql_everything_arrives_once_though_the_process_is_killed() {
        let (url, topic, orders) = (Service::MYSQL.url(), unique("outbox"), unique("orders"));
        let place = Place::with(&config(&url, &url, &topic)).await;
        let pool = SqlUrl::new(&*url).unwrap().connect();
        pool.subscriber(SqlSubscriberConfig::default()).unwrap().initialize(&topic).await.unwrap();
        let outbox = pool.publisher(SqlPublisherConfig::default()).unwrap();
        let outbox = ForwarderPublisher::new(outbox).topic(&*topic);
        let messages = (0..1_000).map(|number: usize| Message::new(number.to_string()).with_key("k"));
        outbox.publish(&orders, messages.collect()).await.unwrap();
        let exactly_once = [
            "--set",
            "relay.shop.delivery=exactly-once",
            "--set",
            &format!("relay.shop.name_at_destination={topic}"),
            "--set",
            "relay.shop.batch_size=50",
        ];
        let arrived = async || pool.peek(&orders, 0, 1_000).await.unwrap_or_default();
        let checked = place.verb(&[&["check", "--connect"][..], &exactly_once].concat());
        assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
        for enough in [200, 500] {
            let daemon = place.start_with(&exactly_once, &[]);
            crate::support::wait_until("some messages", async || arrived().await.len() >= enough).await;
            daemon.kill().await;
        }
        let daemon = place.start_with(&exactly_once, &[]);
        crate::support::wait_until("all messages", async || arrived().await.len() >= 1_000).await;
        let numbers: Vec<String> = arrived().await.iter().map(|row| text(row.message.payload())).collect();
        assert_eq!(numbers, (0..1_000).map(|number: usize| number.to_string()).collect::<Vec<_>>());
        let (status, lines) = daemon.stop().await;
        assert_eq!(status.code(), Some(0), "{lines:#?}");
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use sqlx::{AssertSqlSafe, Executor as _};
    use watermill_core::Subscriber as _;
    use watermill_sql::{SqlPool, SqlSubscriberConfig, SqlUrl};
    use watermill_testkit::{Service, unique};

    use super::*;

    #[tokio::test]
    async fn the_privileges_that_an_account_lacks_are_named_table_by_table() {
        let (url, topic, role) = (Service::POSTGRES.url(), unique("outbox"), unique("relay"));
        let pool = SqlUrl::new(&*url).unwrap().connect();
        let dead = format!("{topic}_dead");
        let config_of = SqlSubscriberConfig::default().dead_letter_topic(&*dead);
        pool.subscriber(config_of).unwrap().initialize(&topic).await.unwrap();
        let SqlPool::Postgres(admin) = &pool else { unreachable!("it is a PostgreSQL") };
        let run = async |statement: String| admin.execute(AssertSqlSafe(statement)).await.unwrap();
        run(format!("create role {role} login")).await;
        run(format!("grant select on watermill_{topic} to {role}")).await;
        run(format!("grant select, insert on watermill_offsets_{topic} to {role}")).await;
        // As the role, by the name in the URL.
        let (scheme, rest) = url.split_once("://").unwrap();
        let host = rest.split_once('@').map_or(rest, |(_, host)| host);
        let as_role = format!("{scheme}://{role}@{host}");
        let place = Place::with(&config(&as_role, "sqlite:events.db", &topic)).await;
        let checked = place.verb(&["check", "--connect"]);
        let said = text(&checked.stderr);
        assert_eq!(checked.status.code(), Some(4), "{said}");
        for lacking in [
            format!("this account may not update the table \"watermill_offsets_{topic}\""),
            "this account may not select from the table \"_watermill_leases\"".to_owned(),
            format!("this account may not insert into the table \"watermill_{dead}\""),
        ] {
            assert!(said.contains(&lacking), "{lacking}\n{said}");
        }
        assert!(!said.contains(&format!("select from the table \"watermill_{topic}\"")), "{said}");

        run(format!(
            "grant select, insert, update on watermill_offsets_{topic}, _watermill_leases to {role}"
        ))
        .await;
        run(format!("grant delete on _watermill_leases to {role}")).await;
        run(format!("grant select, insert on watermill_{dead} to {role}")).await;
        let checked = place.verb(&["check", "--connect"]);
        assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
        run(format!("drop owned by {role}")).await;
        run(format!("drop role {role}")).await;
    }
}

#[cfg(feature = "redis")]
mod redis {
    use futures::StreamExt as _;
    use watermill_core::Subscriber as _;
    use watermill_redis::{RedisSubscriber, RedisSubscriberConfig};
    use watermill_testkit::{Service, unique};

    use super::*;

    #[tokio::test]
    async fn what_goes_to_redis_arrives() {
        let (url, orders) = (Service::REDIS.url(), unique("orders"));
        let client = ::redis::Client::open(&*url).unwrap();
        let subscriber = RedisSubscriber::new(client, RedisSubscriberConfig::new("daemon")).unwrap();
        let mut subscription = subscriber.subscribe(&orders).await.unwrap();
        let without = config("sqlite:outbox.db", &url, "forwarder_topic")
            .replace("create_topics = true\n", "")
            .replace("payload = \"bytes\"\n", "");
        let place = Place::with(&without).await;
        let checked = place.verb(&["check", "--connect"]);
        assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
        let daemon = place.start();
        place.publish(&orders, (0..10).map(|number| number.to_string())).await;
        for number in 0..10 {
            let delivery = subscription.next().await.unwrap().unwrap();
            assert_eq!(text(delivery.message().payload()), number.to_string());
            delivery.ack();
        }
        daemon.stop().await;
        subscription.close().await.unwrap();
    }
}

#[cfg(feature = "nats")]
mod nats {
    use futures::StreamExt as _;
    use watermill_core::Subscriber as _;
    use watermill_nats::{NatsSubscriber, NatsSubscriberConfig};
    use watermill_testkit::{Service, unique};

    use super::*;

    #[tokio::test]
    async fn what_goes_to_nats_arrives() {
        let (url, orders) = (Service::NATS.url(), unique("orders"));
        let client = async_nats::connect(&*url).await.unwrap();
        let subscriber = NatsSubscriber::new(client, NatsSubscriberConfig::new("daemon")).unwrap();
        let mut subscription = subscriber.subscribe(&orders).await.unwrap();
        let without =
            config("sqlite:outbox.db", &url, "forwarder_topic").replace("payload = \"bytes\"\n", "");
        let place = Place::with(&without).await;
        let checked = place.verb(&["check", "--connect"]);
        assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
        let daemon = place.start();
        place.publish(&orders, (0..10).map(|number| number.to_string())).await;
        for number in 0..10 {
            let delivery = subscription.next().await.unwrap().unwrap();
            assert_eq!(text(delivery.message().payload()), number.to_string());
            delivery.ack();
        }
        daemon.stop().await;
        subscription.close().await.unwrap();
    }
}

#[cfg(feature = "amqp")]
mod rabbitmq {
    use futures::StreamExt as _;
    use watermill_amqp::{
        AmqpPublisher, AmqpPublisherConfig, AmqpSubscriber, AmqpSubscriberConfig, Topology,
    };
    use watermill_core::{Message, PublisherExt as _, Subscriber as _, Subscription};
    use watermill_testkit::{Service, unique};

    use super::*;
    use crate::support::wait_until;

    fn relaying_to(url: &str) -> String {
        config("sqlite:outbox.db", url, "forwarder_topic").replace("payload = \"bytes\"\n", "")
    }

    fn subscriber(topology: Topology) -> AmqpSubscriber {
        AmqpSubscriber::new(AmqpSubscriberConfig::new(Service::RABBITMQ.url(), topology)).unwrap()
    }

    /// Numbers from 0, in their order.
    async fn assert_arrive(subscription: &mut Subscription, count: usize) {
        for number in 0..count {
            let delivery = subscription.next().await.unwrap().unwrap();
            assert_eq!(text(delivery.message().payload()), number.to_string());
            delivery.ack();
        }
    }

    #[tokio::test]
    async fn what_goes_to_rabbitmq_arrives() {
        let (url, orders) = (Service::RABBITMQ.url(), unique("orders"));
        let billing = subscriber(Topology::pub_sub());
        let mut subscription = billing.subscribe(&orders).await.unwrap();
        let place = Place::with(&relaying_to(&url)).await;
        let checked = place.verb(&["check", "--connect"]);
        assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
        let daemon = place.start();
        place.publish(&orders, (0..10).map(|number| number.to_string())).await;
        assert_arrive(&mut subscription, 10).await;
        daemon.stop().await;
        subscription.close().await.unwrap();
    }

    #[tokio::test]
    async fn exchanges_are_made_and_what_no_queue_takes_waits_until_one_does() {
        let (url, orders) = (Service::RABBITMQ.url(), unique("orders"));
        let place = Place::with(&relaying_to(&url)).await;
        let daemon = place.start();
        place.publish(&orders, (0..3).map(|number| number.to_string())).await;
        // Nobody but the relay can have made it, and nobody listens to it.
        let config = AmqpPublisherConfig::new(&*url, Topology::pub_sub().declares(false)).mandatory(false);
        let publisher = AmqpPublisher::new(config).unwrap();
        wait_until("the exchange", async || {
            publisher.publish_one(&orders, Message::new("unheard")).await.is_ok()
        })
        .await;
        let mut subscription = subscriber(Topology::pub_sub()).subscribe(&orders).await.unwrap();
        assert_arrive(&mut subscription, 3).await;
        daemon.stop().await;
        subscription.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_queue_of_the_topics_name_is_published_to_where_nothing_is_to_be_made() {
        let (url, orders) = (Service::RABBITMQ.url(), unique("orders"));
        let mut subscription = subscriber(Topology::queue()).subscribe(&orders).await.unwrap();
        let with = relaying_to(&url).replace("create_topics = true\n", "topology = \"queue\"\n");
        let place = Place::with(&with).await;
        let daemon = place.start();
        place.publish(&orders, (0..3).map(|number| number.to_string())).await;
        assert_arrive(&mut subscription, 3).await;
        daemon.stop().await;
        subscription.close().await.unwrap();
    }

    #[tokio::test]
    async fn who_may_not_log_in_is_told_so_without_the_password() {
        let url = Service::RABBITMQ.url().replace("guest:guest@", "guest:wrong-password@");
        let place = Place::with(&relaying_to(&url)).await;
        let checked = place.verb(&["check", "--connect"]);
        let said = text(&checked.stderr);
        assert_eq!(checked.status.code(), Some(4), "{said}");
        assert!(said.contains("ACCESS_REFUSED") && !said.contains("wrong-password"), "{said}");
    }
}

#[cfg(feature = "pubsub")]
mod pubsub {
    use futures::StreamExt as _;
    use watermill_core::Subscriber as _;
    use watermill_gcp::{NewSubscription, PubSubAccess, PubSubSubscriber, PubSubSubscriberConfig};
    use watermill_testkit::{Service, unique};

    use super::*;

    #[tokio::test]
    async fn what_goes_to_pubsub_arrives() {
        let (emulator, orders) = (Service::PUBSUB.url(), unique("orders"));
        let access = PubSubAccess::new("daemon").emulator(&*emulator);
        let subscriber = PubSubSubscriber::new(
            PubSubSubscriberConfig::new(access)
                .create_topics(true)
                .create_subscriptions(NewSubscription::new()),
        )
        .await
        .unwrap();
        subscriber.initialize(&orders).await.unwrap();
        let mut subscription = subscriber.subscribe(&orders).await.unwrap();
        let with = config("sqlite:outbox.db", "pubsub://daemon", "forwarder_topic")
            .replace("payload = \"bytes\"\n", &format!("emulator = \"{emulator}\"\n"));
        let place = Place::with(&with).await;
        let daemon = place.start();
        place.publish(&orders, (0..10).map(|number| number.to_string())).await;
        let mut missing: std::collections::BTreeSet<String> =
            (0..10).map(|number: u32| number.to_string()).collect();
        while !missing.is_empty() {
            let delivery = subscription.next().await.unwrap().unwrap();
            missing.remove(&text(delivery.message().payload()));
            delivery.ack();
        }
        daemon.stop().await;
    }
}
