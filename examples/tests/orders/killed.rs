//! The service on PostgreSQL and Kafka, killed again and again while customers order.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::{task::JoinSet, time::sleep};
use watermill_testkit::{Service as Server, unique};

use crate::{client::Client, in_time, service::Service};

const KILLS: usize = 4;
const CUSTOMERS: usize = 3;
/// How many orders are billed between two kills: the worker is in the middle of it when it dies.
const BILLED: i64 = 40;
/// Where the service is, whichever process of it.
const LISTEN: &str = "LISTEN";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_it_loses_no_order_and_bills_none_twice() {
    let server = Server::POSTGRES.url();
    let name = unique("orders");
    execute(&server, &format!("create database {name}")).await;
    let database = format!("{}/{name}", server.rsplit_once('/').expect("the URL names a database").0);
    let mut settings = HashMap::from([
        ("DATABASE_URL", database.clone()),
        ("BROKER_URL", format!("kafka://{}", Server::KAFKA.url())),
        (LISTEN, "127.0.0.1:0".to_owned()),
    ]);
    let mut service = Service::start(&settings).await;
    // The next process has the port of the last.
    settings.insert(LISTEN, service.address.clone());

    let (acknowledged, closing) =
        (Arc::<Mutex<HashSet<String>>>::default(), Arc::new(AtomicBool::new(false)));
    let mut customers = JoinSet::new();
    for customer in 0..CUSTOMERS {
        let (client, acknowledged, closing) = (Client::of(&service), acknowledged.clone(), closing.clone());
        customers.spawn(order(customer, client, acknowledged, closing));
    }
    let mut connection = PgConnection::connect(&database).await.unwrap();
    for _ in 0..KILLS {
        let billed = count(&mut connection, "invoices").await;
        let more = async {
            while count(&mut connection, "invoices").await < billed + BILLED {
                sleep(Duration::from_millis(20)).await;
            }
        };
        in_time(more).await;
        service.child.kill().await.expect("it was there to be killed");
        service = Service::start(&settings).await;
    }
    closing.store(true, Ordering::Relaxed);
    while let Some(customer) = customers.join_next().await {
        customer.unwrap();
    }

    // Nothing more is waited for than what every order needs.
    let orders = count(&mut connection, "orders").await;
    let all = async {
        while count(&mut connection, "(select distinct order_id from invoices) billed").await < orders {
            sleep(Duration::from_millis(20)).await;
        }
    };
    in_time(all).await;
    service.stop().await;

    let stored: Vec<String> =
        sqlx::query_scalar("select id from orders").fetch_all(&mut connection).await.unwrap();
    let stored: HashSet<String> = stored.into_iter().collect();
    let acknowledged = acknowledged.lock().unwrap().clone();
    let lost: Vec<_> = acknowledged.difference(&stored).collect();
    assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
    assert!(acknowledged.len() >= KILLS * BILLED as usize, "{} orders", acknowledged.len());
    let twice = "(select order_id from invoices group by order_id having count(*) > 1) twice";
    assert_eq!(count(&mut connection, twice).await, 0, "billed twice");
    assert_eq!(count(&mut connection, "invoices").await, orders);
    connection.close().await.unwrap();
    execute(&server, &format!("drop database {name}")).await;
}

/// Orders until the shop closes, each order again until it is acknowledged.
async fn order(
    customer: usize,
    client: Client,
    acknowledged: Arc<Mutex<HashSet<String>>>,
    closing: Arc<AtomicBool>,
) {
    for n in 0.. {
        let id = format!("{customer}-{n}");
        while !matches!(client.place(&id, 100).await, Some(200 | 201)) {
            sleep(Duration::from_millis(20)).await;
        }
        acknowledged.lock().unwrap().insert(id);
        if closing.load(Ordering::Relaxed) {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
}

async fn count(connection: &mut PgConnection, what: &str) -> i64 {
    let count = AssertSqlSafe(format!("select count(*) from {what}"));
    sqlx::query_scalar(count).fetch_one(connection).await.unwrap()
}

async fn execute(url: &str, statement: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}
