//! [`Caller`]: asks a registry, within bounds of time, again while that may help.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode, Url,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep, timeout};

use crate::{RegistryError, RegistryErrorKind, SchemaRegistryConfig, wire::Fault};

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/vnd.schemaregistry.v1+json");

/// How much of what a registry says is shown in an error.
const SHOWN_CHARS: usize = 1_000;

/// The longest that a registry can ask to be left alone.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Asks the registry.
#[derive(Debug)]
pub(crate) struct Caller {
    http: Client,
    places: Vec<Url>,
    /// Which of them has answered last.
    place: AtomicUsize,
    config: SchemaRegistryConfig,
}

/// What the registry is asked for.
pub(crate) struct Call<'c, B = ()> {
    /// A fragment that reads after "failed to".
    pub(crate) what: &'c str,
    pub(crate) method: Method,
    pub(crate) path: &'c [&'c str],
    pub(crate) query: &'c [(&'c str, &'c str)],
    pub(crate) body: Option<&'c B>,
}

impl Caller {
    pub(crate) fn new(config: SchemaRegistryConfig, http: Client) -> Self {
        Self { http, places: config.places(), place: AtomicUsize::new(0), config }
    }

    pub(crate) fn config(&self) -> &SchemaRegistryConfig {
        &self.config
    }

    /// Asks until there is an answer, until that would take too long, or asking again cannot help.
    pub(crate) async fn call<T: DeserializeOwned, B: Serialize>(
        &self,
        call: Call<'_, B>,
    ) -> Result<T, RegistryError> {
        let begun = Instant::now();
        let first = self.place.load(Ordering::Relaxed);
        let mut tries = 0;
        loop {
            let place = (first + tries) % self.places.len();
            let error = match timeout(self.config.timeout, self.ask(&self.places[place], &call)).await {
                Ok(Ok(body)) => {
                    self.place.store(place, Ordering::Relaxed);
                    return read(&call, &body);
                }
                Ok(Err(error)) => error,
                Err(_) => {
                    let detail = format!("the registry has not answered within {:?}", self.config.timeout);
                    RegistryError::new(RegistryErrorKind::Unavailable, call.what, detail)
                }
            };
            if error.kind() != RegistryErrorKind::Unavailable {
                return Err(error);
            }
            tries += 1;
            let wait = self.wait(tries, &error);
            if begun.elapsed() + wait >= self.config.call_timeout {
                return Err(error);
            }
            tracing::warn!(registry = %self.places[place], tries, ?wait, %error, "a schema registry is asked again");
            sleep(wait).await;
        }
    }

    /// No wait before another place is tried, but before each round.
    fn wait(&self, tries: usize, error: &RegistryError) -> Duration {
        if !tries.is_multiple_of(self.places.len()) {
            return Duration::ZERO;
        }
        let round = u32::try_from(tries / self.places.len() - 1).unwrap_or(u32::MAX);
        self.config.backoff.delay(round).max(error.retry_after().unwrap_or_default())
    }

    /// Asks once, and has the body of an answer that is well.
    async fn ask<B: Serialize>(&self, place: &Url, call: &Call<'_, B>) -> Result<Vec<u8>, RegistryError> {
        let unreachable = |error: reqwest::Error| {
            // It repeats the URL otherwise, which is shown beside it.
            let error = error.without_url();
            RegistryError::new(RegistryErrorKind::Unavailable, call.what, "the registry cannot be reached")
                .with_source(error)
        };
        let mut answer = self.request(place, call)?.send().await.map_err(unreachable)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > self.config.answer_bytes {
                let detail = format!("the answer has more than {} bytes", self.config.answer_bytes);
                return Err(RegistryError::new(RegistryErrorKind::Refused, call.what, detail));
            }
            body.extend_from_slice(&chunk);
        }
        if answer.status().is_success() { Ok(body) } else { Err(refused(call.what, &answer, &body)) }
    }

    fn request<B: Serialize>(
        &self,
        place: &Url,
        call: &Call<'_, B>,
    ) -> Result<RequestBuilder, RegistryError> {
        let mut url = place.clone();
        // Such would be taken for steps in the path.
        if call.path.iter().any(|segment| ["", ".", ".."].contains(segment)) {
            let detail = "a subject is not empty, and no dots alone";
            return Err(RegistryError::new(RegistryErrorKind::Invalid, call.what, detail));
        }
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(call.path);
        }
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query);
        }
        let mut request = self.http.request(call.method.clone(), url).header(ACCEPT, MEDIA_TYPE);
        if let Some((user, password)) = self.config.login() {
            request = request.basic_auth(user, Some(password));
        }
        for (name, value) in &self.config.headers {
            request = request.header(name, value);
        }
        if let Some(body) = call.body {
            // The media type comes first: a body of JSON does not put its own in the place of one that is there.
            request = request.header(CONTENT_TYPE, MEDIA_TYPE).json(body);
        }
        Ok(request)
    }
}

fn read<T: DeserializeOwned, B>(call: &Call<'_, B>, body: &[u8]) -> Result<T, RegistryError> {
    serde_json::from_slice(body).map_err(|error| {
        let detail = "the answer is none of a schema registry";
        RegistryError::new(RegistryErrorKind::Refused, call.what, detail).with_source(error)
    })
}

/// What an answer says that is not well. A registry gives every such answer a code; somebody else at its URL does not.
fn refused(what: &str, answer: &Response, body: &[u8]) -> RegistryError {
    let (status, fault) = (answer.status(), serde_json::from_slice::<Fault>(body).ok());
    let kind = match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => RegistryErrorKind::Unavailable,
        _ if status.is_server_error() => RegistryErrorKind::Unavailable,
        StatusCode::NOT_FOUND if fault.is_some() => RegistryErrorKind::NotFound,
        StatusCode::CONFLICT => RegistryErrorKind::Incompatible,
        StatusCode::UNPROCESSABLE_ENTITY => RegistryErrorKind::Invalid,
        _ => RegistryErrorKind::Refused,
    };
    let detail = match &fault {
        Some(Fault { error_code, message }) => {
            format!("the registry says {error_code}: {}", shown(message))
        }
        None => format!("the registry answered {status}"),
    };
    RegistryError::new(kind, what, detail).after(retry_after(answer))
}

/// How long the registry asks to be left alone, in whole seconds; dates, which may be those of another clock, are left out.
fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// The beginning of a text from elsewhere, on one line.
fn shown(text: &str) -> String {
    let characters = text.chars().map(|character| if character.is_control() { ' ' } else { character });
    characters.take(SHOWN_CHARS).collect::<String>().trim().to_owned()
}
