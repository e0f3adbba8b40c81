//! Apache Kafka: one node that is broker and controller. Where its jars cannot be fetched, a stand-in.

mod stand_in;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Service, StandIn, daemon, maven::Jars};
use crate::{Result, process};

pub(super) struct Kafka;

const VARIABLE: &str = "WATERMILL_TEST_KAFKA_BROKERS";

/// What is fetched: Kafka and a logger that writes to standard error.
const JARS: Jars = Jars { name: "kafka", what: "Apache Kafka", pom: include_str!("pom.xml"), classes: &[] };

/// What the log says once the broker serves its clients; its port accepts connections long before.
const READY: &str = "Kafka Server started";

/// It starts in a third of the time without the second compiler, and tests are over before that would pay.
const JVM: &[&str] = &["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

impl Service for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn variable(&self) -> &'static str {
        VARIABLE
    }

    fn start(&self, dir: &Path) -> Result<String> {
        let java = match Java::find_or_install() {
            Ok(java) => java,
            // A build server is to say that it has not tested everything.
            Err(error) if std::env::var_os("CI").is_some() => return Err(error),
            Err(error) => return stand_in::start(dir, &error),
        };
        stand_in::forget(dir)?;
        // Both are kept over a restart.
        let (port, controller) = (daemon::port(dir)?, daemon::port(&dir.join("controller"))?);
        let (data, log, config) = (data(dir), dir.join("server.log"), dir.join("server.properties"));
        write(&config, &settings(&data, port, controller))?;
        if !data.join("meta.properties").exists() {
            java.format(&config)?;
        }
        let pid = daemon::spawn(java.command("kafka.Kafka").arg(&config), &log)?;
        write(&pid_file(dir), &pid.to_string())?;
        daemon::wait(pid, &log, || said_ready(&log))?;
        Ok(format!("127.0.0.1:{port}"))
    }

    fn is_up(&self, dir: &Path) -> bool {
        daemon::living(&pid_file(dir)).is_some()
    }

    fn stand_in(&self, dir: &Path) -> Option<StandIn> {
        stand_in::used(dir)
    }

    fn stop(&self, dir: &Path) -> Result {
        daemon::end(&pid_file(dir), "-TERM")
    }

    fn kill(&self, dir: &Path) -> Result {
        daemon::end(&pid_file(dir), "-KILL")
    }

    fn freeze(&self, dir: &Path) -> Result {
        daemon::signal(&pid_file(dir), "-STOP")
    }

    fn thaw(&self, dir: &Path) -> Result {
        daemon::signal(&pid_file(dir), "-CONT")
    }

    fn remove(&self, dir: &Path) -> Result {
        super::remove_dirs(&[dir])
    }
}

/// A Java runtime with Kafka's classes.
struct Java {
    program: PathBuf,
    jars: PathBuf,
}

impl Java {
    fn find_or_install() -> Result<Self> {
        let program = super::packages::find_or_install("java", Vec::new, "default-jre-headless", || {
            super::packages::install("default-jre-headless")
        })?;
        let jars = JARS.find_or_fetch().map_err(|error| {
            format!("{error}; where Maven Central cannot be reached, name a broker in {VARIABLE}")
        })?;
        Ok(Self { program, jars })
    }

    fn command(&self, class: &str) -> Command {
        let mut command = daemon::command(&self.program, None);
        command.args(JVM).arg("-cp").arg(self.jars.join("*")).arg(class);
        command
    }

    /// Makes the data folder of a cluster of its own.
    fn format(&self, config: &Path) -> Result {
        let said = process::output(self.command("kafka.tools.StorageTool").arg("random-uuid"))?;
        let cluster = said.lines().last().unwrap_or_default();
        daemon::quietly(
            self.command("kafka.tools.StorageTool").args(["format", "-t", cluster, "-c"]).arg(config),
        )
    }
}

/// One node cannot replicate, and a missing topic is to be seen rather than made.
fn settings(data: &Path, port: u16, controller: u16) -> String {
    format!(
        "\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.voters=1@127.0.0.1:{controller}
log.dirs={data}
num.partitions=1
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
# One that was killed is let in again after this; with the usual nine seconds a restart would wait for them.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=200
# A transaction that nobody goes on with ends soon after its timeout.
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
# A group need not wait for members that a test does not have.
group.initial.rebalance.delay.ms=0
# Tests kill consumers and want the others to hear of it soon.
group.min.session.timeout.ms=1000
# The suite's large messages are just above what a broker takes as it comes.
message.max.bytes=8388608
",
        data = data.display()
    )
}

fn data(dir: &Path) -> PathBuf {
    dir.join("data")
}

fn pid_file(dir: &Path) -> PathBuf {
    dir.join("server.pid")
}

fn said_ready(log: &Path) -> bool {
    fs::read_to_string(log).is_ok_and(|text| text.contains(READY))
}

fn write(path: &Path, text: &str) -> Result {
    fs::write(path, text).map_err(|error| format!("failed to write {}: {error}", path.display()))
}
