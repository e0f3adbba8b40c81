//! [`Topology`]: which exchange, queue, routing key and bindings a topic stands for.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

pub(crate) const QUEUE_TYPE: &str = "x-queue-type";
pub(crate) const QUORUM: &str = "quorum";

/// What a topic is on the server: an exchange that publishers write to, a queue that subscribers read, and the keys
/// that bind one to the other. Publishers and subscribers of a topic are to have the same.
///
/// ```
/// use watermill_amqp::{Exchange, Topology};
///
/// // All topics in one exchange of RabbitMQ's kind "topic", bound by their names.
/// let topology = Topology::pub_sub()
///     .exchange(|_| Exchange::topic("events"))
///     .routing_key(str::to_owned)
///     .binding_keys(|topic| vec![topic.to_owned()])
///     .quorum()
///     .single_active_consumer()
///     .dead_letters(|topic, _| (!topic.ends_with(".dead")).then(|| format!("{topic}.dead")));
/// ```
#[derive(Clone)]
pub struct Topology {
    exchange: Arc<dyn Fn(&str) -> Exchange + Send + Sync>,
    routing_key: Arc<dyn Fn(&str) -> String + Send + Sync>,
    binding_keys: Arc<BindingKeys>,
    queue: Arc<QueueOf>,
    dead_letters: Option<Arc<DeadLetters>>,
    pub(crate) has_groups: bool,
    pub(crate) is_quorum: bool,
    pub(crate) is_single_active: bool,
    pub(crate) declares: bool,
}

type BindingKeys = dyn Fn(&str) -> Vec<String> + Send + Sync;
type QueueOf = dyn Fn(&str, Option<&str>) -> Queue + Send + Sync;
type DeadLetters = dyn Fn(&str, Option<&str>) -> Option<String> + Send + Sync;

/// An exchange: where messages are published to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    pub(crate) name: String,
    pub(crate) kind: ExchangeKind,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
}

/// How an exchange chooses queues.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExchangeKind {
    /// All that are bound to it.
    Fanout,
    /// Those bound with the message's routing key.
    Direct,
    /// Those bound with a pattern that the routing key matches.
    Topic,
    /// A kind of a plugin's, by its name.
    Custom(String),
}

/// A queue: where messages wait for a consumer group.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    pub(crate) name: String,
    pub(crate) durable: bool,
    pub(crate) exclusive: bool,
    pub(crate) auto_delete: bool,
    pub(crate) arguments: BTreeMap<String, Argument>,
}

/// The value of an argument of a queue.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Argument {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

impl Topology {
    /// Every consumer group gets every message, as Go's `NewDurablePubSubConfig`: a durable fanout exchange of the
    /// topic's name, and a durable queue for each group, named `<topic>_<group>`; without a group, as the topic.
    pub fn pub_sub() -> Self {
        let queue = |topic: &str, group: Option<&str>| match group {
            Some(group) => Queue::new(format!("{topic}_{group}")),
            None => Queue::new(topic),
        };
        Self {
            exchange: Arc::new(|topic| Exchange::fanout(topic)),
            routing_key: Arc::new(|_| String::new()),
            binding_keys: Arc::new(|_| vec![String::new()]),
            queue: Arc::new(queue),
            dead_letters: None,
            has_groups: true,
            is_quorum: false,
            is_single_active: false,
            declares: true,
        }
    }

    /// All consumers share the messages of one durable queue that has the topic's name, as Go's
    /// `NewDurableQueueConfig`. There are no groups.
    pub fn queue() -> Self {
        Self {
            exchange: Arc::new(|_| Exchange::default_exchange()),
            routing_key: Arc::new(str::to_owned),
            queue: Arc::new(|topic, _| Queue::new(topic)),
            has_groups: false,
            ..Self::pub_sub()
        }
    }

    /// Sets the exchange of a topic. Default: that of the preset.
    #[must_use]
    pub fn exchange(mut self, of: impl Fn(&str) -> Exchange + Send + Sync + 'static) -> Self {
        self.exchange = Arc::new(of);
        self
    }

    /// Sets the routing key that messages to a topic are published with. Default: that of the preset.
    #[must_use]
    pub fn routing_key(mut self, of: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        self.routing_key = Arc::new(of);
        self
    }

