//! [`SchemaRegistryConfig`].

use std::{fmt, time::Duration};

use reqwest::{
    Url,
    header::{AUTHORIZATION, HeaderName, HeaderValue},
};
use watermill_core::{Backoff, error::ConfigError};

/// Where a registry is, and how it is asked.
#[derive(Clone)]
pub struct SchemaRegistryConfig {
    urls: Vec<String>,
    basic: Option<(String, String)>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) timeout: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) registers: bool,
    pub(crate) normalizes: bool,
    pub(crate) cached_schemas: usize,
    pub(crate) answer_bytes: usize,
    problems: Vec<String>,
}

impl SchemaRegistryConfig {
    /// A registry at a URL, with the path below which it serves Confluent's API: `http://localhost:8081`, or
    /// `https://registry.internal/apis/ccompat/v7`. What stands in the URL before an `@` is not taken: use
    /// [`basic_auth`](Self::basic_auth).
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            basic: None,
            headers: Vec::new(),
            timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(20),
            backoff: Backoff::exponential(Duration::from_millis(100)).max(Duration::from_secs(2)),
            registers: true,
            normalizes: false,
            cached_schemas: 1_000,
            answer_bytes: 8 * 1024 * 1024,
            problems: Vec::new(),
        }
    }

    /// Adds another URL of the same registry, which is asked when those before it are away. Default: none.
    #[must_use]
    pub fn or_at(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// Logs in with a name and a password, or with a key and its secret. Default: no login.
    #[must_use]
    pub fn basic_auth(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.basic = Some((user.into(), password.into()));
        self
    }

    /// Logs in with a token. Default: no login.
    #[must_use]
    pub fn bearer_auth(self, token: &str) -> Self {
        self.header(AUTHORIZATION.as_str(), &format!("Bearer {token}"))
    }

    /// Adds a header to every request. Values are not shown in `Debug`. Default: none.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                self.headers.push((name, value));
            }
            _ => self.problems.push(format!("the header {name:?} is none, or its value")),
        }
        self
    }

    /// Sets how long one request may take, with connecting and the whole answer. Default: 5 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets for how long a call tries again while the registry is away, busy or slow: it ends within this and
    /// [`timeout`](Self::timeout) together. Default: 20 s.
    #[must_use]
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// Sets the waits before a call tries again, once each URL was tried. Default: 100 ms, then twice as long each time, up to
    /// 2 s. Where the registry says how long to leave it alone, that counts if it is longer.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Whether a schema that the registry does not have is registered. Where schemas are registered by somebody else, and this
    /// process may not, say `false`: then it is an error that one is not there. Default: true.
    #[must_use]
    pub fn register_schemas(mut self, registers: bool) -> Self {
        self.registers = registers;
        self
    }

    /// Whether the registry compares schemas by what they mean and not by their text, where it can
    /// (`normalize=true`). Default: false.
    #[must_use]
    pub fn normalize(mut self, normalizes: bool) -> Self {
        self.normalizes = normalizes;
        self
    }

    /// Sets how many schemas are kept, by their numbers. Numbers never get another schema, so that nothing is asked again for
    /// its age; at the bound the oldest is left out, and asked for again when it is needed. Default: 1,000.
    #[must_use]
    pub fn cached_schemas(mut self, schemas: usize) -> Self {
        self.cached_schemas = schemas;
        self
    }

    /// Sets how large an answer may be, in bytes. A larger one is an error. Default: 8 MiB.
    #[must_use]
    pub fn answer_bytes(mut self, bytes: usize) -> Self {
        self.answer_bytes = bytes;
        self
    }

    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let urls = self.urls.iter().filter_map(|url| parse(url).err());
        ConfigError::check("configure the client of a schema registry")
            .with(self.problems.iter().cloned())
            .with(urls)
            .unless(!self.timeout.is_zero(), "timeout is 0, so no request could be answered")
            .unless(self.cached_schemas > 0, "cached_schemas is 0, so each message would ask the registry")
            .unless(self.answer_bytes > 0, "answer_bytes is 0, so no answer could be read")
            .finish()
    }

    /// Where the registry is, of a configuration that is valid.
    pub(crate) fn places(&self) -> Vec<Url> {
        self.urls.iter().filter_map(|url| parse(url).ok()).collect()
    }

    pub(crate) fn login(&self) -> Option<&(String, String)> {
        self.basic.as_ref()
    }
}

/// A URL of a registry. What is wrong with it is told without it, as it may have a password.
fn parse(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("a URL of the registry is none: {error}"))?;
    let has_login = !url.username().is_empty() || url.password().is_some();
    match url.scheme() {
        _ if has_login => Err("a URL of the registry has a login: use `basic_auth`".to_owned()),
        _ if url.query().is_some() || url.fragment().is_some() => {
            Err("a URL of the registry has a query or a fragment".to_owned())
        }
        "http" => Ok(url),
        "https" if cfg!(feature = "tls") => Ok(url),
        "https" => Err("a URL for TLS: build watermill-schema-registry with its feature `tls`".to_owned()),
        _ => Err("a URL of the registry begins with http:// or https://".to_owned()),
    }
}

impl fmt::Debug for SchemaRegistryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchemaRegistryConfig")
            .field("urls", &self.places().iter().map(Url::as_str).collect::<Vec<_>>())
            .field("logs_in", &(self.basic.is_some() || !self.headers.is_empty()))
            .field("timeout", &self.timeout)
            .field("call_timeout", &self.call_timeout)
            .field("backoff", &self.backoff)
            .field("registers", &self.registers)
            .field("normalizes", &self.normalizes)
            .field("cached_schemas", &self.cached_schemas)
            .field("answer_bytes", &self.answer_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_told_and_no_secret_is() {
        let config = SchemaRegistryConfig::new("http://ada:pw@localhost")
            .or_at("ftp://localhost")
            .or_at("localhost:8081")
            .or_at("http://localhost/?token=pw")
            .header("a b", "pw")
            .bearer_auth("pw")
            .basic_auth("ada", "pw")
            .timeout(Duration::ZERO)
            .cached_schemas(0)
            .answer_bytes(0);
        let error = config.validate().unwrap_err();
        assert_eq!(error.problems().count(), 8, "{error}");
        assert!(!format!("{error} {config:?}").contains("pw"), "{error} {config:?}");
    }

    #[test]
    fn a_registry_may_be_below_a_path_and_at_several_places() {
        let config = SchemaRegistryConfig::new("http://a:8080/apis/ccompat/v7").or_at("http://[::1]:8081/");
        config.validate().unwrap();
        assert_eq!(config.places().len(), 2);
        let tls = SchemaRegistryConfig::new("https://registry.internal").validate();
        assert_eq!(tls.is_ok(), cfg!(feature = "tls"));
    }
}
