//! The consumer that is killed: it stops where its plan says, and says so.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{MySql, Pool, Postgres, Sqlite};
use tower::{Layer, Service};
use watermill_core::{
    Handler, Message, MessageId, Outputs, Publisher, Router, Subscriber,
    error::{BoxError, PublishError},
    publisher::PublisherCapabilities,
    router::MessageService,
};
use watermill_kafka::{KafkaSubscriber, KafkaSubscriberConfig};
use watermill_sql::{
    SqlInbox, SqlInboxConfig, SqlQueueSubscriber, SqlQueueSubscriberConfig, SqlSubscriber,
    SqlSubscriberConfig, Tx,
};

use crate::{
    Result,
    database::{Database, Store},
    naive,
};

const PLAN: &str = "WATERMILL_CRASH_PLAN";

/// After how long a message is somebody else's whose consumer was killed, where the database does not see that.
const TAKEN_OVER: Duration = Duration::from_secs(1);

/// What a child does, as words of its environment.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
pub(crate) struct Plan {
    pub(crate) database: String,
    pub(crate) source: Source,
    pub(crate) brokers: String,
    pub(crate) topic: String,
    /// Where it stops; nowhere, if there is no such step.
    pub(crate) stop_at: String,
    /// How often it passes there before.
    pub(crate) passes: usize,
    pub(crate) naive: bool,
}

/// Where messages come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub(crate) enum Source {
    Kafka,
    /// In the database that the handler writes to, as the two below: the ack is part of its transaction.
    Log,
    Queue,
}

/// The steps of this process.
#[derive(Clone)]
pub(crate) struct Steps(Arc<Inner>);

struct Inner {
    plan: Plan,
    passed: AtomicUsize,
    /// Whether a message is with its handler or behind it: what comes before is not counted.
    handling: AtomicBool,
}

impl Plan {
    pub(crate) fn from_env() -> Option<Self> {
        std::env::var(PLAN).ok().map(|plan| serde_json::from_str(&plan).expect("a plan"))
    }

    pub(crate) fn into_env(self) -> (&'static str, String) {
        (PLAN, serde_json::to_string(&self).expect("it is text and numbers"))
    }
}

impl Steps {
    pub(crate) fn new(plan: Plan) -> Self {
        Self(Arc::new(Inner { plan, passed: AtomicUsize::new(0), handling: AtomicBool::new(false) }))
    }

    /// Says that the step is reached and stops for good, where the plan says so. The process is killed then, with whatever
    /// this thread holds.
    pub(crate) fn at(&self, step: &str) {
        let Inner { plan, passed, .. } = &*self.0;
        if plan.stop_at == step && passed.fetch_add(1, Ordering::SeqCst) >= plan.passes {
            let mut out = std::io::stdout().lock();
            writeln!(out, "at {step}").and_then(|()| out.flush()).expect("the parent listens");
            loop {
                std::thread::park();
            }
        }
    }

    pub(crate) fn is_handling(&self) -> bool {
        self.0.handling.load(Ordering::SeqCst)
    }

    pub(crate) fn handling(&self, handling: bool) {
        self.0.handling.store(handling, Ordering::SeqCst);
    }
}

pub(crate) async fn consume(plan: Plan) -> Result {
    match Database::of(&plan.database) {
        Database::Postgres => consume_into::<Postgres>(plan).await,
        Database::MySql => consume_into::<MySql>(plan).await,
        Database::Sqlite => consume_into::<Sqlite>(plan).await,
    }
}

