//! [`ClaimStore`]: where large payloads are kept.

use std::{
    error::Error,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use crate::error::BoxError;

/// Keeps payloads until they expire: files, a bucket, a table. Implement it for what you have; each call should end by
/// itself, and may be made any number of times at once.
#[async_trait]
pub trait ClaimStore: Send + Sync {
    /// Keeps a payload, as durably as a message would be.
    async fn put(&self, claim: &Claim, payload: Bytes) -> Result<(), ClaimError>;

    /// Gives back what was kept, any number of times.
    ///
    /// # Errors
    ///
    /// [`ClaimErrorKind::Lost`] for what is not there (any more).
    async fn get(&self, claim: &Claim) -> Result<Bytes, ClaimError>;

    /// Removes what has expired by `now`, and says how many payloads that were. A store that does so by itself, by a rule of
    /// its bucket for instance, has nothing to do.
    async fn remove_expired(&self, now: SystemTime) -> Result<u64, ClaimError> {
        let _ = now;
        Ok(0)
    }
}

#[async_trait]
impl<S: ClaimStore + ?Sized> ClaimStore for Arc<S> {
    async fn put(&self, claim: &Claim, payload: Bytes) -> Result<(), ClaimError> {
        (**self).put(claim, payload).await
    }

    async fn get(&self, claim: &Claim) -> Result<Bytes, ClaimError> {
        (**self).get(claim).await
    }

    async fn remove_expired(&self, now: SystemTime) -> Result<u64, ClaimError> {
        (**self).remove_expired(now).await
    }
}

/// Names a payload in a store, and says until when it is kept: `1764291600000-0193...`. It has digits, small letters and
/// hyphens alone, 80 at the most, so that it is the name of a file or an object as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Claim(String);

/// As long as a claim may be, in bytes.
const CLAIM_BYTES_MAX: usize = 80;

impl Claim {
    /// A claim that nobody else has, to a payload that is kept until then.
    pub fn until(expires: SystemTime) -> Self {
        let ms = expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self(format!("{ms}-{}", Uuid::now_v7()))
    }

    /// Reads a claim. `None` for what is none, the path to another file for instance: metadata are foreign input.
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase() || byte == b'-';
        let (ms, rest) = text.split_once('-')?;
        let fits = text.len() <= CLAIM_BYTES_MAX && !rest.is_empty() && text.bytes().all(is_plain);
        (fits && ms.parse::<u64>().is_ok()).then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Until when the payload is kept.
    pub fn expires(&self) -> SystemTime {
        let ms = self.0.split_once('-').and_then(|(ms, _)| ms.parse().ok()).unwrap_or(0);
        UNIX_EPOCH.checked_add(Duration::from_millis(ms)).unwrap_or(UNIX_EPOCH)
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A store did not do what was asked.
#[derive(Debug)]
pub struct ClaimError {
    kind: ClaimErrorKind,
    claim: String,
    source: Option<BoxError>,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimErrorKind {
    /// The payload is not there: it has expired, or was never stored here. Its message is rejected.
    Lost,
    /// The store cannot be reached, or is busy: it passes. Calls to publish fail and may be made again; deliveries are
    /// nacked and come again.
    Unavailable,
    /// The store refuses, for want of permission for instance. As `Unavailable` for deliveries, for the message can still
    /// be had when that is mended.
    Refused,
}

impl ClaimError {
    /// A failure that concerns this claim.
    pub fn new(kind: ClaimErrorKind, claim: &Claim) -> Self {
        Self { kind, claim: claim.to_string(), source: None }
    }

    /// Keeps the native error, as [`source`](Error::source).
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What is wrong.
    pub fn kind(&self) -> ClaimErrorKind {
        self.kind
    }
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keep the payload {:?}: ", self.claim)?;
        f.write_str(match self.kind {
            ClaimErrorKind::Lost => "it is not in the store; it has expired, or is in another store",
            ClaimErrorKind::Unavailable => "the store is unavailable",
            ClaimErrorKind::Refused => "the store refused",
        })
    }
}

impl Error for ClaimError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_read_back_and_what_is_none_is_refused() {
        let expires = UNIX_EPOCH + Duration::from_millis(1_764_291_600_123);
        let claim = Claim::until(expires);
        assert_eq!(claim.expires(), expires);
        assert_eq!(Claim::parse(claim.as_str()), Some(claim.clone()));
        assert_ne!(Claim::until(expires), claim);
        let long = format!("1-{}", "a".repeat(100));
        for foreign in ["", "1", "1-", "-a", "../../etc/passwd", "1-../x", "1-A", "1-a/b", "x-a", &long] {
            assert_eq!(Claim::parse(foreign), None, "{foreign}");
        }
    }
}
