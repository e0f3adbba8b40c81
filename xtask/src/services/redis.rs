//! Redis, or Valkey where that is what there is.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Service, daemon, packages};
use crate::Result;

pub(super) struct Redis;

impl Service for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn variable(&self) -> &'static str {
        "WATERMILL_TEST_REDIS_URL"
    }

    fn start(&self, dir: &Path) -> Result<String> {
        let server = find_or_install()?;
        let (data, port, log) = (dir.join("data"), daemon::port(dir)?, dir.join("server.log"));
        daemon::create_dir(&data, None)?;
        let mut start = daemon::command(&server, None);
        start.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"]).arg(&data);
        // What was answered is in the file when the process is killed. Tests have no power cuts.
        start.args(["--save", "", "--appendonly", "yes", "--appendfsync", "no"]);
        let pid = daemon::spawn(&mut start, &log)?;
        let file = pid_file(dir);
        fs::write(&file, pid.to_string())
            .map_err(|error| format!("failed to write {}: {error}", file.display()))?;
        daemon::wait(pid, &log, || answers(port))?;
        Ok(format!("redis://127.0.0.1:{port}/"))
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

/// What is installed, of the two, and otherwise what the system's packages have.
fn find_or_install() -> Result<PathBuf> {
    let [redis, valkey] = ["redis-server", "valkey-server"];
    let find_or_install =
        |program| packages::find_or_install(program, Vec::new, program, || packages::install(program));
    match packages::find(valkey, &[]) {
        Some(found) => Ok(found),
        None => find_or_install(redis).or_else(|_| find_or_install(valkey)),
    }
}

/// While it reads its file, it answers that it does.
fn answers(port: u16) -> bool {
    let ping = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut pong = [0; 5];
        stream.read_exact(&mut pong)?;
        Ok::<_, std::io::Error>(&pong == b"+PONG")
    };
    ping().unwrap_or(false)
}

fn pid_file(dir: &Path) -> PathBuf {
    dir.join("server.pid")
}
