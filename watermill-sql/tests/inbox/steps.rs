//! What is committed together, and what rolls it back.

use std::time::Duration;

use tower::{layer::util::Identity, timeout::TimeoutLayer};
use watermill_core::{
    Backoff, DeliveryInfo, FailurePolicy, Handler, Message, MessageId, Router,
    delivery::Outcome,
    error::{BoxError, Permanent},
    middleware::{PoisonQueue, Retry},
    router::{HandlerFn, RunErrorKind, types::Messages},
};
use watermill_forwarder::ForwarderPublisher;
use watermill_sql::{OnDuplicate, SqlInboxConfig, Tx};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use super::*;

/// Writes the effect of a message, and returns its invoice.
async fn bill<S: Server>(tx: &mut Tx<S::Database>, id: &str) -> Result<Message, BoxError> {
    S::write(&mut *tx, &format!("insert into effects values ('{id}')")).await?;
    invoice(id)
}

/// Handles messages with `function`, each delivered once, and says how they were settled.
async fn handle<S, F, Args>(
    inbox: &SqlInbox<S::Database>,
    ids: &[&str],
    function: F,
    policy: FailurePolicy,
) -> Vec<Outcome>
where
    S: Server,
    F: HandlerFn<Args, (), Kind = Messages>,
    Args: 'static,
{
    let source = ScriptedSubscriber::new().redeliver(false);
    ids.iter().for_each(|id| source.push(message(id)));
    let handler = Handler::new("bill", function)
        .from(source.clone(), "orders")
        .to_topic("invoices")
        .layer(TimeoutLayer::new(Duration::from_secs(60)))
        .layer(inbox.layer())
        .on_failure(policy);
    let router = Router::new().add(handler);
    let (watched, count) = (source.clone(), ids.len());
    run_until(router, async move { drop(watched.settled(count).await) }).await;
    source.outcomes().into_iter().map(|(_, outcome)| outcome).collect()
}

pub(crate) async fn what_a_handler_writes_and_what_it_returns_are_committed_together<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let inbox = inbox::<S>(&pool, SqlInboxConfig::default());
    let bill = async |mut tx: Tx<S::Database>, id: MessageId| bill::<S>(&mut tx, id.as_str()).await;
    assert_eq!(
        handle::<S, _, _>(&inbox, &["1", "2"], bill, FailurePolicy::nack()).await,
        [const { Outcome::Ack }; 2]
    );
    assert_eq!((effects::<S>(&pool).await, invoices::<S>(&pool).await, marks::<S>(&pool).await), (2, 2, 2));
}

pub(crate) async fn a_duplicate_is_acked_and_its_handler_does_not_run<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let inbox = inbox::<S>(&pool, SqlInboxConfig::default());
    let runs = Count::default();
    let counted = runs.clone();
    let bill = move |mut tx: Tx<S::Database>, id: MessageId| {
        counted.up();
        async move { bill::<S>(&mut tx, id.as_str()).await }
    };
    let outcomes = handle::<S, _, _>(&inbox, &["1", "1", "2", "1"], bill, FailurePolicy::nack()).await;
    assert_eq!(outcomes, [const { Outcome::Ack }; 4]);
    assert_eq!(runs.get(), 2);
    assert_eq!((effects::<S>(&pool).await, invoices::<S>(&pool).await), (2, 2));
}

pub(crate) async fn a_handler_is_told_of_a_duplicate_where_that_is_wanted<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let inbox = inbox::<S>(&pool, SqlInboxConfig::default().on_duplicate(OnDuplicate::Tell));
    let told = Count::default();
    let counted = told.clone();
    let bill = move |mut tx: Tx<S::Database>, id: MessageId| {
        let counted = counted.clone();
        async move {
            if tx.is_duplicate() {
                counted.up();
                return Ok::<_, BoxError>(None);
            }
            bill::<S>(&mut tx, id.as_str()).await.map(Some)
        }
    };
    let outcomes = handle::<S, _, _>(&inbox, &["1", "1"], bill, FailurePolicy::nack()).await;
    assert_eq!((outcomes.len(), told.get()), (2, 1));
    assert_eq!((effects::<S>(&pool).await, invoices::<S>(&pool).await), (1, 1));
}

