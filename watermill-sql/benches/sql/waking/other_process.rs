//! [`Reader`]: a consumer in a process of its own, which is this program again.

use std::{
    io::{BufRead as _, Write as _},
    time::{Duration, SystemTime},
};

use futures::StreamExt as _;
use sqlx::{MySql, Pool, Postgres};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};
use watermill_core::Subscriber as _;
use watermill_sql::{SqlDatabase, SqlSubscriber, SqlSubscriberConfig};

use super::Durable;

/// How the program is told that it is the other process.
const ARGUMENT: &str = "--read-in-another-process";

/// Is killed with this.
pub(crate) struct Reader {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Reader {
    /// One that reads these topics, and has subscribed.
    pub(crate) async fn start<D: Durable>(url: &str, topics: &[String], watch: bool) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([ARGUMENT, D::LABEL, url, &watch.to_string(), &topics.join(" ")])
            .stdout(std::process::Stdio::piped())
            .stdin(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("this program runs");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut reader = Self { child, lines };
        assert_eq!(reader.line().await, "ready");
        reader
    }

    /// The number in the next message, and when its handler had it.
    pub(crate) async fn next(&mut self) -> (usize, SystemTime) {
        let line = self.line().await;
        let (number, micros) = line.split_once(' ').expect("two numbers");
        let since = Duration::from_micros(micros.parse().expect("a number"));
        (number.parse().expect("a number"), SystemTime::UNIX_EPOCH + since)
    }

    /// Lets it close its subscriptions.
    pub(crate) async fn end(mut self) {
        drop(self.child.stdin.take());
        while let Ok(Some(_)) = self.lines.next_line().await {}
        self.child.wait().await.expect("it ends");
    }

    async fn line(&mut self) -> String {
        self.lines.next_line().await.expect("a pipe").expect("the other process goes on")
    }
}

/// Is the other process, if the program is called as one.
pub(crate) fn serve_if_asked_to() -> bool {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [argument, database, url, watch, topics] = &args[..] else { return false };
    if argument != ARGUMENT {
        return false;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let (topics, watch) = (topics.split(' ').collect::<Vec<_>>(), watch == "true");
    runtime.expect("a runtime").block_on(async {
        match &**database {
            "postgres" => {
                serve(Pool::<Postgres>::connect(url).await.expect("the server"), &topics, watch).await
            }
            _ => serve(Pool::<MySql>::connect(url).await.expect("the server"), &topics, watch).await,
        }
    });
    true
}

/// Reads until nobody is there to be told.
async fn serve<D: SqlDatabase>(pool: Pool<D>, topics: &[&str], watch: bool) {
    let config = SqlSubscriberConfig::default().watch(watch);
    let subscriber = SqlSubscriber::new(pool, config).expect("it is valid");
    let mut subscriptions = Vec::new();
    for topic in topics {
        subscriptions.push(subscriber.subscribe(topic).await.expect("a topic of ours"));
    }
    println!("ready");
    let (ended, mut end) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().lines().count();
        let _ = ended.send(());
    });
    let mut deliveries = futures::stream::select_all(subscriptions.iter_mut());
    loop {
        let delivery = tokio::select! {
            Some(delivery) = deliveries.next() => delivery.expect("a message"),
            _ = &mut end => break,
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let number = std::str::from_utf8(delivery.payload()).expect("a number");
        let written = writeln!(std::io::stdout(), "{number} {}", now.as_micros());
        delivery.ack();
        if written.is_err() {
            break;
        }
    }
    drop(deliveries);
    subscriber.close().await.expect("a clean end");
}
