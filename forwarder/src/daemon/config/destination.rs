//! [`Destination`]: where messages are published.

use watermill_core::error::ConfigError;
use watermill_sql::{Layout, PayloadColumn, SqlPublisherConfig, SqlUrl};

use super::reader::Reader;
#[cfg(feature = "http")]
use super::webhook::Form;

/// Where messages are published, by the crate that does it.
#[derive(Debug)]
pub(crate) enum Destination {
    Sql {
        url: SqlUrl,
        publisher: SqlPublisherConfig,
    },
    #[cfg(feature = "kafka")]
    Kafka(Box<Kafka>),
    #[cfg(feature = "pubsub")]
    PubSub(Box<watermill_gcp::PubSubPublisherConfig>),
    #[cfg(feature = "redis")]
    Redis(redis::Client),
    #[cfg(feature = "nats")]
    Nats(Box<Nats>),
    #[cfg(feature = "amqp")]
    Amqp(Box<watermill_amqp::AmqpPublisherConfig>),
    #[cfg(feature = "http")]
    Http(Box<Webhook>),
}

/// A server with JetStream, or one of its cluster.
#[cfg(feature = "nats")]
pub(crate) struct Nats {
    address: async_nats::ServerAddr,
    /// Of the user that the URL names, or else a token.
    password: Option<super::secret::Secret>,
    pub(crate) publisher: watermill_nats::NatsPublisherConfig,
}

/// Who is posted to.
#[cfg(feature = "http")]
#[derive(Debug)]
pub(crate) struct Webhook {
    pub(crate) scheme: String,
    /// With the port, if the URL has one.
    pub(crate) host: String,
    pub(crate) publisher: watermill_http::HttpPublisherConfig,
}

/// A cluster of Kafka.
#[cfg(feature = "kafka")]
#[derive(Debug)]
pub(crate) struct Kafka {
    pub(crate) brokers: String,
    pub(crate) publisher: watermill_kafka::KafkaPublisherConfig,
    pub(crate) checkpoint_topic: String,
    /// How to ask it.
    pub(crate) status: watermill_kafka::KafkaSubscriberConfig,
}

#[cfg(any(
    feature = "kafka",
    feature = "pubsub",
    feature = "redis",
    feature = "nats",
    feature = "amqp",
    feature = "http"
))]
const OF_DATABASES: &[&str] = &["connections", "layout", "payload"];
const OF_KAFKA: &[&str] =
    &["partitions", "replication", "delivery_timeout", "checkpoint_topic", "options", "options_file"];
#[cfg(any(feature = "kafka", feature = "pubsub"))]
const PASSWORD: &[&str] = &["password", "password_file"];
const OF_PUBSUB: &[&str] = &["emulator"];
const OF_RABBITMQ: &[&str] = &["topology"];

impl Destination {
    /// Whether it keeps a checkpoint and fences a relay that was succeeded.
    pub(crate) fn can_fence(&self) -> bool {
        match self {
            Self::Sql { .. } => true,
            #[cfg(feature = "kafka")]
            Self::Kafka(_) => true,
            #[cfg(any(
                feature = "pubsub",
                feature = "redis",
                feature = "nats",
                feature = "amqp",
                feature = "http"
            ))]
            _ => false,
        }
    }

    /// Where it is, for people.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Sql { url, .. } => url.shown(),
            #[cfg(feature = "kafka")]
            Self::Kafka(kafka) => format!("kafka://{}", kafka.brokers),
            #[cfg(feature = "pubsub")]
            Self::PubSub(_) => "pubsub".to_owned(),
            #[cfg(feature = "redis")]
            Self::Redis(client) => format!("redis://{}", client.get_connection_info().addr()),
            #[cfg(feature = "nats")]
            Self::Nats(nats) => nats.shown(),
            #[cfg(feature = "amqp")]
            Self::Amqp(publisher) => publisher.server(),
            #[cfg(feature = "http")]
            Self::Http(webhook) => format!("{}://{}", webhook.scheme, webhook.host),
        }
    }
}

#[cfg(feature = "nats")]
impl Nats {
    /// How to connect, which logs in: the client takes nothing of that from its URL.
    pub(crate) fn options(&self) -> async_nats::ConnectOptions {
        let options = async_nats::ConnectOptions::new().name("watermill-forwarder");
        let password =
            self.password.as_ref().map(|password| &*password.0).or_else(|| self.address.password());
        match (self.address.username(), password) {
            (Some(user), password) => {
                options.user_and_password(user.to_owned(), password.unwrap_or_default().to_owned())
            }
            (None, Some(token)) => options.token(token.to_owned()),
            (None, None) => options,
        }
    }

    pub(crate) fn address(&self) -> async_nats::ServerAddr {
        self.address.clone()
    }

    /// Without who logs in.
    fn shown(&self) -> String {
        format!("{}://{}:{}", self.address.scheme(), self.address.host(), self.address.port())
    }
}

