//! What the ack of a log has locked until the commit, and those who wait behind that.

use std::time::Duration;

use sqlx::pool::PoolOptions;
use watermill_core::{Subscriber, error::find};
use watermill_sql::{InboxError, InboxErrorKind, Isolation};

use super::*;
use crate::joined_log::{bill, next, position, published, reader, records_late};

/// How a database tells for how long a session may be silent in its transaction.
#[cfg(any(feature = "postgres", feature = "mysql"))]
struct Silence {
    /// Has each step note it behind its ack, in `noted`.
    note: &'static str,
    /// How often it was noted that it is that of a lease of ten minutes.
    is_of_the_lease: &'static str,
    of_the_session: &'static str,
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn behind_its_ack_a_step_is_silent_for_no_longer_than_the_lease_on_postgres() {
    behind_its_ack_a_step_is_silent_for_no_longer_than_the_lease::<crate::postgres_database::Database>(Silence {
        note: "create table noted (silence text);
               create function note() returns trigger language plpgsql as $$ begin
                   insert into noted values (current_setting('idle_in_transaction_session_timeout'));
                   return null;
               end $$;
               create constraint trigger note after update on watermill_offsets_orders
               deferrable initially deferred for each row execute function note()",
        is_of_the_lease: "select count(*) from noted where silence = '10min'",
        of_the_session: "select setting::bigint from pg_settings where name = 'idle_in_transaction_session_timeout'",
    })
    .await;
}

#[cfg(feature = "mysql")]
#[tokio::test]
async fn behind_its_ack_a_step_is_silent_for_no_longer_than_the_lease_on_mysql() {
    behind_its_ack_a_step_is_silent_for_no_longer_than_the_lease::<crate::mysql_database::Database>(
        Silence {
            note: "create table noted (silence bigint);
               create trigger note after update on watermill_offsets_orders
               for each row insert into noted values (@@session.wait_timeout)",
            is_of_the_lease: "select count(*) from noted where silence = 600",
            of_the_session: "select cast(@@session.wait_timeout as signed)",
        },
    )
    .await;
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn behind_its_ack_a_step_is_silent_for_no_longer_than_the_lease<S: Server>(silence: Silence) {
    let server = S::default();
    let pool = published(&server, &["1", "2"]).await;
    let mut subscription = reader::<S>(&pool, records_late()).subscribe("orders").await.unwrap();
    S::execute(&pool, silence.note).await;
    let options = PoolOptions::<S::Database>::new().max_connections(1);
    let one = options.connect_with((*pool.connect_options()).clone()).await.unwrap();
    let before = S::number(&one, silence.of_the_session).await;
    let inbox = crate::joined_log::joining::<S>(&one);
    for done in 1..=2 {
        let (order, settlement) = next(&mut subscription).await;
        bill::<S>(&inbox, &order).await.unwrap();
        settlement.ack();
        assert_eq!(S::number(&pool, silence.is_of_the_lease).await, done);
        assert_eq!(S::number(&one, silence.of_the_session).await, before, "it is as it was");
    }
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn an_ack_that_cannot_be_written_is_given_up_before_the_lease_is_over_on_postgres() {
    an_ack_that_cannot_be_written_is_given_up_before_the_lease_is_over::<crate::postgres_database::Database>(
    )
    .await;
}

#[cfg(feature = "mysql")]
#[tokio::test]
async fn an_ack_that_cannot_be_written_is_given_up_before_the_lease_is_over_on_mysql() {
    an_ack_that_cannot_be_written_is_given_up_before_the_lease_is_over::<crate::mysql_database::Database>()
        .await;
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn an_ack_that_cannot_be_written_is_given_up_before_the_lease_is_over<S: Server>() {
    const HOUR: Duration = Duration::from_secs(3600);
    let server = S::default();
    let pool = published(&server, &["1"]).await;
    let config = watermill_sql::SqlSubscriberConfig::default().lease(Duration::from_secs(2));
    let mut subscription = reader::<S>(&pool, config).subscribe("orders").await.unwrap();
    let inbox = inbox::<S>(&pool, SqlInboxConfig::default().joins_ack(true).timeout(HOUR));
    let (order, _settlement) = next(&mut subscription).await;
    let mut other = pool.begin().await.unwrap();
    let lock = "update watermill_offsets_orders set offset_acked = offset_acked";
    S::write(&mut other, lock).await.unwrap();
    let step = tokio::time::timeout(watermill_testkit::patience(), bill::<S>(&inbox, &order));
    let failed = step.await.expect("it does not wait for an hour").unwrap_err();
    assert!(find::<InboxError>(&*failed).is_some_and(InboxError::is_retryable), "{failed:?}");
    other.rollback().await.unwrap();
    assert_eq!(effects::<S>(&pool).await, 0);
}

pub(crate) async fn a_step_goes_on_behind_a_renewal_whatever_the_session_has<S: Server>() {
    let server = S::default();
    let pool = published(&server, &["1"]).await;
    let mut subscription = reader::<S>(&pool, records_late()).subscribe("orders").await.unwrap();
    let options = PoolOptions::<S::Database>::new().max_connections(2);
    let sessions = options.after_connect(|connection, _| {
        Box::pin(async move {
            let above = match <S::Database as sqlx::Database>::NAME {
                "SQLite" => "select 1",
                "PostgreSQL" => "set default_transaction_isolation = 'repeatable read'",
                _ => "set session transaction isolation level repeatable read",
            };
            S::write(connection, above).await
        })
    });
    let sessions = sessions.connect_with((*pool.connect_options()).clone()).await.unwrap();
    let inbox = inbox::<S>(&sessions, SqlInboxConfig::default().joins_ack(true).runs(1));
    let (order, _settlement) = next(&mut subscription).await;
    let step = inbox.once(&order, async |mut tx| {
        S::read(&mut tx, "select count(*) from effects").await?;
        if S::MANY_WRITERS {
            S::execute(&pool, "update _watermill_leases set expires_at_ms = expires_at_ms + 1").await;
        }
        Ok(S::write(&mut tx, "insert into effects values ('1')").await?)
    });
    step.await.unwrap();
    assert_eq!((effects::<S>(&pool).await, position::<S>(&pool).await), (1, 1));
}

pub(crate) async fn an_isolation_that_renewals_would_break_is_refused_with_the_reason<S: Server>() {
    let server = S::default();
    let pool = published(&server, &["1"]).await;
    let mut subscription = reader::<S>(&pool, records_late()).subscribe("orders").await.unwrap();
    let (order, _settlement) = next(&mut subscription).await;
    let config = SqlInboxConfig::default().joins_ack(true).isolation(Isolation::RepeatableRead);
    let done = bill::<S>(&inbox::<S>(&pool, config), &order).await;
    if !S::MANY_WRITERS {
        // It has one isolation, and nobody writes beside a step.
        return assert_eq!(done.unwrap(), Some(()));
    }
    let refused = done.unwrap_err();
    let refused = find::<InboxError>(&*refused).unwrap();
    assert_eq!(refused.kind(), InboxErrorKind::Config);
    assert!(refused.to_string().contains("read committed"), "{refused}");
    assert_eq!(effects::<S>(&pool).await, 0);
}

/// The turn is that of a handler that has ended its transaction, so that nothing is locked.
#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_waits_for_the_writers_turn_keeps_nobody_from_recording() {
    use tokio::sync::Notify;
    use watermill_core::{Publisher, Window};
    use watermill_sql::{SqlPublisher, SqlPublisherConfig};

    use crate::{joined_log::joining, server::File};

    let server = File::default();
    let pool = published(&server, &["1", "2"]).await;
    let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).unwrap();
    publisher.publish("others", vec![message("a")]).await.unwrap();
    let config = records_late().ack_interval(Duration::from_millis(1));
    let readers = reader::<File>(&pool, config);
    let mut others = readers.subscribe("others").await.unwrap();
    let mut subscription = readers.subscribe("orders").await.unwrap();
    subscription.set_window(Window::unordered(2.try_into().unwrap()));
    let (other, _settlement) = next(&mut others).await;
    let (one, _settlement) = next(&mut subscription).await;
    let (_, two) = next(&mut subscription).await;
    let (inbox, has_turn, goes_on) = (&joining::<File>(&pool), &Notify::new(), &Notify::new());
    let mut first = std::pin::pin!(inbox.once(&other, async |mut tx| {
        File::write(&mut tx, "commit").await?;
        has_turn.notify_one();
        goes_on.notified().await;
        Ok(())
    }));
    tokio::select! {
        ended = &mut first => panic!("it waits: {ended:?}"),
        () = has_turn.notified() => {}
    }
    let mut second = std::pin::pin!(bill::<File>(inbox, &one));
    assert!(futures::poll!(&mut second).is_pending());
    let recorded = tokio::time::timeout(watermill_testkit::patience(), two.ack_confirmed()).await;
    recorded.expect("it is recorded meanwhile").unwrap();
    goes_on.notify_one();
    assert!(first.await.is_err(), "its transaction was over");
    second.await.unwrap();
    assert_eq!((effects::<File>(&pool).await, position::<File>(&pool).await), (1, 2));
}
