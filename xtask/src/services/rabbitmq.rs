//! RabbitMQ, on an Erlang of its own: a node with its own name, ports and cookie.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::{
    Service,
    daemon::{self, Account},
    packages,
};
use crate::{Result, process};

pub(super) struct RabbitMq;

/// Erlang's own account, as the package makes it.
const ACCOUNT: &str = "rabbitmq";

impl Service for RabbitMq {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    fn variable(&self) -> &'static str {
        "WATERMILL_TEST_RABBITMQ_URL"
    }

    fn start(&self, dir: &Path) -> Result<String> {
        let server = find_or_install()?;
        let log = dir.join("server.log");
        let (port, _, _) =
            (daemon::port(dir)?, daemon::port(&dir.join(DIST))?, daemon::port(&dir.join(EPMD))?);
        daemon::create_dir(&data(dir)?, Account::for_server(ACCOUNT)?)?;
        let pid = daemon::spawn(&mut node(&server, dir)?, &log)?;
        let file = pid_file(dir);
        fs::write(&file, pid.to_string())
            .map_err(|error| format!("failed to write {}: {error}", file.display()))?;
        daemon::wait(pid, &log, || answers(port))?;
        Ok(format!("amqp://guest:guest@127.0.0.1:{port}/%2f"))
    }

    fn is_up(&self, dir: &Path) -> bool {
        daemon::living(&pid_file(dir)).is_some()
    }

    fn stop(&self, dir: &Path) -> Result {
        daemon::end(&pid_file(dir), "-TERM")?;
        end_names(dir)
    }

    fn kill(&self, dir: &Path) -> Result {
        daemon::end(&pid_file(dir), "-KILL")?;
        end_names(dir)
    }

    fn freeze(&self, dir: &Path) -> Result {
        daemon::signal(&pid_file(dir), "-STOP")
    }

    fn thaw(&self, dir: &Path) -> Result {
        daemon::signal(&pid_file(dir), "-CONT")
    }

    /// No memory is left, as far as the server knows: it blocks whoever publishes.
    fn alarm(&self, dir: &Path) -> Result {
        watermark(dir, "0.00000001")
    }

    fn calm(&self, dir: &Path) -> Result {
        watermark(dir, "0.4")
    }

    fn remove(&self, dir: &Path) -> Result {
        super::remove_dirs(&[&data(dir)?, dir])
    }
}

/// Folders whose `port` files have the ports of Erlang's own connections and of its register of names.
const DIST: &str = "dist";
const EPMD: &str = "epmd";

/// The script of the release itself, and not the one on the path, which changes its account and its folders.
fn find_or_install() -> Result<PathBuf> {
    packages::find_or_install("rabbitmq-server", releases, "rabbitmq-server", || {
        packages::install("rabbitmq-server")
    })
    .map(|found| {
        releases()
            .into_iter()
            .map(|dir| dir.join("rabbitmq-server"))
            .find(|path| path.is_file())
            .unwrap_or(found)
    })
}

/// `sbin` of each release that the packages have.
fn releases() -> Vec<PathBuf> {
    let lib = fs::read_dir("/usr/lib/rabbitmq/lib").into_iter().flatten().flatten();
    let mut releases: Vec<_> = lib.map(|release| release.path().join("sbin")).collect();
    releases.sort_unstable_by(|a, b| b.cmp(a));
    releases
}

/// The server as a process of its own name: `erl` takes the place of the script.
fn node(server: &Path, dir: &Path) -> Result<Command> {
    let mut node = tool(server, dir)?;
    node.env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1");
    node.env("RABBITMQ_NODE_PORT", daemon::known_port(dir)?.to_string());
    node.env("RABBITMQ_DIST_PORT", daemon::known_port(&dir.join(DIST))?.to_string());
    node.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}");
    node.env("RABBITMQ_ALLOW_INPUT", "1").arg("-noinput");
    Ok(node)
}

/// A program of the release that knows this folder's node.
fn tool(program: &Path, dir: &Path) -> Result<Command> {
    let data = data(dir)?;
    let mut tool = daemon::command(program, Account::for_server(ACCOUNT)?);
    tool.env("HOME", &data).env("RABBITMQ_CONF_ENV_FILE", "/dev/null");
    tool.env("RABBITMQ_CONFIG_FILE", data.join("none"))
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", data.join("none"));
    tool.env("RABBITMQ_ENABLED_PLUGINS_FILE", data.join("plugins")).env("RABBITMQ_LOGS", "-");
    tool.env("RABBITMQ_MNESIA_BASE", data.join("mnesia")).env("RABBITMQ_LOG_BASE", data.join("log"));
    tool.env("RABBITMQ_NODENAME", format!("watermill-{}@localhost", daemon::known_port(dir)?));
    tool.env("ERL_EPMD_ADDRESS", "127.0.0.1");
    tool.env("ERL_EPMD_PORT", daemon::known_port(&dir.join(EPMD))?.to_string());
    Ok(tool)
}

fn watermark(dir: &Path, fraction: &str) -> Result {
    let control = find_or_install()?.with_file_name("rabbitmqctl");
    daemon::quietly(tool(&control, dir)?.args(["--quiet", "set_vm_memory_high_watermark", fraction]))
}

/// Erlang leaves its register of names behind, which does not end as long as it knows a node: for a moment after the
/// node was killed, too.
fn end_names(dir: &Path) -> Result {
    let folder = dir.join(EPMD);
    let Ok(port) = daemon::known_port(&folder) else { return Ok(()) };
    let has_ended = || {
        // What it says is of no use: it refuses, or is not there any more.
        drop(process::output(Command::new("epmd").args(["-port", &port.to_string(), "-kill"])));
        TcpStream::connect(("127.0.0.1", port)).is_err()
    };
    if !daemon::within_a_minute(has_ended) {
        return Err(format!("Erlang's register of names on port {port} does not end"));
    }
    // Somebody else may have the port from now on.
    super::remove_dirs(&[&folder])
}

/// Whether it speaks AMQP: it answers the header of the protocol with a method of its own.
fn answers(port: u16) -> bool {
    let greet = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"AMQP\0\0\x09\x01")?;
        let mut kind = [0];
        stream.read_exact(&mut kind)?;
        Ok::<_, std::io::Error>(kind == [1])
    };
    greet().unwrap_or(false)
}

fn data(dir: &Path) -> Result<PathBuf> {
    Ok(daemon::data_dir(dir, Account::for_server(ACCOUNT)?))
}

fn pid_file(dir: &Path) -> PathBuf {
    dir.join("server.pid")
}