#[cfg(feature = "nats")]
impl std::fmt::Debug for Nats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nats")
            .field("server", &self.shown())
            .field("publisher", &self.publisher)
            .finish_non_exhaustive()
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<Destination> {
    let url = reader.url("destination")?;
    let (scheme, rest) = url.split_once("://").unwrap_or_else(|| url.split_once(':').unwrap_or((&url, "")));
    let read = match scheme {
        "kafka" => kafka(reader, rest),
        "pubsub" => pubsub(reader, rest),
        "redis" | "rediss" => redis(reader, &url),
        "nats" | "tls" => nats(reader, &url),
        "amqp" | "amqps" => amqp(reader, &url),
        "http" | "https" => http(reader, &url),
        _ => sql(reader, &url),
    };
    match read {
        Ok(destination) => Some(destination),
        Err(error) => {
            reader.check("destination", Err(error));
            None
        }
    }
}

fn sql(reader: &mut Reader<'_>, url: &str) -> Result<Destination, ConfigError> {
    let schemes = ["postgres", "postgresql", "mysql", "mariadb", "sqlite"];
    if !schemes.iter().any(|scheme| url.split(':').next() == Some(scheme)) {
        let known = "url: it begins with kafka://, pubsub://, redis://, nats://, tls://, amqp://, amqps://, http://, https://, \
             postgres://, mysql://, mariadb:// or sqlite:";
        return Err(ConfigError::new("read the URL of a destination", known));
    }
    reader.no_use("destination", OF_KAFKA, "a database");
    reader.no_use("destination", OF_PUBSUB, "a database");
    reader.no_use("destination", OF_RABBITMQ, "a database");
    let connections = u32::try_from(reader.count("destination.connections")).unwrap_or(u32::MAX);
    let mut url = SqlUrl::new(url)?.application_name("watermill-forwarder").connections(connections);
    if let Some(password) = reader.password("destination") {
        url = url.password(password.0);
    }
    let mut publisher =
        SqlPublisherConfig::default().initialize_schema(reader.flag("destination.create_topics"));
    if reader.text("destination.layout").as_deref() == Some("queue") {
        publisher = publisher.layout(Layout::Queue);
    }
    match reader.text("destination.payload").as_deref() {
        Some("json") => publisher = publisher.payload_column(PayloadColumn::Json),
        Some("bytes") => publisher = publisher.payload_column(PayloadColumn::Bytes),
        _ => {}
    }
    reader.check("destination", publisher.validate());
    Ok(Destination::Sql { url, publisher })
}

#[cfg(feature = "kafka")]
fn kafka(reader: &mut Reader<'_>, brokers: &str) -> Result<Destination, ConfigError> {
    use watermill_kafka::{CreateTopics, KafkaPublisherConfig, KafkaSubscriberConfig};

    /// What producers and consumers have in common.
    const CONNECTION: &[&str] = &["security.", "ssl.", "sasl.", "client.", "socket.", "broker."];

    reader.no_use("destination", OF_DATABASES, "Kafka");
    reader.no_use("destination", OF_PUBSUB, "Kafka");
    reader.no_use("destination", OF_RABBITMQ, "Kafka");
    reader.no_use("destination", PASSWORD, "Kafka, whose password is the option sasl.password");
    let brokers = brokers.trim_end_matches('/').to_owned();
    let mut publisher = KafkaPublisherConfig::new(&*brokers)
        .delivery_timeout(reader.duration("destination.delivery_timeout"))
        .option("client.id", "watermill-forwarder");
    if reader.flag("destination.create_topics") {
        let number = |count: Option<usize>| count.map_or(-1, |count| i32::try_from(count).unwrap_or(0));
        publisher = publisher.create_topics(CreateTopics::new(
            number(reader.some_count("destination.partitions")),
            number(reader.some_count("destination.replication")),
        ));
    }
    let mut status = KafkaSubscriberConfig::new(&*brokers);
    for (name, value) in reader.options("destination") {
        if CONNECTION.iter().any(|prefix| name.starts_with(prefix)) {
            status = status.option(&*name, &*value.0);
        }
        publisher = publisher.option(name, value.0);
    }
    reader.check("destination", publisher.validate());
    let checkpoint_topic = reader.text("destination.checkpoint_topic").unwrap_or_default();
    Ok(Destination::Kafka(Box::new(Kafka { brokers, publisher, checkpoint_topic, status })))
}

#[cfg(feature = "pubsub")]
fn pubsub(reader: &mut Reader<'_>, project: &str) -> Result<Destination, ConfigError> {
    use watermill_gcp::{PubSubAccess, PubSubPublisherConfig};

    for names in [OF_DATABASES, OF_KAFKA, OF_RABBITMQ, PASSWORD] {
        reader.no_use("destination", names, "Pub/Sub");
    }
    let mut access = PubSubAccess::new(project);
    if let Some(emulator) = reader.text("destination.emulator") {
        access = access.emulator(emulator);
    }
    let publisher =
        PubSubPublisherConfig::new(access).create_topics(reader.flag("destination.create_topics"));
    reader.check("destination", publisher.validate());
    Ok(Destination::PubSub(Box::new(publisher)))
}

