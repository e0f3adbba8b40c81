//! [`Prepared`]: a handler that waits to be started.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    RunError, RunErrorKind, concurrency::Concurrency, failure::FailurePolicy, promise::Said, runner::Run,
    sink::Sink, topology::Documents,
};
use crate::Subscriber;

/// A handler that waits to be started, with its service's type forgotten.
pub(super) struct Prepared {
    pub(super) spec: Spec,
    pub(super) runner: Box<dyn Run>,
}

/// Everything about a handler but its service.
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) subscriber: Arc<dyn Subscriber>,
    pub(super) topic: String,
    pub(super) group: Option<String>,
    pub(super) sink: Sink,
    pub(super) policy: FailurePolicy,
    pub(super) concurrency: Concurrency,
    pub(super) pipeline: usize,
    /// The type names of the layers, the outermost first.
    pub(super) layers: Vec<&'static str>,
    /// What the handler's types tell of its payloads.
    pub(super) documents: Documents,
    pub(super) problems: Vec<String>,
}

impl Spec {
    /// Puts layers around those it has.
    pub(super) fn wrap(&mut self, layers: &[&'static str]) {
        self.layers.splice(0..0, layers.iter().copied());
    }

    /// Notes what the handler needs of a layer and none has promised.
    pub(super) fn compare(&mut self, said: &Said) {
        let needs_publisher = self.sink.topic.is_some() && self.sink.publisher.is_none();
        self.problems.extend(said.problems(needs_publisher));
    }

    /// What a message passes through.
    pub(super) fn chain(&self) -> String {
        let layers = self.layers.iter().map(|name| short(name));
        layers.chain([self.name.as_str()]).collect::<Vec<_>>().join(" > ")
    }

    fn problems(&self) -> impl Iterator<Item = String> {
        let empty = |topic: Option<&str>, what: &str| {
            (topic == Some("")).then(|| format!("the topic it {what} has no name"))
        };
        let problems = self.problems.iter().cloned();
        let problems = problems.chain(self.policy.problem().map(Into::into));
        let problems = problems.chain(empty(Some(&self.topic), "consumes"));
        let problems = problems.chain(empty(self.sink.topic.as_deref(), "publishes to"));
        problems.map(|problem| format!("handler {:?}: {problem}", self.name))
    }
}

/// Everything that can be known to be wrong before anything is started. `problems` are those of the router.
pub(super) fn check<'h>(
    handlers: impl IntoIterator<Item = &'h Prepared>,
    mut problems: Vec<String>,
) -> Result<(), RunError> {
    let mut names = BTreeSet::new();
    for Prepared { spec, .. } in handlers {
        if !names.insert(&spec.name) {
            problems.push(duplicate(&spec.name));
        }
        problems.extend(spec.problems());
    }
    if problems.is_empty() { Ok(()) } else { Err(RunError::new(RunErrorKind::Build, problems.join("; "))) }
}

pub(super) fn duplicate(name: &str) -> String {
    format!("two handlers are named {name:?}; names are unique in a router")
}

/// A type name without its path and parameters: `watermill_core::middleware::retry::Retry` is `Retry`.
pub(super) fn short(name: &'static str) -> &'static str {
    let name = name.split('<').next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}
