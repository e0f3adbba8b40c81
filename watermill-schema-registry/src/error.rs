//! [`RegistryError`]: why a registry did not give or take a schema.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use watermill_core::error::{BoxError, Nack, Permanent};

/// What a registry was asked for and did not do.
#[derive(Clone, Debug)]
pub struct RegistryError {
    kind: RegistryErrorKind,
    what: Arc<str>,
    detail: Arc<str>,
    /// For how long the registry asks to be left alone.
    retry_after: Option<Duration>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// What kept a registry from doing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RegistryErrorKind {
    /// It is away, busy, or has not answered in time, though it was asked again and again. A message that waits for a schema is
    /// given back and comes again; its handler's policy does not count it.
    Unavailable,
    /// It does not let us in, or what is at its URL is no registry: see to the configuration. A message that waits for a
    /// schema is given back, as if the registry were away.
    Refused,
    /// It has no such schema, subject or version: the message is of another registry, or this one has not heard of the schema yet, as
    /// followers of a registry hear later. A message that names such a schema has failed, and its handler's policy tries it
    /// again as often as it says.
    NotFound,
    /// The schema is not compatible with those before it, and was not registered. It stays so.
    Incompatible,
    /// The schema is faulty, or the registry takes none of its kind. It stays so; a message that was written with such a schema
    /// has failed for good.
    Invalid,
}

impl RegistryError {
    pub(crate) fn new(kind: RegistryErrorKind, what: &str, detail: impl fmt::Display) -> Self {
        let detail = detail.to_string().into();
        Self { kind, what: what.into(), detail, retry_after: None, source: None }
    }

    pub(crate) fn with_source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    pub(crate) fn after(mut self, delay: Option<Duration>) -> Self {
        self.retry_after = delay;
        self
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What kept the registry from it.
    pub fn kind(&self) -> RegistryErrorKind {
        self.kind
    }

    /// Whether asking again may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, RegistryErrorKind::Unavailable | RegistryErrorKind::NotFound)
    }

    /// As the error of a handler whose message waits for a schema.
    #[cfg_attr(
        not(feature = "avro"),
        expect(dead_code, reason = "of the formats, Avro alone fetches schemas")
    )]
    pub(crate) fn of_message(self) -> BoxError {
        match self.kind {
            RegistryErrorKind::Unavailable | RegistryErrorKind::Refused => Nack::new(self).into(),
            RegistryErrorKind::NotFound => self.into(),
            RegistryErrorKind::Incompatible | RegistryErrorKind::Invalid => Permanent::new(self).into(),
        }
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.detail)
    }
}

impl Error for RegistryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