pub(crate) async fn an_error_a_panic_and_a_timeout_roll_everything_back<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let inbox = inbox::<S>(&pool, SqlInboxConfig::default());
    let fail = async |mut tx: Tx<S::Database>, id: MessageId| {
        bill::<S>(&mut tx, id.as_str()).await?;
        Err::<Message, BoxError>("the customer is unknown".into())
    };
    let explode = async |mut tx: Tx<S::Database>, id: MessageId| {
        let _written = bill::<S>(&mut tx, id.as_str()).await?;
        if !id.is_empty() {
            panic!("the customer is unheard of");
        }
        invoice("never")
    };
    for outcomes in [
        handle::<S, _, _>(&inbox, &["1"], fail, FailurePolicy::nack()).await,
        handle::<S, _, _>(&inbox, &["2"], explode, FailurePolicy::nack()).await,
    ] {
        assert!(matches!(outcomes[..], [Outcome::Nack { .. }]), "{outcomes:?}");
    }
    let source = ScriptedSubscriber::new().redeliver(false);
    source.push(message("3"));
    let hang = async |mut tx: Tx<S::Database>, id: MessageId| {
        bill::<S>(&mut tx, id.as_str()).await?;
        std::future::pending::<Result<Message, BoxError>>().await
    };
    let handler = Handler::new("hang", hang)
        .from(source.clone(), "orders")
        .to_topic("invoices")
        .layer(TimeoutLayer::new(Duration::from_millis(300)))
        .layer(inbox.layer());
    let watched = source.clone();
    run_until(Router::new().add(handler), async move { drop(watched.settled(1).await) }).await;
    assert!(matches!(source.outcomes()[..], [(_, Outcome::Nack { .. })]));
    assert_nothing_was_written::<S>(&pool).await;
}

pub(crate) async fn a_delivery_that_is_lost_while_it_is_handled_writes_nothing<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let inbox = inbox::<S>(&pool, SqlInboxConfig::default());
    let lose = async |mut tx: Tx<S::Database>, id: MessageId, delivery: DeliveryInfo| {
        let invoice = bill::<S>(&mut tx, id.as_str()).await;
        delivery.origin().revoke(|| [delivery.token()]);
        invoice
    };
    handle::<S, _, _>(&inbox, &["1"], lose, FailurePolicy::retry(3).then_drop()).await;
    assert_nothing_was_written::<S>(&pool).await;
}

pub(crate) async fn a_retry_of_the_policy_is_a_transaction_of_its_own<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let inbox = inbox::<S>(&pool, SqlInboxConfig::default());
    let tries = Count::default();
    let fail_twice = move |mut tx: Tx<S::Database>, id: MessageId| {
        let number = tries.up();
        async move {
            let invoice = bill::<S>(&mut tx, id.as_str()).await?;
            if number < 3 { Err::<Message, BoxError>("not yet".into()) } else { Ok(invoice) }
        }
    };
    let policy = FailurePolicy::retry(5).backoff(Backoff::exponential(Duration::from_millis(1)));
    assert_eq!(handle::<S, _, _>(&inbox, &["1"], fail_twice, policy).await, [Outcome::Ack]);
    assert_eq!((effects::<S>(&pool).await, invoices::<S>(&pool).await, marks::<S>(&pool).await), (1, 1, 1));
}

pub(crate) async fn a_retry_inside_of_the_transaction_is_refused<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let inbox = inbox::<S>(&pool, SqlInboxConfig::default());
    let fail = async |mut tx: Tx<S::Database>, id: MessageId| {
        bill::<S>(&mut tx, id.as_str()).await?;
        Err::<Message, BoxError>("not yet".into())
    };
    let source = ScriptedSubscriber::new().redeliver(false);
    source.push(message("1"));
    let handler = Handler::new("bill", fail)
        .from(source.clone(), "orders")
        .to_topic("invoices")
        .layer(inbox.layer())
        .layer(Retry::new(3))
        .on_failure(FailurePolicy::nack().then_reject());
    let watched = source.clone();
    run_until(Router::new().add(handler), async move { drop(watched.settled(1).await) }).await;
    let outcomes = source.outcomes();
    assert!(
        matches!(&outcomes[..], [(_, Outcome::Reject { reason })] if reason.contains("outside of the inbox")),
        "{outcomes:?}"
    );
    assert_nothing_was_written::<S>(&pool).await;
}

pub(crate) async fn a_handler_that_keeps_its_transaction_commits_nothing<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let inbox = inbox::<S>(&pool, SqlInboxConfig::default());
    let (kept, mut held) = tokio::sync::mpsc::channel(1);
    let keep = move |mut tx: Tx<S::Database>, id: MessageId| {
        let kept = kept.clone();
        async move {
            let invoice = bill::<S>(&mut tx, id.as_str()).await;
            let _ = kept.try_send(tx);
            invoice
        }
    };
    let outcomes = handle::<S, _, _>(&inbox, &["1"], keep, FailurePolicy::nack().then_reject()).await;
    assert!(
        matches!(&outcomes[..], [Outcome::Reject { reason }] if reason.contains("kept the transaction")),
        "{outcomes:?}"
    );
    drop(held.try_recv().unwrap());
    assert_nothing_was_written::<S>(&pool).await;
}

