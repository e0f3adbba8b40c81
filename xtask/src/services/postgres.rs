//! PostgreSQL.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{
    Service, clock,
    daemon::{self, Account},
    packages,
};
use crate::Result;

pub(super) struct Postgres;

/// Tests have no power cuts, but many connections and prepared transactions.
const SETTINGS: &str = "-c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=400 \
                        -c max_prepared_transactions=100";
const FAST: &str = "-c fsync=off";
const DURABLE: &str = "-c fsync=on -c synchronous_commit=on";

impl Service for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn variable(&self) -> &'static str {
        "WATERMILL_TEST_POSTGRES_URL"
    }

    fn start(&self, dir: &Path) -> Result<String> {
        start(dir, FAST)
    }

    fn start_durable(&self, dir: &Path) -> Result<String> {
        start(dir, DURABLE)
    }

    fn follow(&self, dir: &Path, primary: &Path) -> Result<String> {
        let programs = Programs::find_or_install()?;
        let account = Account::for_server("postgres")?;
        let data = daemon::data_dir(dir, account);
        daemon::create_dir(&data, account)?;
        // initdb sees to this, and this program does not; the server insists.
        fs::set_permissions(&data, Permissions::from_mode(0o700))
            .map_err(|error| format!("failed to close {} to others: {error}", data.display()))?;
        let mut copy = daemon::command(&programs.0.join("pg_basebackup"), account);
        copy.args(["--host=127.0.0.1", "--username=postgres"]);
        copy.arg(format!("--port={}", daemon::known_port(primary)?));
        copy.args(["--checkpoint=fast", "--no-sync", "--write-recovery-conf", "--pgdata"]);
        daemon::quietly(copy.arg(&data))?;
        clock::copy(&daemon::data_dir(primary, account), &data)?;
        programs.start(dir, &data, account, FAST)
    }

    fn is_up(&self, dir: &Path) -> bool {
        Account::for_server("postgres")
            .is_ok_and(|account| daemon::living(&pid_file(&daemon::data_dir(dir, account))).is_some())
    }

    fn stop(&self, dir: &Path) -> Result {
        stop(dir, "fast")
    }

    fn kill(&self, dir: &Path) -> Result {
        stop(dir, "immediate")
    }

    fn turn(&self, dir: &Path, seconds: &str) -> Result {
        // The account comes with the server.
        Programs::find_or_install()?;
        clock::turn(&daemon::data_dir(dir, Account::for_server("postgres")?), seconds)
    }

    fn remove(&self, dir: &Path) -> Result {
        let data = daemon::data_dir(dir, Account::for_server("postgres")?);
        clock::forget(&data);
        super::remove_dirs(&[&data, dir])
    }
}

fn start(dir: &Path, speed: &str) -> Result<String> {
    let programs = Programs::find_or_install()?;
    let account = Account::for_server("postgres")?;
    let data = daemon::data_dir(dir, account);
    if !data.join("PG_VERSION").exists() {
        daemon::create_dir(&data, account)?;
        let mut initdb = daemon::command(&programs.0.join("initdb"), account);
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]);
        daemon::quietly(initdb.arg("--no-sync").arg("--pgdata").arg(&data))?;
    }
    programs.start(dir, &data, account, speed)
}

fn stop(dir: &Path, mode: &str) -> Result {
    let account = Account::for_server("postgres")?;
    let data = daemon::data_dir(dir, account);
    if daemon::living(&pid_file(&data)).is_none() {
        return Ok(());
    }
    let mut stop = Programs::find_or_install()?.control(&data, account);
    daemon::quietly(stop.args(["stop", "--silent", "--wait", "--timeout=60", "--mode", mode]))
}

fn pid_file(data: &Path) -> PathBuf {
    data.join("postmaster.pid")
}

/// The folder of the server's programs, which are not on the path of Debian.
struct Programs(PathBuf);

impl Programs {
    fn find_or_install() -> Result<Self> {
        let folders = || packages::versions(Path::new("/usr/lib/postgresql"));
        let initdb = packages::find_or_install("initdb", folders, "postgresql", install)?;
        // What is on the path may be a link to it, with none to the others beside it.
        let initdb = initdb.canonicalize().unwrap_or(initdb);
        Ok(Self(initdb.parent().unwrap_or(Path::new("/")).to_owned()))
    }

    /// Starts the server of a folder that has its data, and returns its URL once it answers.
    fn start(&self, dir: &Path, data: &Path, account: Option<Account>, speed: &str) -> Result<String> {
        let port = daemon::port(dir)?;
        let log = data.join("server.log");
        let mut start = self.control(data, account);
        start.args(["start", "--silent", "--wait", "--timeout=60", "--options"]);
        start.arg(format!("-p {port} {SETTINGS} {speed}")).arg("--log").arg(&log);
        clock::apply(&mut start, data)?;
        // With pipes for its output, this would wait until the server ends.
        start.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let status = start.status().map_err(|error| format!("failed to start pg_ctl: {error}"))?;
        if !status.success() {
            return Err(format!("it does not answer; its log ends with\n{}", daemon::end_of(&log)));
        }
        if let Some(pid) = daemon::living(&pid_file(data)) {
            clock::tidy(pid);
        }
        Ok(format!("postgres://postgres@127.0.0.1:{port}/postgres"))
    }

    fn control(&self, data: &Path, account: Option<Account>) -> std::process::Command {
        let mut command = daemon::command(&self.0.join("pg_ctl"), account);
        command.arg("--pgdata").arg(data);
        command
    }
}

/// Without a cluster of the distribution's own, which would be started at once.
fn install() -> Result {
    const CONFIG: &str = "/etc/postgresql-common/createcluster.conf";
    if !fs::exists(CONFIG).unwrap_or(false) {
        packages::install("postgresql-common")?;
        packages::as_root(&["sh", "-c", &format!("echo 'create_main_cluster = false' >> {CONFIG}")])?;
    }
    packages::install("postgresql")
}