async fn consume_into<D: Store>(plan: Plan) -> Result {
    let steps = Steps::new(plan.clone());
    let pool = D::pool(&plan.database, &steps).await?;
    let router = match plan.source {
        Source::Kafka if plan.naive => {
            Router::new().add(naive::handler(pool, &steps).from(kafka(&plan)?, &plan.topic))
        }
        Source::Kafka => consumer(pool, steps, kafka(&plan)?, &plan.topic, false)?,
        Source::Log => {
            let config = SqlSubscriberConfig::default().lease(TAKEN_OVER).ack_interval(TAKEN_OVER / 10);
            consumer(pool.clone(), steps, SqlSubscriber::new(pool, config)?, &plan.topic, true)?
        }
        Source::Queue => {
            let config = SqlQueueSubscriberConfig::default()
                .visibility_timeout(TAKEN_OVER)
                .ack_interval(TAKEN_OVER / 10);
            consumer(pool.clone(), steps, SqlQueueSubscriber::new(pool, config)?, &plan.topic, true)?
        }
    };
    router.run().await?;
    Ok(())
}

fn kafka(plan: &Plan) -> Result<KafkaSubscriber> {
    // A member that comes back under its name has its partitions at once.
    let config = KafkaSubscriberConfig::new(&plan.brokers)
        .group(&plan.topic)
        .commit_interval(Duration::from_millis(50))
        .option("group.instance.id", "one");
    Ok(KafkaSubscriber::new(config)?)
}

fn consumer<D: Store>(
    pool: Pool<D>,
    steps: Steps,
    source: impl Subscriber + 'static,
    topic: &str,
    joins_ack: bool,
) -> Result<Router> {
    let announced = steps.clone();
    let inbox = SqlInbox::new(pool, SqlInboxConfig::default().joins_ack(joins_ack))?
        .publish_through(move |inner| Box::new(Announced { inner, steps: announced.clone() }));
    let bill = {
        let steps = steps.clone();
        move |tx: Tx<D>, id: MessageId| bill::<D>(tx, id, steps.clone())
    };
    let handler = Handler::new("bill", bill)
        .from(source, topic)
        .to_topic("invoices")
        .layer(BeforeAck(steps))
        .layer(inbox.layer());
    // So that acks of a log are not all at its front.
    let concurrency = if joins_ack { 3 } else { 1 };
    Ok(Router::new().add(handler.scopes(1).concurrency(concurrency)))
}

async fn bill<D: Store>(
    mut tx: Tx<D>,
    id: MessageId,
    steps: Steps,
) -> std::result::Result<Message, BoxError> {
    steps.handling(true);
    steps.at("marked");
    D::write(&mut tx, &format!("insert into effects (id) values ('{id}')")).await?;
    steps.at("first statement");
    D::write(&mut tx, "update total set n = n + 1").await?;
    steps.at("second statement");
    Ok(Message::with_id(id, "{}"))
}

/// Stops behind a publish.
struct Announced<'p> {
    inner: &'p dyn Publisher,
    steps: Steps,
}

#[async_trait]
impl Publisher for Announced<'_> {
    async fn publish(&self, topic: &str, messages: Vec<Message>) -> std::result::Result<(), PublishError> {
        self.inner.publish(topic, messages).await?;
        self.steps.at("published");
        Ok(())
    }

    async fn close(&self) -> std::result::Result<(), PublishError> {
        self.inner.close().await
    }

    fn capabilities(&self) -> PublisherCapabilities {
        self.inner.capabilities()
    }
}

/// Stops behind the commit.
#[derive(Clone)]
struct BeforeAck(Steps);

#[derive(Clone)]
struct BeforeAckService<S>(S, Steps);

impl<S> Layer<S> for BeforeAck {
    type Service = BeforeAckService<S>;

    fn layer(&self, inner: S) -> BeforeAckService<S> {
        BeforeAckService(inner, self.0.clone())
    }
}

impl<S: MessageService> Service<Message> for BeforeAckService<S> {
    type Response = Outputs;
    type Error = BoxError;
    type Future = futures::future::BoxFuture<'static, std::result::Result<Outputs, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        let (handling, steps) = (self.0.call(message), self.1.clone());
        Box::pin(async move {
            let outputs = handling.await.map_err(Into::into)?;
            if steps.is_handling() {
                steps.at("committed");
            }
            steps.handling(false);
            Ok(outputs)
        })
    }
}
