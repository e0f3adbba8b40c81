//! MariaDB, which speaks MySQL's protocol and its SQL.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{
    Service, clock,
    daemon::{self, Account},
    packages,
};
use crate::Result;

pub(super) struct MySql;

const PACKAGE: &str = "mariadb-server";
const ACCOUNT: &str = "mysql";
const DURABLE: &[&str] = &["--innodb-flush-log-at-trx-commit=1", "--innodb-doublewrite=1"];
/// A log that others follow, with what was followed in it.
const REPLICATED: &[&str] =
    &["--log-bin=log", "--binlog-format=ROW", "--log-slave-updates", "--relay-log=relay", "--sync-binlog=1"];

impl Service for MySql {
    fn name(&self) -> &'static str {
        "mysql"
    }

    fn variable(&self) -> &'static str {
        "WATERMILL_TEST_MYSQL_URL"
    }

    fn start(&self, dir: &Path) -> Result<String> {
        // Tests have no power cuts.
        start(dir, &["--innodb-flush-log-at-trx-commit=2", "--innodb-doublewrite=0"])
    }

    fn start_durable(&self, dir: &Path) -> Result<String> {
        start(dir, DURABLE)
    }

    fn start_replicated(&self, dir: &Path) -> Result<String> {
        let id = format!("--server-id={}", daemon::port(dir)?);
        start(dir, &[DURABLE, &[&*id], REPLICATED].concat())
    }

    /// It begins with the first thing that its primary has ever logged, so that this must have been started as replicated
    /// from its first start on. Nothing is flushed until it is asked to be durable itself: it has much to catch up with.
    fn follow(&self, dir: &Path, primary: &Path) -> Result<String> {
        let url = self.start_replicated(dir)?;
        let follow = format!(
            "set global rpl_semi_sync_slave_enabled = 1; set global slave_parallel_threads = 4; \
             set global sync_binlog = 0; set global innodb_flush_log_at_trx_commit = 0; change master to master_host = '127.0.0.1', \
             master_port = {}, master_user = 'root', master_use_gtid = slave_pos; start slave",
            daemon::known_port(primary)?
        );
        let mut client = Command::new(find("mariadb")?);
        client.args(["--no-defaults", "--host=127.0.0.1", "--user=root"]);
        client.arg(format!("--port={}", daemon::known_port(dir)?)).args(["--execute", &follow]);
        daemon::quietly(&mut client)?;
        Ok(url)
    }

    fn is_up(&self, dir: &Path) -> bool {
        pid_file_of(dir).is_ok_and(|file| daemon::living(&file).is_some())
    }

    fn stop(&self, dir: &Path) -> Result {
        daemon::end(&pid_file_of(dir)?, "-TERM")
    }

    fn kill(&self, dir: &Path) -> Result {
        daemon::end(&pid_file_of(dir)?, "-KILL")
    }

    fn turn(&self, dir: &Path, seconds: &str) -> Result {
        // The account comes with the server.
        find("mariadbd")?;
        clock::turn(&daemon::data_dir(dir, Account::for_server(ACCOUNT)?), seconds)
    }

    fn remove(&self, dir: &Path) -> Result {
        let data = daemon::data_dir(dir, Account::for_server(ACCOUNT)?);
        clock::forget(&data);
        super::remove_dirs(&[&data, &tmpdir(&data), dir])
    }
}

fn start(dir: &Path, speed: &[&str]) -> Result<String> {
    let server = find("mariadbd")?;
    let account = Account::for_server(ACCOUNT)?;
    let data = daemon::data_dir(dir, account);
    // A server that starts deletes whatever temporary tables it finds, those of others in /tmp too.
    let tmpdir = tmpdir(&data);
    daemon::create_dir(&tmpdir, account)?;
    let tmpdir = format!("--tmpdir={}", tmpdir.display());
    if !data.join("mysql").exists() {
        daemon::create_dir(&data, account)?;
        let mut install = daemon::command(&find("mariadb-install-db")?, account);
        install.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
        daemon::quietly(install.arg(format!("--datadir={}", data.display())).arg(&tmpdir))?;
    }
    let port = daemon::port(dir)?;
    let log = dir.join("server.log");
    let mut start = daemon::command(&server, account);
    start.arg("--no-defaults").arg(format!("--datadir={}", data.display())).arg(&tmpdir);
    // Below the data. The path of a socket may have 107 bytes, and a folder's alone can be longer.
    start.arg("--socket=socket");
    start.arg(format!("--pid-file={}", pid_file(&data).display())).arg(format!("--port={port}"));
    start.args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--max-connections=500"]);
    start.arg("--max-allowed-packet=64M").args(speed);
    clock::apply(&mut start, &data)?;
    let pid = daemon::spawn(&mut start, &log)?;
    let admin = find("mariadb-admin")?;
    daemon::wait(pid, &log, || answers(&admin, port))?;
    clock::tidy(pid);
    Ok(format!("mysql://root@127.0.0.1:{port}/mysql"))
}

fn answers(admin: &Path, port: u16) -> bool {
    Command::new(admin)
        .args(["--no-defaults", "--host=127.0.0.1", "--user=root", "ping"])
        .arg(format!("--port={port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn find(program: &str) -> Result<PathBuf> {
    let folders = || vec![PathBuf::from("/usr/sbin"), PathBuf::from("/usr/libexec")];
    packages::find_or_install(program, folders, PACKAGE, || packages::install(PACKAGE))
}

fn pid_file_of(dir: &Path) -> Result<PathBuf> {
    Ok(pid_file(&daemon::data_dir(dir, Account::for_server(ACCOUNT)?)))
}

/// Beside the data, in which a folder is a database.
fn tmpdir(data: &Path) -> PathBuf {
    data.with_extension("tmp")
}

fn pid_file(data: &Path) -> PathBuf {
    data.join("server.pid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_starts_in_a_folder_with_blanks() {
        starts_in("many blanks in a name");
    }

    #[test]
    fn a_server_starts_in_a_folder_whose_path_is_longer_than_that_of_a_socket_may_be() {
        starts_in(&"letters-".repeat(15));
    }

    fn starts_in(folder: &str) {
        let root =
            std::env::temp_dir().join(format!("watermill-xtask-{}-{}", std::process::id(), folder.len()));
        let dir = root.join(folder);

        let started = MySql.start(&dir);
        let ended = MySql.kill(&dir).and_then(|()| MySql.remove(&dir));
        std::fs::remove_dir_all(&root).unwrap();

        assert!(started.unwrap().starts_with("mysql://"));
        ended.unwrap();
    }
}
