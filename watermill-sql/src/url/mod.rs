//! Databases by their URLs, for programs that are told at run time which one they work on.

mod access;
mod pool;

pub use access::SqlNeeds;
pub use pool::{HeldBackGauge, SqlPool};

use std::{fmt, sync::Arc, time::Duration};

use watermill_core::{Publisher, Subscriber, error::ConfigError};

use crate::{SqlPublisherConfig, SqlSubscriberConfig};

/// Where a database is and who asks: `postgres://`, `mysql://`, `mariadb://` or `sqlite:`, each as sqlx reads it and
/// behind the feature of its name.
///
/// A SQLite file that is missing is made, unless the URL names a `mode`. Its debug form shows no password.
#[derive(Clone)]
pub struct SqlUrl {
    url: String,
    kind: Kind,
    password: Option<String>,
    application: String,
    connections: u32,
    acquire_timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Postgres,
    MySql,
    Sqlite,
}

const WHAT: &str = "read the URL of a database";

impl SqlUrl {
    /// Reads a URL. Nothing is connected.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a URL of another scheme, and for that of a database whose feature this program was built
    /// without. Its text repeats nothing that may be a password.
    pub fn new(url: impl Into<String>) -> Result<Self, ConfigError> {
        let url = url.into();
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        let (kind, feature, is_there) = match scheme {
            "postgres" | "postgresql" => (Kind::Postgres, "postgres", cfg!(feature = "postgres")),
            "mysql" | "mariadb" => (Kind::MySql, "mysql", cfg!(feature = "mysql")),
            "sqlite" => (Kind::Sqlite, "sqlite", cfg!(feature = "sqlite")),
            _ => {
                let schemes = "url: it begins with postgres://, mysql://, mariadb:// or sqlite:";
                return Err(ConfigError::new(WHAT, schemes));
            }
        };
        if !is_there {
            return Err(ConfigError::new(WHAT, format!("url: this program is built without `{feature}`")));
        }
        let application = "watermill".to_owned();
        let (connections, acquire_timeout) = (10, Duration::from_secs(30));
        let url = Self { url, kind, password: None, application, connections, acquire_timeout };
        url.check()?;
        Ok(url)
    }

    /// Sets the password, over one in the URL. SQLite has none.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Sets what PostgreSQL shows as the application. Default: `watermill`.
    #[must_use]
    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.application = name.into();
        self
    }

    /// Sets the most connections of the pool. Default: 10. At the bound, calls wait for one.
    #[must_use]
    pub fn connections(mut self, connections: u32) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// Sets how long a call waits for a connection. Default: 30 s.
    #[must_use]
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// The name of the feature: `postgres`, `mysql` or `sqlite`.
    pub fn database(&self) -> &'static str {
        match self.kind {
            Kind::Postgres => "postgres",
            Kind::MySql => "mysql",
            Kind::Sqlite => "sqlite",
        }
    }

    /// The URL without its password, for people.
    pub fn shown(&self) -> String {
        without_password(&self.url)
    }
}

/// A subscriber to logs in the database that a URL names, with a pool of its own.
///
/// To be called on the runtime that it is used on.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let url = format!("sqlite:{}", folder.path().join("shop.db").display());
/// use futures::StreamExt;
/// use watermill_core::{Message, Publisher, Subscriber};
/// use watermill_sql::{SqlPublisherConfig, SqlSubscriberConfig, publisher_from_url, subscriber_from_url};
///
/// let orders = subscriber_from_url(&url, SqlSubscriberConfig::default().group("billing"))?;
/// let publisher = publisher_from_url(&url, SqlPublisherConfig::default())?;
/// let mut subscription = orders.subscribe("orders").await?;
/// publisher.publish("orders", vec![Message::new("one")]).await?;
/// let delivery = subscription.next().await.expect("the stream does not end by itself")?;
/// assert_eq!(delivery.payload(), "one");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`ConfigError`] as [`SqlUrl::new`] and [`SqlSubscriberConfig::validate`].
pub fn subscriber_from_url(
    url: &str,
    config: SqlSubscriberConfig,
) -> Result<Arc<dyn Subscriber>, ConfigError> {
    SqlUrl::new(url)?.connect().subscriber(config)
}

/// A publisher to the database that a URL names, with a pool of its own; see [`subscriber_from_url`].
///
/// # Errors
///
/// [`ConfigError`] as [`SqlUrl::new`] and [`SqlPublisherConfig::validate`].
pub fn publisher_from_url(url: &str, config: SqlPublisherConfig) -> Result<Arc<dyn Publisher>, ConfigError> {
    SqlUrl::new(url)?.connect().publisher(config)
}

/// `postgres://user:***@host/database`.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // A password that nobody has escaped may hold any of these, and what is behind it is then shown as if it were none.
    let Some(at) = rest.rfind('@') else { return hide_parameter(url) };
    match rest[..at].split_once(':') {
        Some((user, _)) => hide_parameter(&format!("{scheme}://{user}:***{}", &rest[at..])),
        None if at < end => hide_parameter(url),
        None => format!("{scheme}://***{}", &rest[at..]),
    }
}

/// Without the value of a parameter `password`, which PostgreSQL's URLs may have.
fn hide_parameter(url: &str) -> String {
    let Some((before, query)) = url.split_once('?') else { return url.to_owned() };
    let shown = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if name.contains("password") => format!("{name}=***"),
        _ => pair.to_owned(),
    });
    format!("{before}?{}", shown.collect::<Vec<_>>().join("&"))
}

impl fmt::Debug for SqlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlUrl")
            .field("url", &self.shown())
            .field("has_password", &self.password.is_some())
            .field("application", &self.application)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        for (url, shown) in [
            ("postgres://a:secret@h:5432/d?x=1", "postgres://a:***@h:5432/d?x=1"),
            ("postgres://a:sec/r@et@h/d", "postgres://a:***@h/d"),
            ("postgres://a@h/d", "postgres://a@h/d"),
            ("postgres://h/d?user=a&password=secret", "postgres://h/d?user=a&password=***"),
            ("sqlite:shop.db", "sqlite:shop.db"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn what_is_no_url_of_a_database_is_refused_without_repeating_it() {
        for url in ["", "shop.db", "http://a:secret@h", "postgresecret"] {
            let error = SqlUrl::new(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        assert_eq!(SqlUrl::new("sqlite:shop.db").unwrap().database(), "sqlite");
    }
}
