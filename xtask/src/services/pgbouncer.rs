//! PgBouncer, a pooler in front of PostgreSQL, once for each way in which it shares connections.

use std::{fs, net::TcpStream, path::Path, process::Command};

use super::{
    Service,
    daemon::{self, Account},
    environment, packages,
    state::State,
};
use crate::{Result, workspace};

/// One that lends a connection of the server for as long as `mode` says.
pub(super) struct PgBouncer {
    pub(super) name: &'static str,
    pub(super) variable: &'static str,
    pub(super) mode: &'static str,
    /// How many prepared statements it keeps for a client, if it can.
    pub(super) prepared: u32,
}

const PACKAGE: &str = "pgbouncer";
/// The first release that keeps prepared statements; one before it does not start with the setting.
const KEEPS_STATEMENTS: (u32, u32) = (1, 21);
/// It refuses to run as root, and PostgreSQL's account is there.
const ACCOUNT: &str = "postgres";

impl Service for PgBouncer {
    fn name(&self) -> &'static str {
        self.name
    }

    fn variable(&self) -> &'static str {
        self.variable
    }

    fn start(&self, dir: &Path) -> Result<String> {
        let program = packages::find_or_install(
            "pgbouncer",
            || vec!["/usr/sbin".into()],
            PACKAGE,
            || packages::install(PACKAGE),
        )?;
        let server = Server::find()?;
        // One that has another server before it.
        self.stop(dir)?;
        let account = Account::for_server(ACCOUNT)?;
        let data = daemon::data_dir(dir, account);
        daemon::create_dir(&data, account)?;
        let (port, log, config) = (daemon::port(dir)?, dir.join("server.log"), data.join("pgbouncer.ini"));
        let prepared = (version(&program)? >= KEEPS_STATEMENTS).then_some(self.prepared);
        write(&config, &self.config(&server, port, prepared))?;
        let mut start = daemon::command(&program, account);
        let pid = daemon::spawn(start.arg(&config), &log)?;
        write(&dir.join(PID), &pid.to_string())?;
        write(&dir.join(BEHIND), &server.to_string())?;
        daemon::wait(pid, &log, || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(format!("postgres://{}@127.0.0.1:{port}/{}", server.user, server.database))
    }

    fn is_up(&self, dir: &Path) -> bool {
        let behind = fs::read_to_string(dir.join(BEHIND)).unwrap_or_default();
        daemon::living(&dir.join(PID)).is_some()
            && Server::find().is_ok_and(|server| server.to_string() == behind)
    }

    fn stop(&self, dir: &Path) -> Result {
        // At once, whoever is connected.
        daemon::end(&dir.join(PID), "-TERM")
    }

    fn kill(&self, dir: &Path) -> Result {
        daemon::end(&dir.join(PID), "-KILL")
    }

    fn remove(&self, dir: &Path) -> Result {
        super::remove_dirs(&[&daemon::data_dir(dir, Account::for_server(ACCOUNT)?), dir])
    }
}

const PID: &str = "server.pid";
/// The file that says which server it is in front of.
const BEHIND: &str = "behind";

impl PgBouncer {
    /// Whoever connects is the server's user. Drivers ask for settings that it knows nothing of; they are not passed on.
    fn config(&self, server: &Server, port: u16, prepared: Option<u32>) -> String {
        let Server { host, port: behind, user, password, .. } = server;
        let prepared =
            prepared.map(|count| format!("max_prepared_statements = {count}\n")).unwrap_or_default();
        let password = password.as_ref().map(|password| format!(" password={password}")).unwrap_or_default();
        format!(
            "[databases]\n\
             * = host={host} port={behind} user={user}{password}\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = any\n\
             pool_mode = {}\n\
             default_pool_size = 20\n\
             max_client_conn = 1000\n\
             server_idle_timeout = 10\n\
             ignore_startup_parameters = extra_float_digits\n\
             {prepared}",
            self.mode
        )
    }
}

fn version(program: &Path) -> Result<(u32, u32)> {
    let output = Command::new(program).arg("--version").output();
    let output = output.map_err(|error| format!("failed to run {}: {error}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    version_of(&text).ok_or_else(|| format!("{} says that it is {text:?}", program.display()))
}

/// The release of a first line such as `PgBouncer 1.24.1`.
fn version_of(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.lines().next()?.rsplit(' ').next()?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The server behind it.
#[derive(Debug, PartialEq, Eq)]
struct Server {
    host: String,
    port: u16,
    user: String,
    password: Option<String>,
    database: String,
}

impl Server {
    fn find() -> Result<Self> {
        let postgres = super::postgres::Postgres;
        let url = match environment(postgres.variable())? {
            Some(url) => url,
            None => {
                let state = State::load(&workspace::services_dir())?;
                state.url(postgres.name()).map(str::to_owned).ok_or_else(|| {
                    "it needs PostgreSQL: `cargo xtask services up postgres` first".to_owned()
                })?
            }
        };
        Self::of(&url)
            .ok_or_else(|| format!("{url} is no URL of PostgreSQL with a user, a host and a database"))
    }

    fn of(url: &str) -> Option<Self> {
        let (_, rest) = url.split_once("://")?;
        let (account, rest) = rest.split_once('@')?;
        let (address, database) = rest.split_once('/')?;
        let (host, port) = address.split_once(':').unwrap_or((address, "5432"));
        let (user, password) = match account.split_once(':') {
            Some((user, password)) => (user, Some(password.to_owned())),
            None => (account, None),
        };
        let database = database.split('?').next().unwrap_or_default();
        Some(Self {
            host: host.to_owned(),
            port: port.parse().ok()?,
            user: user.to_owned(),
            password,
            database: database.to_owned(),
        })
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}:{}", self.user, self.host, self.port)
    }
}

fn write(path: &Path, content: &str) -> Result {
    fs::write(path, content).map_err(|error| format!("failed to write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_that_of_the_first_line() {
        assert_eq!(version_of("PgBouncer 1.24.1\nlibevent 2.1.12-stable\n"), Some((1, 24)));
        assert!(version_of("PgBouncer 1.18.0\n").unwrap() < KEEPS_STATEMENTS);
        assert_eq!(version_of("a pooler"), None);
    }

    #[test]
    fn the_server_behind_it_is_that_of_a_url() {
        let server = Server::of("postgres://me:secret@db:6000/app?x=y").unwrap();
        assert_eq!((server.to_string().as_str(), server.database.as_str()), ("me@db:6000", "app"));
        assert_eq!(server.password.as_deref(), Some("secret"));
        assert_eq!(Server::of("postgres://me@db/app").unwrap().port, 5432);
        assert_eq!(Server::of("db:6000"), None);
    }
}
