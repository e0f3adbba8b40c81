//! [`Topics`]: where commands and events of a name lie.

use std::{borrow::Cow, collections::HashMap, fmt, sync::Arc};

/// On which topic the commands or events of a name lie. Buses and processors have to agree on it.
///
/// ```
/// use watermill_core::cqrs::Topics;
///
/// let topics = Topics::prefixed("events.").with("hotel.RoomBooked", "bookings");
/// assert_eq!(topics.of("BeerOrdered").unwrap(), "events.BeerOrdered");
/// assert_eq!(topics.of("hotel.RoomBooked").unwrap(), "bookings");
/// ```
#[derive(Clone)]
pub struct Topics {
    rule: Rule,
    listed: HashMap<String, String>,
}

#[derive(Clone)]
enum Rule {
    One(String),
    Prefixed(String),
    Listed,
    Function(Arc<Function>),
}

type Function = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Topics {
    /// All on one topic: what keeps the order of events of several types. An
    /// [event group](super::EventProcessor::group) reads them.
    pub fn one(topic: impl Into<String>) -> Self {
        Self::by(Rule::One(topic.into()))
    }

    /// A topic for each name, and named like it.
    pub fn by_name() -> Self {
        Self::prefixed("")
    }

    /// A topic for each name, which is the name behind a prefix.
    pub fn prefixed(prefix: impl Into<String>) -> Self {
        Self::by(Rule::Prefixed(prefix.into()))
    }

    /// No topic for any name but those added [`with`](Self::with): a name that is not listed is an error.
    pub fn listed() -> Self {
        Self::by(Rule::Listed)
    }

    /// By a function of the name; `None` where there is no topic.
    pub fn from_fn(topic: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self::by(Rule::Function(Arc::new(topic)))
    }

    /// The topic of one name, whatever the rule says.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, topic: impl Into<String>) -> Self {
        self.listed.insert(name.into(), topic.into());
        self
    }

    /// The topic of a name; `None` if there is none.
    pub fn of<'t>(&'t self, name: &'t str) -> Option<Cow<'t, str>> {
        if let Some(topic) = self.listed.get(name) {
            return Some(Cow::Borrowed(topic));
        }
        let topic = match &self.rule {
            Rule::One(topic) => Some(Cow::Borrowed(topic.as_str())),
            Rule::Prefixed(prefix) if prefix.is_empty() => Some(Cow::Borrowed(name)),
            Rule::Prefixed(prefix) => Some(Cow::Owned(format!("{prefix}{name}"))),
            Rule::Listed => None,
            Rule::Function(topic) => topic(name).map(Cow::Owned),
        };
        topic.filter(|topic| !topic.is_empty())
    }

    /// Whether messages of several names are to be expected on a topic, as far as is known.
    pub(super) fn share(&self, topic: &str) -> bool {
        let is_of_all = matches!(&self.rule, Rule::One(one) if one == topic);
        is_of_all || self.listed.values().filter(|listed| *listed == topic).nth(1).is_some()
    }

    fn by(rule: Rule) -> Self {
        Self { rule, listed: HashMap::new() }
    }
}

impl fmt::Debug for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match &self.rule {
            Rule::One(topic) => topic.clone(),
            Rule::Prefixed(prefix) => format!("{prefix}<name>"),
            Rule::Listed => "listed".to_owned(),
            Rule::Function(_) => "a function".to_owned(),
        };
        f.debug_struct("Topics").field("rule", &rule).field("listed", &self.listed).finish()
    }
}