    /// Sets the keys that bind a topic's queues to its exchange. Default: one, empty. The default exchange has every
    /// queue bound by its name, and takes no other.
    #[must_use]
    pub fn binding_keys(mut self, of: impl Fn(&str) -> Vec<String> + Send + Sync + 'static) -> Self {
        self.binding_keys = Arc::new(of);
        self
    }

    /// Sets the queue of a topic and a consumer group; it must always say the same. Default: that of the preset.
    #[must_use]
    pub fn queue_of(mut self, of: impl Fn(&str, Option<&str>) -> Queue + Send + Sync + 'static) -> Self {
        self.queue = Arc::new(of);
        self
    }

    /// Makes queues quorum queues (`x-queue-type`), which are replicated and count deliveries. Default: classic ones,
    /// as Go declares them.
    #[must_use]
    pub fn quorum(mut self) -> Self {
        self.is_quorum = true;
        self
    }

    /// Lets one consumer of a queue read at a time, in order, and the others stand by (`x-single-active-consumer`).
    /// Default: consumers compete, and no order is claimed.
    #[must_use]
    pub fn single_active_consumer(mut self) -> Self {
        self.is_single_active = true;
        self
    }

    /// Sets the topic that rejected messages of a topic and a group go to (`x-dead-letter-exchange`), by the same
    /// topology; its exchange, and a queue of the group, are made together with the queue. It must always say the same,
    /// and `None` of the topics that it names itself. Default: none, and what is rejected is dropped, with an error in
    /// the log.
    #[must_use]
    pub fn dead_letters(
        mut self,
        of: impl Fn(&str, Option<&str>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.dead_letters = Some(Arc::new(of));
        self
    }

    /// Sets whether exchanges, queues and bindings are made. Default: yes. Otherwise they have to be there.
    #[must_use]
    pub fn declares(mut self, declares: bool) -> Self {
        self.declares = declares;
        self
    }

    pub(crate) fn exchange_of(&self, topic: &str) -> Exchange {
        (self.exchange)(topic)
    }

    pub(crate) fn routing_key_of(&self, topic: &str) -> String {
        (self.routing_key)(topic)
    }

    pub(crate) fn binding_keys_of(&self, topic: &str) -> Vec<String> {
        (self.binding_keys)(topic)
    }

    pub(crate) fn dead_letters_of(&self, topic: &str, group: Option<&str>) -> Option<String> {
        self.dead_letters.as_ref().and_then(|of| of(topic, group))
    }

    pub(crate) fn has_dead_letters(&self) -> bool {
        self.dead_letters.is_some()
    }

    /// The queue, with the arguments that the topology asks for.
    pub(crate) fn queue_for(&self, topic: &str, group: Option<&str>) -> Queue {
        let mut queue = (self.queue)(topic, group);
        if self.is_quorum {
            queue = queue.argument(QUEUE_TYPE, Argument::Text(QUORUM.to_owned()));
        }
        if self.is_single_active {
            queue = queue.argument("x-single-active-consumer", Argument::Flag(true));
        }
        if let Some(dead) = self.dead_letters_of(topic, group) {
            let (exchange, key) = (self.exchange_of(&dead).name, self.routing_key_of(&dead));
            queue = queue
                .argument("x-dead-letter-exchange", Argument::Text(exchange))
                .argument("x-dead-letter-routing-key", Argument::Text(key));
        }
        queue
    }
}

impl Exchange {
    /// A durable exchange.
    pub fn new(name: impl Into<String>, kind: ExchangeKind) -> Self {
        Self { name: name.into(), kind, durable: true, auto_delete: false }
    }

    /// A durable exchange for all queues that are bound to it.
    pub fn fanout(name: impl Into<String>) -> Self {
        Self::new(name, ExchangeKind::Fanout)
    }

    /// A durable exchange for queues that are bound with the routing key.
    pub fn direct(name: impl Into<String>) -> Self {
        Self::new(name, ExchangeKind::Direct)
    }

    /// A durable exchange for queues that are bound with a pattern of routing keys.
    pub fn topic(name: impl Into<String>) -> Self {
        Self::new(name, ExchangeKind::Topic)
    }

