//! Servers for one test, which it may kill.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Service, unique};

/// A server of a test's own, which goes with it.
///
/// It is started by `cargo xtask services private`, so that this works in the workspace of watermill
/// only, and for the services that has. All methods block.
pub struct PrivateServer {
    service: Service,
    folder: PathBuf,
    url: String,
    /// How it is started again.
    verb: &'static str,
}

impl PrivateServer {
    /// Starts a server with no data.
    ///
    /// # Panics
    ///
    /// When it cannot be started; the text says why.
    #[track_caller]
    pub fn start(service: Service) -> Self {
        Self::start_as("up", service)
    }

    /// Starts a server with no data that flushes every commit to the disk, for benchmarks that claim durability; those
    /// for tests do not.
    ///
    /// # Panics
    ///
    /// When it cannot be started; the text says why. Only databases are made durable here.
    #[track_caller]
    pub fn start_durable(service: Service) -> Self {
        Self::start_as("durable", service)
    }

    #[track_caller]
    fn start_as(verb: &'static str, service: Service) -> Self {
        let folder = folder(service);
        let url =
            run(verb, service, &[&folder]).unwrap_or_else(|why| panic!("start {}: {why}", service.name));
        Self { service, folder, url, verb }
    }

    /// Starts a server that follows this one: it has its data, soon what is written to it from now on, and
    /// takes no writes.
    ///
    /// # Panics
    ///
    /// When it cannot be started; the text says why. Only PostgreSQL has standbys here.
    #[track_caller]
    pub fn standby(&self) -> Self {
        let (service, folder) = (self.service, folder(self.service));
        let url = run("follow", service, &[&folder, &self.folder])
            .unwrap_or_else(|why| panic!("start a standby of {}: {why}", service.name));
        Self { service, folder, url, verb: "up" }
    }

    /// Where it is. A restart does not change it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends it as a crash does.
    ///
    /// # Panics
    ///
    /// When it does not end.
    #[track_caller]
    pub fn kill(&self) {
        run("kill", self.service, &[&self.folder])
            .unwrap_or_else(|why| panic!("kill {}: {why}", self.service.name));
    }

    /// Stops its process where it stands: it keeps its connections and answers nobody. Not every
    /// service has that.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[track_caller]
    pub fn freeze(&self) {
        run("freeze", self.service, &[&self.folder])
            .unwrap_or_else(|why| panic!("freeze {}: {why}", self.service.name));
    }

    /// Has a frozen one go on.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[track_caller]
    pub fn thaw(&self) {
        run("thaw", self.service, &[&self.folder])
            .unwrap_or_else(|why| panic!("thaw {}: {why}", self.service.name));
    }

    /// Has it believe that it has run out of memory. Only RabbitMQ is alarmed here.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[track_caller]
    pub fn alarm(&self) {
        run("alarm", self.service, &[&self.folder])
            .unwrap_or_else(|why| panic!("alarm {}: {why}", self.service.name));
    }

    /// Ends the alarm.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[track_caller]
    pub fn calm(&self) {
        run("calm", self.service, &[&self.folder])
            .unwrap_or_else(|why| panic!("calm {}: {why}", self.service.name));
    }

    /// Starts it again, with the data that it has stored, and as durable as it was.
    ///
    /// # Panics
    ///
    /// When it cannot be started, or not where it was.
    #[track_caller]
    pub fn start_again(&self) {
        let url = run(self.verb, self.service, &[&self.folder])
            .unwrap_or_else(|why| panic!("start {} again: {why}", self.service.name));
        assert_eq!(url, self.url, "another program has taken its port");
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        if let Err(why) = run("down", self.service, &[&self.folder]) {
            eprintln!("stop {}: {why}", self.service.name);
        }
    }
}

impl fmt::Debug for PrivateServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateServer").field("url", &self.url).finish_non_exhaustive()
    }
}

/// A folder that is not there yet. Its name tells `services down` what it is, if this test is killed.
fn folder(service: Service) -> PathBuf {
    workspace().join("target/services/private").join(unique(&format!("{}-", service.name)))
}

/// What the command prints last.
fn run(verb: &str, service: Service, folders: &[&Path]) -> Result<String, String> {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(workspace())
        .args(["run", "--quiet", "--package", "xtask", "--", "services", "private", verb, service.name])
        .args(folders)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("run cargo: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().last().unwrap_or_default().to_owned())
}

/// The folder that the tested package lies in, as cargo says it when it runs a test: clones that share a target folder share the
/// compiled tests, which know of one of them.
fn workspace() -> PathBuf {
    let mut here =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    here.pop();
    here
}