pub(crate) async fn a_transaction_that_the_handler_has_ended_is_no_success<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let inbox = inbox::<S>(&pool, SqlInboxConfig::default());
    let end = async |mut tx: Tx<S::Database>, id: MessageId| {
        bill::<S>(&mut tx, id.as_str()).await?;
        S::write(&mut tx, "rollback").await?;
        Ok::<_, BoxError>(None::<Message>)
    };
    // On PostgreSQL nothing goes on after it; elsewhere only the statement has failed, and nothing is wrong.
    let go_on = async |mut tx: Tx<S::Database>, id: MessageId| {
        bill::<S>(&mut tx, id.as_str()).await?;
        let failed = S::write(&mut tx, "insert into nowhere values (1)").await;
        assert!(failed.is_err());
        Ok::<_, BoxError>(None::<Message>)
    };
    let policy = || FailurePolicy::nack().then_reject();
    let outcomes = handle::<S, _, _>(&inbox, &["1"], end, policy()).await;
    assert!(matches!(&outcomes[..], [Outcome::Reject { .. }]), "{outcomes:?}");
    assert_nothing_was_written::<S>(&pool).await;
    let outcomes = handle::<S, _, _>(&inbox, &["2"], go_on, policy()).await;
    match &outcomes[..] {
        [Outcome::Ack] => assert_eq!((effects::<S>(&pool).await, marks::<S>(&pool).await), (1, 1)),
        _ => assert_nothing_was_written::<S>(&pool).await,
    }
}

pub(crate) async fn outputs_that_cannot_be_published_roll_back_what_was_written<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let inbox = inbox::<S>(&pool, SqlInboxConfig::default());
    let publish = async |mut tx: Tx<S::Database>, id: MessageId| {
        bill::<S>(&mut tx, id.as_str()).await?;
        tx.publish("a topic that makes no table", invoice("x")?).await?;
        invoice("x")
    };
    let outcomes = handle::<S, _, _>(&inbox, &["1"], publish, FailurePolicy::nack().then_reject()).await;
    assert!(matches!(&outcomes[..], [Outcome::Reject { .. }]), "{outcomes:?}");
    assert_nothing_was_written::<S>(&pool).await;
}

pub(crate) async fn outputs_go_through_the_publisher_that_the_inbox_was_given<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let inbox = inbox::<S>(&pool, SqlInboxConfig::default())
        .publish_through(|tables| Box::new(ForwarderPublisher::new(tables).topic("outbox")));
    let publish = async |mut tx: Tx<S::Database>, id: MessageId| {
        tx.publish("audit", invoice("seen")?).await?;
        bill::<S>(&mut tx, id.as_str()).await
    };
    let outcomes = handle::<S, _, _>(&inbox, &["1"], publish, FailurePolicy::nack()).await;
    assert_eq!(outcomes, [Outcome::Ack]);
    assert_eq!(S::number(&pool, "select count(*) from watermill_outbox").await, 2);
    assert_eq!(invoices::<S>(&pool).await, 0);
}

pub(crate) async fn a_handler_whose_layer_was_forgotten_is_refused_at_the_start<S: Server>() {
    let bill = async |mut tx: Tx<S::Database>, id: MessageId| bill::<S>(&mut tx, id.as_str()).await;
    let handler = Handler::new("bill", bill)
        .from(ScriptedSubscriber::new(), "orders")
        .to_topic("invoices")
        .layer(Identity::new());
    let error = Router::new().add(handler).run_until(async {}).await.unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::Build);
    for part in ["handler \"bill\"", "none of its layers publishes", "the layer of an `SqlInbox`"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

pub(crate) async fn what_a_layer_inside_has_dead_lettered_is_counted_as_that<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let inbox = inbox::<S>(&pool, SqlInboxConfig::default());
    let (source, dead) = (ScriptedSubscriber::new(), RecordingPublisher::new());
    source.push(message("1"));
    let refuse = async |_: Tx<S::Database>| Err::<Message, _>(Permanent::new("never"));
    let handler = Handler::new("bill", refuse)
        .from(source.clone(), "orders")
        .to_topic("invoices")
        .layer(inbox.layer())
        .layer(PoisonQueue::new(dead.clone(), "dead").unwrap());
    let watched = source.clone();
    let report = run_until(Router::new().add(handler), async move { drop(watched.settled(1).await) }).await;
    let counts = report.handler("bill").unwrap().counts;
    assert_eq!((counts.acked, counts.dead_lettered), (0, 1));
    assert_eq!((dead.published("dead").len(), marks::<S>(&pool).await), (1, 1));
}
