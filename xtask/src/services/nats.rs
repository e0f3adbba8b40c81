//! NATS with JetStream.

use std::{fs, io::Read, net::TcpStream, path::Path, time::Duration};

use super::{Service, daemon, packages};
use crate::Result;

pub(super) struct Nats;

const PROGRAM: &str = "nats-server";

impl Service for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn variable(&self) -> &'static str {
        "WATERMILL_TEST_NATS_URL"
    }

    fn start(&self, dir: &Path) -> Result<String> {
        // Not on every account's path, where the package has it.
        let folders = || vec!["/usr/sbin".into(), "/usr/local/sbin".into()];
        let server = packages::find_or_install(PROGRAM, folders, PROGRAM, || packages::install(PROGRAM))?;
        let (data, port, log) = (dir.join("data"), daemon::port(dir)?, dir.join("server.log"));
        daemon::create_dir(&data, None)?;
        let mut start = daemon::command(&server, None);
        // What was answered is in the files when the process is killed. Tests have no power cuts.
        start
            .args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream", "--store_dir"])
            .arg(&data);
        let pid = daemon::spawn(&mut start, &log)?;
        let file = pid_file(dir);
        fs::write(&file, pid.to_string())
            .map_err(|error| format!("failed to write {}: {error}", file.display()))?;
        daemon::wait(pid, &log, || answers(port))?;
        Ok(format!("nats://127.0.0.1:{port}"))
    }

    fn is_up(&self, dir: &Path) -> bool {
        daemon::living(&pid_file(dir)).is_some()
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

/// It greets whoever connects, and listens when JetStream has recovered.
fn answers(port: u16) -> bool {
    let greeting = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut greeting = [0; 5];
        stream.read_exact(&mut greeting)?;
        Ok::<_, std::io::Error>(&greeting == b"INFO ")
    };
    greeting().unwrap_or(false)
}

fn pid_file(dir: &Path) -> std::path::PathBuf {
    dir.join("server.pid")
}
