//! The binary as a process, and what tests ask of it.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{MissedTickBehavior, interval, timeout};
use watermill_core::{Message, Publisher};
use watermill_forwarder::{DEFAULT_TOPIC, ForwarderPublisher};
use watermill_sql::{PeekedMessage, SqlPool, SqlPublisherConfig, SqlSubscriberConfig, SqlUrl};
use watermill_testkit::patience;

/// A folder with a configuration, an outbox on SQLite and a database that messages go to.
pub(crate) struct Place {
    folder: TempDir,
    pub(crate) outbox: SqlPool,
}

/// A `run` in progress.
pub(crate) struct Daemon {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reading: Option<JoinHandle<()>>,
}

/// A relay from SQLite to SQLite.
pub(crate) const SQLITE: &str = r#"
[admin]
listen = "127.0.0.1:0"
[log]
format = "json"
[relay.shop.source]
url = "sqlite:outbox.db"
lease = "3s"
[relay.shop.destination]
url = "sqlite:events.db"
create_topics = true
payload = "bytes"
"#;

pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watermill-forwarder"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WATERMILL_FORWARDER")) {
        command.env_remove(name);
    }
    command
}

impl Place {
    pub(crate) async fn with(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("forwarder.toml"), config).unwrap();
        let outbox = pool(&folder.path().join("outbox.db"));
        // The group begins with what is published from now on, whoever comes first.
        outbox.subscriber(SqlSubscriberConfig::default()).unwrap().initialize(DEFAULT_TOPIC).await.unwrap();
        Self { folder, outbox }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Publishes messages through the outbox, in one transaction.
    pub(crate) async fn publish(&self, topic: &str, payloads: impl IntoIterator<Item = String>) {
        let publisher =
            ForwarderPublisher::new(self.outbox.publisher(SqlPublisherConfig::default()).unwrap());
        let messages = payloads.into_iter().map(|payload| Message::new(payload).with_key("k")).collect();
        publisher.publish(topic, messages).await.unwrap();
    }

    /// What has arrived in a topic.
    pub(crate) async fn arrived(&self, topic: &str) -> Vec<PeekedMessage> {
        let events = pool(&self.path("events.db"));
        let mut arrived = Vec::new();
        loop {
            let after = arrived.last().map_or(0, |last: &PeekedMessage| last.offset);
            // A topic that nothing has gone to is not there.
            let more = events.peek(topic, after, 1_000).await.unwrap_or_default();
            if more.is_empty() {
                break;
            }
            arrived.extend(more);
        }
        events.close().await;
        arrived
    }

    /// Waits until so many have.
    pub(crate) async fn await_arrived(&self, topic: &str, count: usize) {
        let what = format!("{count} messages in {topic}");
        wait_until(&what, async || self.arrived(topic).await.len() >= count).await;
    }

    pub(crate) fn start(&self) -> Daemon {
        self.start_with(&[], &[])
    }

    pub(crate) fn start_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Daemon {
        let mut command = command();
        command.arg("run").args(args).envs(environment.iter().copied()).current_dir(self.folder.path());
        Daemon::start(&mut command)
    }

    /// Another verb, to its end.
    pub(crate) fn verb(&self, args: &[&str]) -> Output {
        self.verb_with(args, &[])
    }

    pub(crate) fn verb_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = command();
        command.args(args).envs(environment.iter().copied()).current_dir(self.folder.path());
        command.output().unwrap()
    }
}

impl Daemon {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (written, stderr) = (Arc::clone(&lines), child.stderr.take().unwrap());
        let reading = thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                written.lock().unwrap().push(line);
            }
        });
        Self { child, lines, reading: Some(reading) }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for a line of the log.
    pub(crate) async fn logged(&self, text: &str) -> Value {
        wait_until(&format!("the log to say {text:?}"), async || {
            self.lines().iter().any(|line| line.contains(text))
        })
        .await;
        let lines = self.lines();
        let line = lines.iter().find(|line| line.contains(text)).unwrap();
        serde_json::from_str(line).unwrap()
    }

    /// Where it serves its page.
    pub(crate) async fn address(&self) -> String {
        let line = self.logged("health, metrics and status are served").await;
        line["address"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let address = self.address().await;
        ask(&address, &format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"))
    }

    pub(crate) async fn post(&self, path: &str, kind: &str, body: &str) -> (u16, String) {
        let address = self.address().await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: {kind}\r\n"
        );
        ask(&address, &format!("{head}content-length: {}\r\n\r\n{body}", body.len()))
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Asks it to stop, and waits for its end.
    pub(crate) async fn stop(mut self) -> (ExitStatus, Vec<String>) {
        self.signal("TERM");
        self.ended().await
    }

    pub(crate) async fn kill(mut self) {
        self.child.kill().unwrap();
        self.ended().await;
    }

    pub(crate) async fn ended(&mut self) -> (ExitStatus, Vec<String>) {
        let mut status = None;
        wait_until("the process to end", async || {
            status = status.or(self.child.try_wait().unwrap());
            status.is_some()
        })
        .await;
        self.reading.take().unwrap().join().unwrap();
        (status.unwrap(), self.lines())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended, or is of no more use.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is so in another process, which nobody tells this one: it looks again and again.
pub(crate) async fn wait_until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let looking = async {
        let mut looks = interval(Duration::from_millis(20));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !look().await {
            looks.tick().await;
        }
    };
    assert!(timeout(patience(), looking).await.is_ok(), "waited {:?} for {what}", patience());
}

pub(crate) fn pool(file: &Path) -> SqlPool {
    let url = SqlUrl::new(format!("sqlite:{}", file.display())).unwrap();
    url.acquire_timeout(Duration::from_secs(20)).connect()
}

fn ask(address: &str, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