    /// The exchange without a name, which has every queue bound by the queue's name.
    pub fn default_exchange() -> Self {
        Self::direct("")
    }

    /// Sets whether it outlives the server. Default: yes.
    #[must_use]
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Sets whether it goes with the last queue that is bound to it. Default: no.
    #[must_use]
    pub fn auto_delete(mut self, auto_delete: bool) -> Self {
        self.auto_delete = auto_delete;
        self
    }

    pub(crate) fn is_default(&self) -> bool {
        self.name.is_empty()
    }
}

impl Queue {
    /// A durable queue.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self { name, durable: true, exclusive: false, auto_delete: false, arguments: BTreeMap::new() }
    }

    /// Sets whether it outlives the server. Default: yes.
    #[must_use]
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Sets whether it belongs to one connection and goes with it. Default: no.
    #[must_use]
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.exclusive = exclusive;
        self
    }

    /// Sets whether it goes with its last consumer. Default: no.
    #[must_use]
    pub fn auto_delete(mut self, auto_delete: bool) -> Self {
        self.auto_delete = auto_delete;
        self
    }

    /// Sets after how many deliveries a quorum queue gives a message up (`x-delivery-limit`): it is dead-lettered, or
    /// dropped without one. Default: the server's; RabbitMQ 3 has none.
    #[must_use]
    pub fn delivery_limit(self, deliveries: u32) -> Self {
        self.argument("x-delivery-limit", Argument::Number(deliveries.into()))
    }

    /// Sets how long a message may wait, in milliseconds, before it is dead-lettered or dropped (`x-message-ttl`).
    /// Default: for ever.
    #[must_use]
    pub fn message_ttl(self, ttl: Duration) -> Self {
        self.argument("x-message-ttl", millis(ttl))
    }

    /// Sets how many messages may wait, and that publishers are refused beyond (`x-max-length`, `x-overflow`).
    /// Default: as many as the disk holds.
    #[must_use]
    pub fn length_max(self, messages: u32) -> Self {
        self.argument("x-max-length", Argument::Number(messages.into()))
            .argument("x-overflow", Argument::Text("reject-publish".to_owned()))
    }

    /// Sets any other argument.
    #[must_use]
    pub fn argument(mut self, name: impl Into<String>, value: Argument) -> Self {
        self.arguments.insert(name.into(), value);
        self
    }
}

impl Queue {
    pub(crate) fn is_quorum(&self) -> bool {
        matches!(self.arguments.get(QUEUE_TYPE), Some(Argument::Text(kind)) if kind == QUORUM)
    }
}

/// As much as the server knows of time.
pub(crate) fn millis(duration: Duration) -> Argument {
    Argument::Number(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topology")
            .field("has_groups", &self.has_groups)
            .field("is_quorum", &self.is_quorum)
            .field("is_single_active", &self.is_single_active)
            .field("declares", &self.declares)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_are_those_of_gos_library() {
        let pub_sub = Topology::pub_sub();
        assert_eq!(pub_sub.exchange_of("orders"), Exchange::fanout("orders"));
        assert_eq!(pub_sub.queue_for("orders", Some("billing")), Queue::new("orders_billing"));
        assert_eq!(pub_sub.queue_for("orders", None), Queue::new("orders"));
        assert_eq!(
            (pub_sub.routing_key_of("orders"), pub_sub.binding_keys_of("orders")),
            (String::new(), vec![String::new()])
        );

        let queue = Topology::queue();
        assert!(queue.exchange_of("orders").is_default());
        assert_eq!(queue.queue_for("orders", None), Queue::new("orders"));
        assert_eq!(queue.routing_key_of("orders"), "orders");
    }

    #[test]
    fn dead_letters_go_where_their_topic_is_published_to() {
        let topology = Topology::queue().dead_letters(|topic, _| Some(format!("{topic}.dead")));
        let queue = topology.queue_for("orders", None);
        assert_eq!(queue.arguments["x-dead-letter-exchange"], Argument::Text(String::new()));
        assert_eq!(queue.arguments["x-dead-letter-routing-key"], Argument::Text("orders.dead".to_owned()));
    }
}
