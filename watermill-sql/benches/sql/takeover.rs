//! How long nobody reads after the process that does was killed.

use std::{process::Stdio, time::Duration};

use futures::StreamExt;
use sqlx::{MySql, Pool, Postgres};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::Instant,
};
use watermill_core::{Publisher, Subscriber, Subscription};
use watermill_sql::{SqlPublisher, SqlPublisherConfig, SqlSubscriber, SqlSubscriberConfig};
use watermill_testkit::{Figure, Figures, Limit, workload};

use crate::{Options, database::Bench, subscribe};

/// What has this program be the process that is killed: `--read-until-killed <database> <url> <topic>`.
const READ: &str = "--read-until-killed";

/// From the kill until a subscription that stands by in this process has the message that the other had in hand. The
/// lease is the default one, and what is published meanwhile wakes nobody.
pub(crate) async fn measure<D: Bench>(options: &Options, figures: &mut Figures) {
    let name = format!("takeover/{}", D::LABEL);
    if !options.wants(&name) {
        return;
    }
    let database = D::database();
    let pool = D::pool(&database, 4).await;
    let topic = subscribe::filled(&pool, 0).await;
    let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).expect("it is valid");
    let mut times = Vec::new();
    for round in 0..options.size(11, 3) {
        publisher.publish(&topic, vec![workload::message(round)]).await.expect("the database takes it");
        let mut owner = start(D::LABEL, &D::url(&database), &topic);
        let line = BufReader::new(owner.stdout.take().expect("it is piped")).lines().next_line().await;
        assert_eq!(line.expect("it can be read").as_deref(), Some("reading"));
        let mut standby = subscribed(&pool, &topic).await;
        // At any point of its rounds.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(500..1_500))).await;
        let killed = Instant::now();
        owner.start_kill().expect("it runs");
        let delivery = standby.next().await.expect("it goes on").expect("a message");
        times.push(killed.elapsed().as_secs_f64() * 1e3);
        delivery.ack_confirmed().await.expect("it is recorded");
        standby.close().await.expect("a clean end");
        owner.wait().await.expect("it has ended");
    }
    times.sort_unstable_by(f64::total_cmp);
    let rounds: Vec<String> = times.iter().map(|time| format!("{time:.0}")).collect();
    eprintln!("{name:<44} {}", rounds.join(" "));
    let (middle, longest) = (times[times.len() / 2], times[times.len() - 1]);
    const UNIT: &str = "ms from kill -9 to a standby's first";
    figures.push(Figure::new(format!("{name}/median"), middle, UNIT).limit(Limit::AtMost(1_000.0)));
    figures.push(Figure::new(format!("{name}/max"), longest, UNIT));
    pool.close().await;
}

async fn subscribed<D: Bench>(pool: &Pool<D>, topic: &str) -> Subscription {
    let subscriber = SqlSubscriber::new(pool.clone(), SqlSubscriberConfig::default()).expect("it is valid");
    subscriber.subscribe(topic).await.expect("a topic of ours")
}

fn start(database: &str, url: &str, topic: &str) -> Child {
    let program = std::env::current_exe().expect("it has a path");
    let mut command = Command::new(program);
    command.args([READ, database, url, topic]).stdout(Stdio::piped()).kill_on_drop(true);
    command.spawn().expect("it starts")
}

/// Whether this process is the one that is killed. Then it does not return.
pub(crate) async fn read_until_killed() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args[..] {
        [read, database, url, topic] if read == READ => match &**database {
            Postgres::LABEL => read_one::<Postgres>(url, topic).await,
            MySql::LABEL => read_one::<MySql>(url, topic).await,
            other => panic!("there are no processes to a topic of {other}"),
        },
        _ => {}
    }
}

async fn read_one<D: Bench>(url: &str, topic: &str) {
    let pool = Pool::<D>::connect(url).await.expect("the server answers");
    let mut subscription = subscribed(&pool, topic).await;
    let _in_hand = subscription.next().await.expect("it goes on").expect("a message");
    println!("reading");
    std::future::pending().await
}
