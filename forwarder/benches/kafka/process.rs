//! [`Process`]: a relay in a process of its own, which is this program again.

use std::{
    io::BufRead as _,
    process::{ExitStatus, Stdio},
};

use sqlx::PgPool;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    sync::oneshot,
};

use crate::{
    counted::Tally,
    ours::{Delivery, Relay},
};

/// How the program is told that it is the other process.
const ARGUMENT: &str = "--relay-in-another-process";

/// What it says when it has begun, and when so many were accepted as it was told to count.
const STARTED: &str = "started";
const ACCEPTED: &str = "accepted";

/// Is killed with this.
pub(crate) struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

/// What it relays.
#[derive(Clone)]
pub(crate) struct Task<'a> {
    pub(crate) delivery: Delivery,
    pub(crate) postgres: &'a str,
    pub(crate) brokers: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) group: &'a str,
    pub(crate) batch: usize,
    /// After how many it says so.
    pub(crate) count: usize,
}

impl Process {
    /// One that has begun: to relay, or to stand by.
    pub(crate) async fn start(task: &Task<'_>) -> Self {
        let Task { delivery, postgres, brokers, topic, group, batch, count } = task;
        let (delivery, batch, count) = (delivery.to_string(), batch.to_string(), count.to_string());
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([ARGUMENT, &delivery, postgres, brokers, topic, group, &batch, &count])
            .stdout(Stdio::piped())
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("this program runs");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut process = Self { child, lines };
        process.says(STARTED).await;
        process
    }

    /// Waits until it has had as many accepted as it was told to count.
    pub(crate) async fn has_accepted(&mut self) {
        self.says(ACCEPTED).await;
    }

    /// How much memory it has, in bytes.
    pub(crate) fn resident(&self) -> usize {
        let path = format!("/proc/{}/statm", self.child.id().expect("it runs"));
        let text = std::fs::read_to_string(path).expect("it runs");
        let pages: usize = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
        // What Linux has on the machines that benchmarks run on.
        pages * 4096
    }

    /// As `kill -9` does it.
    pub(crate) fn kill(&mut self) {
        self.child.start_kill().expect("it runs");
    }

    pub(crate) async fn wait(mut self) -> ExitStatus {
        self.child.wait().await.expect("it is ours")
    }

    /// Stops it gracefully.
    pub(crate) async fn stop(mut self) {
        drop(self.child.stdin.take());
        assert!(self.wait().await.success());
    }

    async fn says(&mut self, expected: &str) {
        let line = self.lines.next_line().await.expect("a pipe");
        assert_eq!(line.as_deref(), Some(expected));
    }
}

/// Is the other process, if the program is called as one.
pub(crate) fn serve_if_asked_to() -> bool {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [argument, delivery, postgres, brokers, topic, group, batch, count] = &args[..] else { return false };
    if argument != ARGUMENT {
        return false;
    }
    let number = |text: &String| text.parse().expect("a number");
    crate::runtime().block_on(async {
        let relay = Relay {
            delivery: delivery.parse().expect("one of two"),
            pool: PgPool::connect(postgres).await.expect("the server answers"),
            brokers: brokers.clone(),
            topic: topic.clone(),
            group: group.clone(),
            batch: number(batch),
            source: None,
        };
        serve(relay, number(count)).await;
    });
    true
}

/// Relays until nobody is there to be told.
async fn serve(relay: Relay, count: usize) {
    let (ended, end) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().lines().count();
        let _ = ended.send(());
    });
    let tally = Tally::default();
    let accepted = tally.clone().reaches(count);
    println!("{STARTED}");
    let told = async {
        accepted.await;
        println!("{ACCEPTED}");
        std::future::pending::<()>().await
    };
    tokio::select! {
        () = told => {}
        _ = relay.run(&tally, async { drop(end.await) }) => {}
    }
}
