//! Work to count the instructions of, where time says little: `--count-workload NAME --messages N`.
//!
//! The names are `<database>-<publish|subscribe>[-raw]`, as in `sqlite-subscribe-raw`. SQLite is a part of the
//! process; of the others, what the server does is not counted.

use std::sync::Arc;

use sqlx::{MySql, Postgres, Sqlite};
use watermill_sql::{SqlPublisher, SqlPublisherConfig};
use watermill_testkit::unique;

use crate::{database::Bench, publish, raw::Depth, subscribe};

/// Messages of a call and rows of a batch.
const BATCH: usize = 100;
/// The messages of a topic that is read: always as many, so that to publish them is not among what more of them cost.
const FILLED: usize = 50_000;

/// What is to be counted, if that is what the arguments ask for.
pub(crate) fn asked_for() -> Option<(String, usize)> {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.iter().skip_while(|arg| *arg != name).nth(1).cloned();
    let name = value("--count-workload")?;
    let messages = value("--messages").and_then(|messages| messages.parse().ok());
    Some((name, messages.expect("--messages <n>, a number")))
}

/// Does it once.
pub(crate) async fn run(name: &str, messages: usize) {
    match name.split_once('-') {
        Some(("postgres", work)) => run_on::<Postgres>(work, messages).await,
        Some(("mysql", work)) => run_on::<MySql>(work, messages).await,
        Some(("sqlite", work)) => run_on::<Sqlite>(work, messages).await,
        _ => panic!("no workload is called {name}"),
    }
}

async fn run_on<D: Bench>(work: &str, messages: usize) {
    let database = D::database();
    let pool = D::pool(&database, 4).await;
    match work {
        "publish" | "publish-raw" => {
            let topic: Arc<str> = unique("count").into();
            let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default());
            let publisher = Arc::new(publisher.expect("it is valid"));
            publisher.initialize(&topic).await.expect("an empty database");
            match work {
                "publish" => publish::with_publisher(publisher, &topic, BATCH, messages)().await,
                _ => publish::by_hand(&pool, D::insert_text(&topic, BATCH), BATCH, messages)().await,
            };
        }
        "subscribe" | "subscribe-raw" => {
            assert!(messages < FILLED, "more than there are");
            let topic = subscribe::filled(&pool, FILLED).await;
            match work {
                "subscribe" => subscribe::subscribed(&pool, &topic, BATCH, messages, true)().await,
                _ => subscribe::by_hand(&pool, &topic, BATCH, messages, Depth::Message)().await,
            };
        }
        _ => panic!("no work is called {work}"),
    }
    pool.close().await;
}
