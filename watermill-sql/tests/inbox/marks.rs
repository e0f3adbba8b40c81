//! By what a message is known again, and for how long.

use std::time::Duration;

use watermill_core::{HandlerInfo, error::chain};
use watermill_sql::{InboxError, InboxErrorKind, SqlInboxConfig};

use super::*;

/// A message as a handler gets it.
fn for_handler(handler: &str, topic: &str, id: &str) -> Message {
    message(id).with_handler(Arc::new(HandlerInfo::consumer(handler, "memory", topic)))
}

/// Runs a step that writes, and says whether it was new.
async fn is_new<S: Server>(inbox: &SqlInbox<S::Database>, message: &Message) -> bool {
    let done = inbox
        .once(message, async |mut tx| {
            S::write(&mut tx, "insert into effects values ('x')").await?;
            Ok(())
        })
        .await;
    done.unwrap_or_else(|error| panic!("{}", chain(&*error))).is_some()
}

pub(crate) async fn ids_that_repeat_across_topics_are_other_messages<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let config = SqlInboxConfig::default().consumer("billing");
    let one = inbox::<S>(&pool, config.clone());
    let (orders, refunds) = (for_handler("a", "orders", "1"), for_handler("a", "refunds", "1"));
    assert!(is_new::<S>(&one, &orders).await && is_new::<S>(&one, &refunds).await);
    assert!(!is_new::<S>(&one, &orders).await && !is_new::<S>(&one, &refunds).await);

    let across = inbox::<S>(&pool, config.across_topics(true));
    assert!(is_new::<S>(&across, &orders).await);
    assert!(!is_new::<S>(&across, &refunds).await);
}

pub(crate) async fn two_handlers_with_one_inbox_each_handle_a_message<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let inbox = inbox::<S>(&pool, SqlInboxConfig::default());
    for handler in ["bill", "ship", "BILL", "bill "] {
        assert!(is_new::<S>(&inbox, &for_handler(handler, "orders", "1")).await, "{handler}");
    }
    assert!(!is_new::<S>(&inbox, &for_handler("bill", "orders", "1")).await);
    let error = inbox.once(&message("1"), async |_| Ok(())).await.unwrap_err();
    let error = watermill_core::error::find::<InboxError>(&*error).expect("it has no name to be marked by");
    assert_eq!(error.kind(), InboxErrorKind::Config);
}

pub(crate) async fn two_handlers_with_one_name_handle_a_message_once_between_them<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let config = SqlInboxConfig::default().consumer("billing");
    let (one, other) = (inbox::<S>(&pool, config.clone()), inbox::<S>(&pool, config));
    assert!(is_new::<S>(&one, &for_handler("bill", "orders", "1")).await);
    assert!(!is_new::<S>(&other, &for_handler("bill again", "orders", "1")).await);
}

pub(crate) async fn an_id_that_is_longer_than_its_column_is_known_again<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let inbox = inbox::<S>(&pool, SqlInboxConfig::default().consumer("billing"));
    let long = "é'\\\"x".repeat(500);
    for id in [long.clone(), format!("{long}y"), "it's".into(), "a\0b".into(), "b\\'; --".into()] {
        assert!(is_new::<S>(&inbox, &message(&id)).await, "{id:?}");
        assert!(!is_new::<S>(&inbox, &message(&id)).await, "{id:?}");
    }
    assert_eq!((effects::<S>(&pool).await, marks::<S>(&pool).await), (5, 5));
}

pub(crate) async fn a_message_without_an_id_is_handled_each_time<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let inbox = inbox::<S>(&pool, SqlInboxConfig::default().consumer("billing"));
    assert!(is_new::<S>(&inbox, &message("")).await && is_new::<S>(&inbox, &message("")).await);
    assert_eq!((effects::<S>(&pool).await, marks::<S>(&pool).await), (2, 0));
}

pub(crate) async fn two_that_have_the_same_message_at_once_handle_it_once<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let config = SqlInboxConfig::default().consumer("billing");
    let (one, other) = (inbox::<S>(&pool, config.clone()), inbox::<S>(&pool, config));
    for n in 0..20 {
        let message = message(&n.to_string());
        let (a, b) = tokio::join!(is_new::<S>(&one, &message), is_new::<S>(&other, &message));
        assert!(a != b, "one of them handles it");
    }
    assert_eq!(effects::<S>(&pool).await, 20);
}

pub(crate) async fn old_marks_are_deleted_in_batches_and_young_ones_stay<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let config = SqlInboxConfig::default().consumer("billing").batch_size(10).pause(Duration::from_millis(1));
    let inbox = inbox::<S>(&pool, config);
    for n in 0..25 {
        assert!(is_new::<S>(&inbox, &message(&n.to_string())).await);
    }
    assert_eq!(inbox.forget_old().await.unwrap(), 0);
    S::execute(&pool, "update _watermill_inbox set handled_at_ms = handled_at_ms - 15 * 24 * 3600 * 1000")
        .await;
    assert!(is_new::<S>(&inbox, &message("young")).await);
    assert_eq!(inbox.forget_old().await.unwrap(), 25);
    assert_eq!(marks::<S>(&pool).await, 1);
    assert!(!is_new::<S>(&inbox, &message("young")).await);

    S::execute(&pool, "update _watermill_inbox set handled_at_ms = 1").await;
    let forgotten = async {
        while marks::<S>(&pool).await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    run_until(Router::new().plugin(inbox).add(idle()), forgotten).await;
}

/// A router runs as long as it has a handler.
fn idle() -> watermill_core::Handler<
    impl watermill_core::router::MakeService<(), Service: Clone, Kind = watermill_core::router::types::Nothing>,
    impl watermill_core::router::types::Source,
> {
    async fn ignore(_: Message) {}
    watermill_core::Handler::new("idle", ignore).from(watermill_testkit::ScriptedSubscriber::new(), "nothing")
}

pub(crate) async fn no_table_is_made_where_that_is_not_wanted<S: Server>() {
    let server = S::default();
    let pool = prepared(&server).await;
    let inbox = inbox::<S>(&pool, SqlInboxConfig::default().consumer("billing").initialize_schema(false));
    let error = inbox.once(&message("1"), async |_| Ok(())).await.unwrap_err();
    assert!(chain(&*error).contains("initialize_schema"), "{}", chain(&*error));
    assert!(!S::has_table(&pool, "_watermill_inbox").await);
}
