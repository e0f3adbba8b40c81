//! [`Prometheus`]: a Prometheus of a test's own, which scrapes one page, and the queries of a Grafana dashboard to ask it.

use std::{
    fmt::Display,
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{patience, unique};

/// A running server. It ends, with its data, when it is dropped; its data is kept where the test panics.
#[derive(Debug)]
pub struct Prometheus {
    process: Child,
    address: SocketAddr,
    data: PathBuf,
}

/// What to do where the program is not there.
pub const MISSING: &str = "prometheus and promtool have to be installed (Debian: apt-get install prometheus; cargo xtask test does it)";

/// How often a port that was free may be taken by somebody else until the server has it.
const STARTS_MAX: usize = 5;
const LOOK: Duration = Duration::from_millis(200);

impl Prometheus {
    /// One that scrapes `/metrics` of `target`, a `host:port`, and evaluates the rules of the file every second.
    ///
    /// # Panics
    ///
    /// Where the program is not installed, and where it does not start.
    pub async fn start(target: impl Display, rules: Option<&Path>) -> Self {
        let configuration = configuration(target, rules);
        let mut data = PathBuf::new();
        for _ in 0..STARTS_MAX {
            let mut started = Self::spawn(&configuration);
            if timeout(patience(), started.is_ready()).await.unwrap_or(false) {
                return started;
            }
            data.clone_from(&started.data);
        }
        panic!("prometheus does not start; what it said was in {}", data.display());
    }

    fn spawn(configuration: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let address = free.expect("a port is free");
        let data = std::env::temp_dir().join(unique("prometheus"));
        fs::create_dir_all(&data).expect("the folder of temporary files can be written to");
        let config = data.join("prometheus.yml");
        fs::write(&config, configuration).expect("the configuration can be written");
        let log = fs::File::create(data.join("log")).expect("the log can be written");
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{MISSING}: {error}"));
        Self { process, address, data }
    }

    /// False when it has ended instead.
    async fn is_ready(&mut self) -> bool {
        loop {
            if let Ok((200, _)) = self.get("/-/ready").await {
                return true;
            }
            if self.process.try_wait().expect("it is our child").is_some() {
                return false;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// What a query answers now: its samples.
    ///
    /// # Errors
    ///
    /// What the server says of a query that it does not understand.
    pub async fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        let answer = self.api(&format!("/api/v1/query?query={}", encoded(query))).await?;
        Ok(answer["result"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until each of the queries has had an answer with data.
    ///
    /// # Panics
    ///
    /// Where some have none within the [`patience`] of tests, with their list, and where a query is not understood.
    pub async fn answers(&self, queries: impl IntoIterator<Item = String>) {
        let mut waiting: Vec<String> = queries.into_iter().collect();
        // A rate needs two samples, and some happen later than others.
        let answered = timeout(patience(), async {
            while !waiting.is_empty() {
                let mut unanswered = Vec::new();
                for query in waiting.drain(..) {
                    let answer = self.query(&query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
                    let has_data = answer.iter().any(|sample| sample["value"][1] != "NaN");
                    unanswered.extend((!has_data).then_some(query));
                }
                waiting = unanswered;
                sleep(LOOK).await;
            }
        });
        let has_answered = answered.await.is_ok();
        assert!(has_answered, "these have no data: {waiting:#?}");
    }

    /// The data of an answer of its API.
    ///
    /// # Errors
    ///
    /// What the server says instead.
    pub async fn api(&self, path: &str) -> Result<Value, String> {
        let (status, body) = self.get(path).await.map_err(|error| error.to_string())?;
        let answer: Value =
            serde_json::from_str(&body).map_err(|error| format!("{error}: {status} {body}"))?;
        if answer["status"] == "success" { Ok(answer["data"].clone()) } else { Err(body) }
    }

    async fn get(&self, path: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.address).await?;
        // By the older version an answer ends with its connection.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        Ok((status, body.to_owned()))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.data);
        }
    }
}

/// The queries of the panels of a Grafana dashboard, its JSON, over the last minute.
///
/// # Panics
///
/// Where it is not JSON.
pub fn panels(dashboard: &str) -> Vec<String> {
    fn collect(value: &Value, queries: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                let query = fields.get("expr").and_then(Value::as_str);
                queries.extend(query.map(|query| query.replace("$__rate_interval", "1m")));
                fields.values().for_each(|value| collect(value, queries));
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, queries)),
            _ => {}
        }
    }
    let mut queries = Vec::new();
    collect(&serde_json::from_str(dashboard).expect("a dashboard is JSON"), &mut queries);
    queries
}

fn configuration(target: impl Display, rules: Option<&Path>) -> String {
    let rules = rules.map(|rules| format!("rule_files: [\"{}\"]\n", rules.display())).unwrap_or_default();
    format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n{rules}\
         scrape_configs: [{{job_name: service, static_configs: [{{targets: [\"{target}\"]}}]}}]\n"
    )
}

fn encoded(query: &str) -> String {
    query
        .bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { (byte as char).into() } else { format!("%{byte:02X}") })
        .collect()
}
