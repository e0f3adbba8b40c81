//! [`PubSubAccess`]: which project, where, and as whom.

use std::{env, fmt};

use google_cloud_auth::credentials::{Credentials, anonymous};

/// The variable that Google's tools name an emulator in.
const EMULATOR_VARIABLE: &str = "PUBSUB_EMULATOR_HOST";

/// Which project, where, and as whom: what a publisher and a subscriber share.
///
/// ```
/// use watermill_gcp::{PubSubAccess, PubSubPublisherConfig};
///
/// let by_default = PubSubPublisherConfig::new("my-project");
/// let explicit = PubSubPublisherConfig::new(PubSubAccess::new("my-project").emulator("127.0.0.1:8085"));
/// # let _ = (by_default, explicit);
/// ```
///
/// Without another word it is Google's service, with the [application default credentials] of this machine;
/// or, when the variable `PUBSUB_EMULATOR_HOST` is set, the emulator that it names, in plain text and
/// without credentials.
///
/// [application default credentials]: https://cloud.google.com/docs/authentication/application-default-credentials
#[derive(Clone)]
pub struct PubSubAccess {
    project: String,
    credentials: Option<Credentials>,
    endpoint: Option<String>,
    emulator: Emulator,
    channels: Option<usize>,
}

#[derive(Clone, Debug)]
enum Emulator {
    /// If the environment names one.
    Environment,
    At(String),
    Never,
}

impl PubSubAccess {
    /// Access to the topics and subscriptions of a project.
    pub fn new(project: impl Into<String>) -> Self {
        Self {
            project: project.into(),
            credentials: None,
            endpoint: None,
            emulator: Emulator::Environment,
            channels: None,
        }
    }

    /// Sets the credentials. Default: the application default ones. An emulator is asked without any.
    #[must_use]
    pub fn credentials(mut self, credentials: impl Into<Credentials>) -> Self {
        self.credentials = Some(credentials.into());
        self
    }

    /// Sets the URL of the service, that of a region for instance, whose messages keep their order however
    /// many regions their publishers are in: `https://europe-west1-pubsub.googleapis.com`. Default: the
    /// global one. An emulator has its own.
    #[must_use]
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// Uses the emulator at this `host:port`, whatever the environment says.
    #[must_use]
    pub fn emulator(mut self, host_and_port: impl Into<String>) -> Self {
        self.emulator = Emulator::At(host_and_port.into());
        self
    }

    /// Uses no emulator, whatever the environment says.
    #[must_use]
    pub fn no_emulator(mut self) -> Self {
        self.emulator = Emulator::Never;
        self
    }

    /// Sets how many connections a publisher or a subscriber has. Default: the client's, 1. More help where
    /// many streams or large messages share one.
    #[must_use]
    pub fn channels(mut self, channels: usize) -> Self {
        self.channels = Some(channels);
        self
    }

    /// The project.
    pub fn project(&self) -> &str {
        &self.project
    }

    pub(crate) fn topic(&self, topic: &str) -> String {
        format!("projects/{}/topics/{topic}", self.project)
    }

    pub(crate) fn subscription(&self, subscription: &str) -> String {
        format!("projects/{}/subscriptions/{subscription}", self.project)
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.project.is_empty() || self.project.contains(['/', ' ']) {
            problems.push(format!("project: {:?} is no project's id", self.project));
        }
        if let Emulator::At(at) = &self.emulator
            && (at.is_empty() || at.contains(['/', ' ']))
        {
            problems.push(format!("emulator: {at:?} is no host:port"));
        }
        if self.endpoint.as_ref().is_some_and(|url| !url.starts_with("http")) {
            problems.push("endpoint: it is no URL".to_owned());
        }
        if self.channels == Some(0) {
            problems.push("channels: zero would connect nothing".to_owned());
        }
        problems
    }

    /// What the builders of clients are told: URL, credentials and channels, each if it is not the default.
    pub(crate) fn resolve(&self) -> (Option<String>, Option<Credentials>, Option<usize>) {
        let emulator = match &self.emulator {
            Emulator::Environment => env::var(EMULATOR_VARIABLE).ok().filter(|at| !at.trim().is_empty()),
            Emulator::At(at) => Some(at.clone()),
            Emulator::Never => None,
        };
        match emulator {
            Some(at) => {
                let nobody = anonymous::Builder::new().build();
                (Some(format!("http://{}", at.trim())), Some(nobody), self.channels)
            }
            None => (self.endpoint.clone(), self.credentials.clone(), self.channels),
        }
    }
}

impl<P: Into<String>> From<P> for PubSubAccess {
    fn from(project: P) -> Self {
        Self::new(project)
    }
}

/// Without the credentials.
impl fmt::Debug for PubSubAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PubSubAccess")
            .field("project", &self.project)
            .field("own_credentials", &self.credentials.is_some())
            .field("endpoint", &self.endpoint)
            .field("emulator", &self.emulator)
            .field("channels", &self.channels)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulator_is_asked_in_plain_text_and_without_credentials() {
        let access = PubSubAccess::new("p").endpoint("https://example.com").emulator("127.0.0.1:8085");
        let (url, credentials, _) = access.resolve();
        assert_eq!(url.as_deref(), Some("http://127.0.0.1:8085"));
        assert!(credentials.is_some());
        let (url, credentials, _) = access.no_emulator().resolve();
        assert_eq!(url.as_deref(), Some("https://example.com"));
        assert!(credentials.is_none());
    }

    #[test]
    fn every_problem_is_named() {
        let access = PubSubAccess::new("").emulator("http://x").endpoint("x").channels(0);
        assert_eq!(access.problems().len(), 4, "{:?}", access.problems());
        assert!(PubSubAccess::new("p").problems().is_empty());
    }
}
