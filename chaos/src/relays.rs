//! [`Relays`]: relay processes, killed and paused.

use std::{
    env,
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::timeout,
};

use crate::{
    Result,
    designs::{BY_HAND, Task},
    options::{Delivery, Design, Run, name},
};

/// The daemon's program.
pub(crate) const DAEMON: &str = "WATERMILL_CHAOS_DAEMON";
/// The most messages of one call.
pub(crate) const BATCH: usize = 100;
/// How long a relay that has vanished keeps others out.
pub(crate) const LEASE: Duration = Duration::from_secs(2);
/// How many there are.
const RELAYS: usize = 2;
/// What a graceful stop may take.
const DRAIN: Duration = Duration::from_secs(20);

/// What a relay is to do.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) run: Run,
    /// Of the database, by way of the network.
    pub(crate) database: String,
    pub(crate) brokers: String,
    pub(crate) topic: String,
    pub(crate) outbox: String,
    pub(crate) dead_letters: String,
    /// Where it finds its configuration and leaves its log.
    pub(crate) folder: PathBuf,
}

/// The processes.
#[derive(Debug)]
pub(crate) struct Relays {
    job: Job,
    running: Vec<Child>,
    paused: Vec<Child>,
    started: usize,
    /// How those ended that nobody had told to.
    pub(crate) ended_by_themselves: Vec<ExitStatus>,
}

impl Relays {
    pub(crate) fn start(job: Job) -> Result<Self> {
        std::fs::create_dir_all(&job.folder)?;
        std::fs::write(job.folder.join("forwarder.toml"), configuration(&job))?;
        let mut relays = Self {
            job,
            running: Vec::new(),
            paused: Vec::new(),
            started: 0,
            ended_by_themselves: Vec::new(),
        };
        relays.fill_up()?;
        Ok(relays)
    }

    /// Starts what is missing.
    pub(crate) fn fill_up(&mut self) -> Result {
        self.look()?;
        while self.running.len() < RELAYS {
            self.started += 1;
            let log = File::create(self.job.folder.join(format!("relay-{}.log", self.started)))?;
            let mut command = command(&self.job);
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
            self.running.push(command.spawn()?);
        }
        Ok(())
    }

    /// SIGKILL, of one or of all, those that are paused left out.
    pub(crate) async fn kill(&mut self, one: Option<u64>) -> Result<usize> {
        self.look()?;
        let mut victims: Vec<Child> = match one {
            Some(luck) if !self.running.is_empty() => {
                let at = usize::try_from(luck % self.running.len() as u64)?;
                vec![self.running.remove(at)]
            }
            _ => self.running.drain(..).collect(),
        };
        for victim in &mut victims {
            victim.kill().await?;
        }
        Ok(victims.len())
    }

    /// Stops all of them where they stand.
    pub(crate) async fn pause(&mut self) -> Result<usize> {
        self.look()?;
        for child in self.running.drain(..) {
            signal(&child, "-STOP").await?;
            self.paused.push(child);
        }
        Ok(self.paused.len())
    }

    /// Has those go on that were stopped. Some seconds later the youngest are ended, for there are too many.
    pub(crate) async fn wake(&mut self) -> Result {
        for child in self.paused.drain(..) {
            signal(&child, "-CONT").await?;
            self.running.insert(0, child);
        }
        Ok(())
    }

    /// Ends those that are too many, gracefully.
    pub(crate) async fn thin_out(&mut self) -> Result<Vec<String>> {
        self.look()?;
        let surplus = self.running.split_off(RELAYS.min(self.running.len()));
        self.end(surplus).await
    }

    /// Ends all, gracefully, and says what was wrong with how they ended.
    pub(crate) async fn stop(&mut self) -> Result<Vec<String>> {
        self.wake().await?;
        self.look()?;
        let all = std::mem::take(&mut self.running);
        self.end(all).await
    }

    async fn end(&self, relays: Vec<Child>) -> Result<Vec<String>> {
        let faults = stop(relays).await?;
        // One that is written by hand knows nothing of signals.
        Ok(if self.job.run.design == Design::Watermill { faults } else { Vec::new() })
    }

    /// Notes those that have ended.
    fn look(&mut self) -> Result {
        let mut running = Vec::new();
        for mut child in self.running.drain(..) {
            match child.try_wait()? {
                Some(status) => self.ended_by_themselves.push(status),
                None => running.push(child),
            }
        }
        self.running = running;
        Ok(())
    }
}

async fn stop(children: Vec<Child>) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for child in &children {
        signal(child, "-TERM").await?;
    }
    for mut child in children {
        match timeout(DRAIN + Duration::from_secs(5), child.wait()).await {
            Ok(status) => {
                let status = status?;
                if !status.success() {
                    faults.push(format!("a relay that was stopped ended with {status}"));
                }
            }
            Err(_) => {
                child.kill().await?;
                faults.push(format!("a relay that was stopped had not ended after {DRAIN:?}"));
            }
        }
    }
    Ok(faults)
}

async fn signal(child: &Child, signal: &str) -> Result {
    let Some(id) = child.id() else { return Ok(()) };
    // One that has just ended cannot be told.
    Command::new("kill").args([signal, &id.to_string()]).stderr(Stdio::null()).status().await?;
    Ok(())
}

fn command(job: &Job) -> Command {
    if job.run.design == Design::Watermill {
        let daemon = env::var_os(DAEMON).map_or_else(beside_this_program, PathBuf::from);
        let mut command = Command::new(daemon);
        for (variable, _) in env::vars_os() {
            if variable.to_string_lossy().starts_with("WATERMILL_FORWARDER") {
                command.env_remove(variable);
            }
        }
        command.arg("run").arg("--config").arg(job.folder.join("forwarder.toml"));
        return command;
    }
    let mut command = Command::new(env::current_exe().unwrap_or_default());
    let task = Task {
        design: name(job.run.design),
        database: job.database.clone(),
        brokers: job.brokers.clone(),
        topic: job.topic.clone(),
    };
    command.env(BY_HAND, serde_json::json!(task).to_string());
    command
}

fn beside_this_program() -> PathBuf {
    let own = env::current_exe().unwrap_or_default();
    own.parent().unwrap_or(Path::new(".")).join("watermill-forwarder")
}

/// The daemon's. What is not said here is as it is by default, but for waits, of which a run has not many.
fn configuration(job: &Job) -> String {
    let Job { run, database, brokers, outbox, dead_letters, .. } = job;
    let delivery = match run.delivery {
        Delivery::AtLeastOnce => "at-least-once",
        Delivery::ExactlyOnce => "exactly-once",
    };
    format!(
        "\
drain_timeout = \"{drain}s\"
[admin]
listen = \"off\"
[log]
format = \"human\"
level = \"info\"
[relay.{outbox}]
delivery = \"{delivery}\"
topic = \"{outbox}\"
dead_letter_topic = \"{dead_letters}\"
batch_size = {BATCH}
backoff_max = \"1s\"
[relay.{outbox}.source]
url = \"{database}\"
lease = \"{lease}s\"
[relay.{outbox}.destination]
url = \"kafka://{brokers}\"
create_topics = true
checkpoint_topic = \"{outbox}_checkpoints\"
",
        drain = DRAIN.as_secs(),
        lease = LEASE.as_secs(),
    )
}
