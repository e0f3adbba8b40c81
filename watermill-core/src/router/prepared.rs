//! [`Prepared`]: a handler that waits to be started.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    RunError, RunErrorKind, concurrency::Concurrency, failure::FailurePolicy, promise::Said,
    retry_topics::Tier, runner::Run, sink::Sink, topology::Documents,
};
use crate::{Subscriber, subscriber::Ordering};

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
    /// What no other handler of the router may do as well, in words: `handle the command "BookRoom"`.
    pub(super) claims: Vec<String>,
    /// The handler whose retry topic it reads, if it does that.
    pub(super) retry_of: Option<String>,
}

impl Prepared {
    /// This handler, and those of its retry topics, which are the same but for where their messages come from and go when
    /// they fail.
    pub(super) fn with_retries(mut self) -> Vec<Self> {
        let tiers: Vec<_> = self.spec.policy.retry_tiers().collect();
        let siblings: Vec<_> = tiers.iter().map_while(|_| self.runner.sibling()).collect();
        if siblings.len() < tiers.len() {
            let problem = "retry topics need a service each, and this handler has a single one; give it to \
                           `Handler::make` as a function that makes services";
            self.spec.problems.push(problem.to_owned());
        }
        let retries = tiers
            .iter()
            .zip(siblings)
            .map(|((tier, policy), runner)| Self { spec: self.spec.of_retry(tier, policy.clone()), runner });
        let retries: Vec<_> = retries.collect();
        [self].into_iter().chain(retries).collect()
    }
}

impl Spec {
    fn of_retry(&self, tier: &Tier<'_>, policy: FailurePolicy) -> Self {
        let subscriber = tier.subscriber();
        let capabilities = subscriber.capabilities();
        let topic = tier.topic();
        let claim = format!("have the retry topic {topic:?} of {}", capabilities.backend);
        Self {
            name: format!("{}.retry.{}", self.name, tier.label()),
            subscriber,
            topic,
            group: self.group.clone().filter(|_| capabilities.groups),
            sink: self.sink.clone(),
            policy,
            concurrency: self.concurrency,
            pipeline: self.pipeline,
            layers: self.layers.clone(),
            documents: self.documents.clone(),
            problems: Vec::new(),
            // Not those of the handler, which it is once more. Two with one topic would take each other's messages.
            claims: vec![claim],
            retry_of: Some(self.name.clone()),
        }
    }

    /// Puts layers around those it has.
    pub(super) fn wrap(&mut self, layers: &[&'static str]) {
        self.layers.splice(0..0, layers.iter().copied());
    }

    /// Notes what the handler needs of a layer and none has promised.
    pub(super) fn compare(&mut self, said: &Said) {
        let needs_publisher = self.sink.topic.is_some() && self.sink.publisher.is_none();
        self.problems.extend(said.problems(needs_publisher, self.sink.topic.is_some()));
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
        let problems = problems.chain(self.breaks_order().then(|| {
            "its retry topics let later messages pass one that has failed, and it handles messages in order; say \
             `giving_up_order` on the retry topics if they may, or choose another end"
                .to_owned()
        }));
        let problems = problems.chain(empty(Some(&self.topic), "consumes"));
        let problems = problems.chain(empty(self.sink.topic.as_deref(), "publishes to"));
        problems.map(|problem| format!("handler {:?}: {problem}", self.name))
    }
}

impl Spec {
    /// Whether it promises an order that its retry topics break.
    fn breaks_order(&self) -> bool {
        let promised = self.subscriber.capabilities().ordering != Ordering::None
            && !matches!(self.concurrency, Concurrency::Unordered(_) | Concurrency::Each(_));
        promised && self.retry_of.is_none() && self.policy.breaks_order()
    }
}

/// Everything that can be known to be wrong before anything is started. `problems` are those of the router.
pub(super) fn check<'h>(
    handlers: impl IntoIterator<Item = &'h Prepared>,
    mut problems: Vec<String>,
) -> Result<(), RunError> {
    let mut names = BTreeSet::new();
    let mut claims = BTreeMap::new();
    for Prepared { spec, .. } in handlers {
        if !names.insert(&spec.name) {
            problems.push(duplicate(&spec.name));
        }
        for claim in &spec.claims {
            if let Some(other) = claims.insert(claim, &spec.name) {
                problems.push(claimed_twice(claim, other, &spec.name));
            }
        }
        problems.extend(spec.problems());
    }
    if problems.is_empty() { Ok(()) } else { Err(RunError::new(RunErrorKind::Build, problems.join("; "))) }
}

pub(super) fn duplicate(name: &str) -> String {
    format!("two handlers are named {name:?}; names are unique in a router")
}

pub(super) fn claimed_twice(claim: &str, one: &str, other: &str) -> String {
    format!("handlers {one:?} and {other:?} both {claim}; one handler does")
}

/// A type name without its path and parameters: `watermill_core::middleware::retry::Retry` is `Retry`.
pub(super) fn short(name: &'static str) -> &'static str {
    let name = name.split('<').next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}
