//! A Prometheus for one test, and its `promtool`.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use watermill_testkit::patience;

use crate::queries::{RULES, path};

/// It ends when it is dropped.
pub(crate) struct Prometheus {
    process: Child,
    address: SocketAddr,
    data: PathBuf,
}

/// What to do about a program that is not there.
const MISSING: &str = "prometheus and promtool have to be installed (Debian: apt-get install prometheus; cargo xtask test does it)";

#[test]
fn the_rules_are_well_formed_and_fire_when_they_should() {
    for (verb, file) in [("check", RULES), ("test", "prometheus/alerts.test.yml")] {
        let output = Command::new("promtool").args([verb, "rules"]).arg(path(file)).output();
        let output = output.unwrap_or_else(|error| panic!("{MISSING}: {error}"));
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "promtool {verb} rules {file}:\n{said}");
    }
}

/// How often a port that was free may be taken by somebody else until the server has it.
const STARTS_MAX: usize = 5;

impl Prometheus {
    /// One that scrapes `target` and evaluates the rules every second.
    pub(crate) async fn start(target: SocketAddr) -> Self {
        for _ in 0..STARTS_MAX {
            let mut started = Self::spawn(target);
            if timeout(patience(), started.is_ready()).await.unwrap_or(false) {
                return started;
            }
        }
        panic!("prometheus does not start; what it says is in {}", folder().display());
    }

    fn spawn(target: SocketAddr) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let address = free.expect("a port is free");
        let data = folder().join(address.port().to_string());
        fs::create_dir_all(&data).expect("the folder of tests can be written to");
        let config = data.join("prometheus.yml");
        fs::write(&config, configuration(target)).expect("the configuration can be written");
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

    /// What a query answers now.
    pub(crate) async fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        let answer = self.api(&format!("/api/v1/query?query={}", encoded(query))).await?;
        Ok(answer["result"].as_array().cloned().unwrap_or_default())
    }

    /// The data of an answer.
    pub(crate) async fn api(&self, path: &str) -> Result<Value, String> {
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

fn configuration(target: SocketAddr) -> String {
    let rules = path(RULES);
    format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         rule_files: [\"{}\"]\n\
         scrape_configs: [{{job_name: service, static_configs: [{{targets: [\"{target}\"]}}]}}]\n",
        rules.display()
    )
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("prometheus")
}

fn encoded(query: &str) -> String {
    query
        .bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { (byte as char).into() } else { format!("%{byte:02X}") })
        .collect()
}
