//! [`Server`]: a server of a run's own, started and broken by `cargo xtask services private`.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{Result, options::DatabaseKind};

/// The program that starts servers: xtask, which has started this one.
pub(crate) const XTASK: &str = "WATERMILL_CHAOS_XTASK";

/// What a server is, as xtask calls it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Service {
    Postgres,
    Mysql,
    Kafka,
}

impl From<DatabaseKind> for Service {
    fn from(kind: DatabaseKind) -> Self {
        match kind {
            DatabaseKind::Postgres => Self::Postgres,
            DatabaseKind::Mysql => Self::Mysql,
        }
    }
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Kafka => "kafka",
        }
    }
}

/// A server that ends, with its data, when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    service: Service,
    folder: PathBuf,
    pub(crate) url: String,
}

impl Server {
    /// Starts a database that flushes every commit to the disk and can be followed. It has a clock of its own where there can be one; why not,
    /// otherwise.
    pub(crate) async fn database(service: Service, name: &str) -> Result<(Self, Result<(), String>)> {
        let folder = folder(service, name);
        let clock = xtask("turn", service, &[folder.as_os_str(), "0".as_ref()]).await;
        let clock = clock.map(drop).map_err(|error| error.to_string());
        let url = xtask("replicated", service, &[folder.as_os_str()]).await?;
        Ok((Self { service, folder, url }, clock))
    }

    /// Starts a broker.
    pub(crate) async fn broker(name: &str) -> Result<Self> {
        let (service, folder) = (Service::Kafka, folder(Service::Kafka, name));
        let url = xtask("up", service, &[folder.as_os_str()]).await?;
        let broker = Self { service, folder, url };
        if broker.folder.join("stand-in").exists() {
            return Err(
                "Apache Kafka cannot be had here, and what stands in for it keeps everything in memory"
                    .into(),
            );
        }
        Ok(broker)
    }

    /// Starts a standby of a database.
    pub(crate) async fn standby(&self, name: &str) -> Result<Self> {
        let folder = folder(self.service, name);
        let url = xtask("follow", self.service, &[folder.as_os_str(), self.folder.as_os_str()]).await?;
        Ok(Self { service: self.service, folder, url })
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        let address = self.url.rsplit_once('@').map_or(&*self.url, |(_, address)| address);
        address.split('/').next().unwrap_or_default()
    }

    /// Ends it as a crash does.
    pub(crate) async fn kill(&self) -> Result {
        self.told("kill").await
    }

    pub(crate) async fn start_again(&self) -> Result {
        self.told(if matches!(self.service, Service::Kafka) { "up" } else { "replicated" }).await
    }

    /// Stops its process where it stands.
    pub(crate) async fn freeze(&self) -> Result {
        self.told("freeze").await
    }

    pub(crate) async fn thaw(&self) -> Result {
        self.told("thaw").await
    }

    /// Turns its clock away from the time.
    pub(crate) async fn turn(&self, seconds: i64) -> Result {
        let seconds = seconds.to_string();
        xtask("turn", self.service, &[self.folder.as_os_str(), seconds.as_ref()]).await.map(drop)
    }

    async fn told(&self, verb: &str) -> Result {
        xtask(verb, self.service, &[self.folder.as_os_str()]).await.map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut down = command("down", self.service);
        if let Err(error) = down.arg(&self.folder).status() {
            eprintln!("stop {}: {error}", self.service.name());
        }
    }
}

/// Its name tells `cargo xtask services down` what it is, if this process is killed.
fn folder(service: Service, name: &str) -> PathBuf {
    target().join("services/private").join(format!("{}-chaos-{name}-{}", service.name(), std::process::id()))
}

/// Where the workspace's servers, and this program's logs, are.
pub(crate) fn target() -> PathBuf {
    here().join("../target")
}

/// This package's folder, as cargo says it when it runs this program; clones may share what one of them compiled.
fn here() -> PathBuf {
    env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// Runs a verb, and returns what it prints last.
async fn xtask(verb: &str, service: Service, args: &[&std::ffi::OsStr]) -> Result<String> {
    let output = tokio::process::Command::from(command(verb, service)).args(args).output().await?;
    let last =
        |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().lines().last().unwrap_or_default().to_owned();
    if output.status.success() {
        return Ok(last(&output.stdout));
    }
    Err(format!("{verb} {}: {}", service.name(), String::from_utf8_lossy(&output.stderr).trim()).into())
}

fn command(verb: &str, service: Service) -> Command {
    let mut command = match env::var_os(XTASK) {
        Some(xtask) => Command::new(xtask),
        None => {
            let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.args(["run", "--quiet", "--package", "xtask", "--"]);
            cargo
        }
    };
    command.args(["services", "private", verb, service.name()]);
    command.current_dir(here());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