#[cfg(feature = "redis")]
fn redis(reader: &mut Reader<'_>, url: &str) -> Result<Destination, ConfigError> {
    use redis::IntoConnectionInfo as _;

    for names in [OF_DATABASES, OF_KAFKA, OF_PUBSUB, OF_RABBITMQ] {
        reader.no_use("destination", names, "Redis");
    }
    let wrong =
        |error: redis::RedisError| ConfigError::new("read the URL of a Redis", format!("url: {error}"));
    let mut info = url.into_connection_info().map_err(wrong)?;
    if let Some(password) = reader.password("destination") {
        let settings = info.redis_settings().clone().set_password(password.0);
        info = info.set_redis_settings(settings);
    }
    Ok(Destination::Redis(redis::Client::open(info).map_err(wrong)?))
}

#[cfg(feature = "nats")]
fn nats(reader: &mut Reader<'_>, url: &str) -> Result<Destination, ConfigError> {
    for names in [OF_DATABASES, OF_KAFKA, OF_PUBSUB, OF_RABBITMQ] {
        reader.no_use("destination", names, "NATS");
    }
    let address = url
        .parse::<async_nats::ServerAddr>()
        .map_err(|error| ConfigError::new("read the URL of a NATS server", format!("url: {error}")))?;
    let mut publisher = watermill_nats::NatsPublisherConfig::default();
    if !reader.flag("destination.create_topics") {
        publisher = publisher.existing_streams();
    }
    let password = reader.password("destination");
    Ok(Destination::Nats(Box::new(Nats { address, password, publisher })))
}

#[cfg(feature = "amqp")]
fn amqp(reader: &mut Reader<'_>, url: &str) -> Result<Destination, ConfigError> {
    use watermill_amqp::{AmqpPublisherConfig, Topology};

    for names in [OF_DATABASES, OF_KAFKA, OF_PUBSUB] {
        reader.no_use("destination", names, "RabbitMQ");
    }
    let topology = match reader.text("destination.topology").as_deref() {
        Some("queue") => Topology::queue(),
        _ => Topology::pub_sub(),
    };
    let topology = topology.declares(reader.flag("destination.create_topics"));
    let mut publisher = AmqpPublisherConfig::new(url, topology);
    if let Some(password) = reader.password("destination") {
        publisher = publisher.password(password.0);
    }
    publisher.validate()?;
    Ok(Destination::Amqp(Box::new(publisher)))
}

#[cfg(feature = "http")]
fn http(reader: &mut Reader<'_>, url: &str) -> Result<Destination, ConfigError> {
    use watermill_http::{HttpPublisherConfig, Secret};

    for names in [OF_DATABASES, OF_KAFKA, OF_PUBSUB, OF_RABBITMQ] {
        reader.no_use("destination", names, "a webhook");
    }
    let form = Form::new(url)?;
    let (scheme, host) = (form.scheme.clone(), form.host.clone());
    // Every topic leads to a URL of this form: what is wrong with one is wrong with all.
    let of_any = HttpPublisherConfig::default().url(form.of("topic"));
    reader.check("destination", of_any.validate());
    let mut publisher = HttpPublisherConfig::default().url_of(move |topic| form.of(topic));
    if let Some(secret) = reader.password("destination") {
        let secret: Secret = secret.0.parse().map_err(|error| {
            ConfigError::new("read the secret of a webhook", format!("password: {error}"))
        })?;
        publisher = publisher.sign_with([secret]);
    }
    Ok(Destination::Http(Box::new(Webhook { scheme, host, publisher })))
}

#[cfg(not(feature = "kafka"))]
fn kafka(_reader: &mut Reader<'_>, _brokers: &str) -> Result<Destination, ConfigError> {
    not_built("kafka")
}

#[cfg(not(feature = "pubsub"))]
fn pubsub(_reader: &mut Reader<'_>, _project: &str) -> Result<Destination, ConfigError> {
    not_built("pubsub")
}

#[cfg(not(feature = "redis"))]
fn redis(_reader: &mut Reader<'_>, _url: &str) -> Result<Destination, ConfigError> {
    not_built("redis")
}

#[cfg(not(feature = "nats"))]
fn nats(_reader: &mut Reader<'_>, _url: &str) -> Result<Destination, ConfigError> {
    not_built("nats")
}

#[cfg(not(feature = "amqp"))]
fn amqp(_reader: &mut Reader<'_>, _url: &str) -> Result<Destination, ConfigError> {
    not_built("amqp")
}

#[cfg(not(feature = "http"))]
fn http(_reader: &mut Reader<'_>, _url: &str) -> Result<Destination, ConfigError> {
    not_built("http")
}

#[cfg(not(all(
    feature = "kafka",
    feature = "pubsub",
    feature = "redis",
    feature = "nats",
    feature = "amqp",
    feature = "http"
)))]
fn not_built(feature: &str) -> Result<Destination, ConfigError> {
    let problem = format!("url: this program is built without `{feature}`");
    Err(ConfigError::new("read the URL of a destination", problem))
}
