//! Real servers for tests: where to find them.

use std::{
    env,
    error::Error,
    fmt, fs, io,
    path::{Path, PathBuf},
};

/// The file, below the target directory, that `cargo xtask services up` writes: one JSON object of
/// service names and URLs.
const STATE_FILE: &str = "services/services.json";

/// A server that tests need.
///
/// It is looked for in the environment first, then among those that `cargo xtask services up` has
/// started. A test whose server is missing fails, and says how to start it: it is never skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name, for `cargo xtask services up` and in the file written by that.
    pub name: &'static str,
    /// The environment variable that overrides the file.
    pub variable: &'static str,
}

/// A service was not found.
#[derive(Debug)]
pub struct ServiceMissing {
    service: Service,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    NotStarted,
    EmptyVariable,
    Unreadable(PathBuf, io::Error),
}

impl Service {
    /// PostgreSQL, as a URL with a user that may create databases.
    pub const POSTGRES: Self = Self::new("postgres", "WATERMILL_TEST_POSTGRES_URL");
    /// PgBouncer in transaction mode in front of [`POSTGRES`](Self::POSTGRES), as a URL with its user.
    pub const PGBOUNCER: Self = Self::new("pgbouncer", "WATERMILL_TEST_PGBOUNCER_URL");
    /// The same in session mode.
    pub const PGBOUNCER_SESSION: Self =
        Self::new("pgbouncer-session", "WATERMILL_TEST_PGBOUNCER_SESSION_URL");
    /// The same in transaction mode, with prepared statements where its release keeps them.
    pub const PGBOUNCER_PREPARED: Self =
        Self::new("pgbouncer-prepared", "WATERMILL_TEST_PGBOUNCER_PREPARED_URL");
    /// MySQL or MariaDB, as a URL with a user that may create databases.
    pub const MYSQL: Self = Self::new("mysql", "WATERMILL_TEST_MYSQL_URL");
    /// Kafka, as a comma-separated list of `host:port`.
    pub const KAFKA: Self = Self::new("kafka", "WATERMILL_TEST_KAFKA_BROKERS");
    /// The emulator of Google's Pub/Sub, as `host:port`.
    pub const PUBSUB: Self = Self::new("pubsub", "WATERMILL_TEST_PUBSUB_EMULATOR");
    /// Redis or Valkey, as a URL.
    pub const REDIS: Self = Self::new("redis", "WATERMILL_TEST_REDIS_URL");
    /// RabbitMQ, as a URL with a user that may declare what it likes.
    pub const RABBITMQ: Self = Self::new("rabbitmq", "WATERMILL_TEST_RABBITMQ_URL");
    /// NATS with JetStream, as a URL.
    pub const NATS: Self = Self::new("nats", "WATERMILL_TEST_NATS_URL");

    /// Any other service.
    pub const fn new(name: &'static str, variable: &'static str) -> Self {
        Self { name, variable }
    }

    /// Where it is.
    ///
    /// # Errors
    ///
    /// [`ServiceMissing`], which says how to start it.
    pub fn find(self) -> Result<String, ServiceMissing> {
        self.find_in(env::var(self.variable).ok(), &target_directories())
    }

    /// Where it is, for tests.
    ///
    /// # Panics
    ///
    /// When it is not there; the text says how to start it.
    #[track_caller]
    pub fn url(self) -> String {
        self.find().unwrap_or_else(|missing| match missing.source() {
            Some(source) => panic!("{missing}: {source}"),
            None => panic!("{missing}"),
        })
    }

    fn find_in(self, variable: Option<String>, targets: &[PathBuf]) -> Result<String, ServiceMissing> {
        let missing = |reason| ServiceMissing { service: self, reason };
        match variable {
            // Half a configuration is a mistake, and not the wish to look elsewhere.
            Some(url) if url.trim().is_empty() => return Err(missing(Reason::EmptyVariable)),
            Some(url) => return Ok(url),
            None => {}
        }
        for path in targets.iter().map(|target| target.join(STATE_FILE)) {
            match read(&path) {
                Ok(services) => {
                    if let Some(url) = services.get(self.name).and_then(|url| url.as_str()) {
                        return Ok(url.to_owned());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(missing(Reason::Unreadable(path, error))),
            }
        }
        Err(missing(Reason::NotStarted))
    }
}

impl fmt::Display for ServiceMissing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Service { name, variable } = self.service;
        write!(f, "find {name}: ")?;
        match &self.reason {
            Reason::NotStarted => f.write_str("it is not running")?,
            Reason::EmptyVariable => write!(f, "{variable} is set and empty")?,
            Reason::Unreadable(path, _) => write!(f, "{} cannot be read", path.display())?,
        }
        write!(f, "; start it with `cargo xtask services up {name}`, or set {variable}")
    }
}

impl Error for ServiceMissing {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.reason {
            Reason::Unreadable(_, error) => Some(error),
            _ => None,
        }
    }
}

fn read(path: &Path) -> io::Result<serde_json::Map<String, serde_json::Value>> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// The target directory that was asked for, then those of the current directory and its parents: a
/// test runs in the directory of its package.
fn target_directories() -> Vec<PathBuf> {
    let asked = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let current = env::current_dir().unwrap_or_default();
    let found = current.ancestors().map(|directory| directory.join("target"));
    asked.into_iter().chain(found).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: Service = Service::new("example", "WATERMILL_TEST_EXAMPLE_URL");

    /// A target directory with a state file of this content.
    fn target(content: &str) -> PathBuf {
        let target = env::temp_dir().join(crate::unique("watermill_testkit"));
        fs::create_dir_all(target.join("services")).unwrap();
        fs::write(target.join(STATE_FILE), content).unwrap();
        target
    }

    #[test]
    fn the_environment_comes_before_what_was_started() {
        let target = target(r#"{"example": "started", "other": "x"}"#);
        let targets = [PathBuf::from("/nowhere"), target.clone()];
        assert_eq!(SERVICE.find_in(None, &targets).unwrap(), "started");
        assert_eq!(SERVICE.find_in(Some("asked for".into()), &targets).unwrap(), "asked for");
        fs::remove_dir_all(target).unwrap();
    }

    #[test]
    fn what_is_missing_says_how_to_start_it() {
        let target = target("{}");
        let error = SERVICE.find_in(None, std::slice::from_ref(&target)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "find example: it is not running; start it with `cargo xtask services up example`, \
             or set WATERMILL_TEST_EXAMPLE_URL"
        );
        let error = SERVICE.find_in(Some(" ".into()), std::slice::from_ref(&target)).unwrap_err();
        assert!(error.to_string().contains("is set and empty"), "{error}");
        fs::remove_dir_all(target).unwrap();
    }

    #[test]
    fn a_broken_state_file_is_not_taken_for_a_missing_one() {
        let target = target("{ broken");
        let error = SERVICE.find_in(None, std::slice::from_ref(&target)).unwrap_err();
        assert!(error.to_string().contains("cannot be read"), "{error}");
        assert!(error.source().is_some());
        fs::remove_dir_all(target).unwrap();
    }
}
