//! Google's emulator of Pub/Sub, out of a gcloud installation. It keeps everything in memory.

mod emulator;

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
};

use super::{Service, StandIn, daemon};
use crate::Result;
use emulator::Emulator;

pub(super) struct PubSub;

const VARIABLE: &str = "WATERMILL_TEST_PUBSUB_EMULATOR";

/// What only the emulator can run: crates and features.
const LACKS: &[(&str, &str)] = &[("watermill-gcp", "emulator"), ("watermill-examples", "pubsub")];

/// It starts sooner without the second compiler, and tests are over before that would pay. It keeps what was acked
/// too: without room for that it stops answering in the middle of a benchmark, and does not end.
const JVM: &[&str] = &["-Xmx2g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

impl Service for PubSub {
    fn name(&self) -> &'static str {
        "pubsub"
    }

    fn variable(&self) -> &'static str {
        VARIABLE
    }

    fn start(&self, dir: &Path) -> Result<String> {
        let emulator = Emulator::prepare()?;
        let (port, log) = (daemon::port(dir)?, dir.join("server.log"));
        let mut command = daemon::command(&emulator.java, None);
        command.args(JVM).arg("-cp").arg(&emulator.class_path).arg(emulator::MAIN);
        let pid = daemon::spawn(command.args(["--host=127.0.0.1", &format!("--port={port}")]), &log)?;
        fs::write(pid_file(dir), pid.to_string())
            .map_err(|error| format!("failed to write {}: {error}", pid_file(dir).display()))?;
        daemon::wait(pid, &log, || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(format!("127.0.0.1:{port}"))
    }

    fn is_up(&self, dir: &Path) -> bool {
        daemon::living(&pid_file(dir)).is_some()
    }

    fn missing(&self) -> Option<String> {
        let why = emulator::find_jar().err()?;
        Some(format!("{why}; with Docker, `docker compose up --wait pubsub` and {VARIABLE} do"))
    }

    fn stand_in(&self, _dir: &Path) -> Option<StandIn> {
        let what = format!("pubsub was not there: {}", self.missing()?);
        Some(StandIn { what, lacks: LACKS })
    }

    fn stop(&self, dir: &Path) -> Result {
        daemon::end(&pid_file(dir), "-TERM")
    }

    fn kill(&self, dir: &Path) -> Result {
        daemon::end(&pid_file(dir), "-KILL")
    }

    fn remove(&self, dir: &Path) -> Result {
        super::remove_dirs(&[dir])
    }
}

fn pid_file(dir: &Path) -> PathBuf {
    dir.join("server.pid")
}
