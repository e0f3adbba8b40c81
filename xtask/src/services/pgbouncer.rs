//! PgBouncer, a pooler in front of PostgreSQL, once for each way in which it shares connections.

use std::{fs, net::TcpStream, path::Path};

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
}

const PACKAGE: &str = "pgbouncer";
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
        write(&config, &self.config(&server, port))?;
        let mut start = daemon::command(&program, account);
        let pid = daemon::spawn(start.arg(&config), &log)?;
        write(&dir.join(PID), &pid.to_string())?;
        write(&dir.join(BEHIND), &server.to_string())?;
        daemon::wait(&log, || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
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
    fn config(&self, server: &Server, port: u16) -> String {
        let Server { host, port: behind, user, password, .. } = server;
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
             ignore_startup_parameters = extra_float_digits\n",
            self.mode
        )
    }
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
    fn the_server_behind_it_is_that_of_a_url() {
        let server = Server::of("postgres://me:secret@db:6000/app?x=y").unwrap();
        assert_eq!((server.to_string().as_str(), server.database.as_str()), ("me@db:6000", "app"));
        assert_eq!(server.password.as_deref(), Some("secret"));
        assert_eq!(Server::of("postgres://me@db/app").unwrap().port, 5432);
        assert_eq!(Server::of("db:6000"), None);
    }
}
