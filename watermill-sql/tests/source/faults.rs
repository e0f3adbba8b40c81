//! What goes wrong with a log or a queue of ours goes no worse with somebody's table.

use futures::FutureExt;
use watermill_core::{Backoff, subscription::Health};
use watermill_sql::StartPosition;

use super::{
    outbox::{fill, insert, source},
    *,
};

pub(crate) fn soon() -> Backoff {
    Backoff::constant(Duration::from_millis(20))
}

pub(crate) fn unreadable(number: u32) -> String {
    insert(number).replace(&format!("{{\"trace\":\"t\",\"n\":{number}}}"), "[1]")
}

async fn event(subscription: &mut Subscription) -> Result<Delivery, watermill_core::error::SubscribeError> {
    within("an event", subscription.next()).await.expect("the stream goes on")
}

/// What comes before the row of a log is delivered, what comes after it waits, and of a queue goes on.
pub(crate) async fn a_row_that_is_no_message_is_reported_until_it_is_mended<S: Outbox>() {
    for is_log in [true, false] {
        let server = S::default();
        let pool = server.with_outbox().await;
        fill::<S>(&pool, 0..1).await;
        S::execute(&pool, &unreadable(1)).await;
        fill::<S>(&pool, 2..3).await;
        let mut subscription = match is_log {
            true => {
                let config = SqlSubscriberConfig::default().source(source()).retry(soon());
                SqlSubscriber::new(pool.clone(), config).unwrap().subscribe("outbox").await.unwrap()
            }
            false => {
                let config = SqlQueueSubscriberConfig::default().source(source()).retry(soon());
                SqlQueueSubscriber::new(pool.clone(), config).unwrap().subscribe("outbox").await.unwrap()
            }
        };
        let (mut seen, mut errors) = (Vec::new(), 0);
        while seen.len() < 3 {
            match event(&mut subscription).await {
                Ok(delivery) => {
                    seen.push(payload(&delivery));
                    delivery.ack_confirmed().await.unwrap();
                }
                Err(error) => {
                    assert_eq!(error.kind(), SubscribeErrorKind::Undecodable, "{error}");
                    errors += 1;
                    if errors == 3 {
                        S::execute(&pool, "update outbox set headers = '{}' where seq = 2").await;
                    }
                }
            }
        }
        let expected = if is_log { ["0", "1", "2"] } else { ["0", "2", "1"] };
        assert_eq!(seen, expected, "log: {is_log}");
    }
}

pub(crate) async fn a_group_that_begins_at_the_latest_row_gets_what_commits_late<S: Outbox>() {
    if !S::MANY_WRITERS {
        return;
    }
    let server = S::default();
    let pool = server.with_outbox().await;
    fill::<S>(&pool, 0..1).await;
    let mut late = pool.begin().await.unwrap();
    S::execute_in(&mut late, &insert(1)).await;
    fill::<S>(&pool, 2..4).await;
    let config = SqlSubscriberConfig::default().source(source()).start(StartPosition::Latest);
    let subscriber = SqlSubscriber::new(pool.clone(), config).unwrap();
    subscriber.initialize("outbox").await.unwrap();
    late.commit().await.unwrap();
    fill::<S>(&pool, 4..5).await;
    let mut subscription = subscriber.subscribe("outbox").await.unwrap();
    assert_eq!(read(&mut subscription, 2).await, ["1", "4"]);
    assert!(subscription.next().now_or_never().is_none());
}

pub(crate) async fn a_counter_that_begins_anew_is_noticed_with_the_remedy<S: Outbox>() {
    let server = S::default();
    let pool = server.with_outbox().await;
    fill::<S>(&pool, 0..5).await;
    let mut subscription = log::<S>(&pool, source()).subscribe("outbox").await.unwrap();
    read(&mut subscription, 5).await;
    S::execute(&pool, S::BEGIN_ANEW).await;
    fill::<S>(&pool, 5..7).await;
    let why = loop {
        match event(&mut subscription).await {
            Err(error) if error.kind() == SubscribeErrorKind::Refused => break error.to_string(),
            event => assert!(event.is_err_and(|error| error.is_retryable())),
        }
    };
    assert!(matches!(subscription.status().health, Health::Degraded { .. }));
    let (_, remedy) = why.split_once("read it from its beginning: ").unwrap_or_else(|| panic!("{why}"));
    S::execute(&pool, remedy.split(';').next().unwrap()).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        if let Ok(delivery) = event(&mut subscription).await {
            seen.push(payload(&delivery));
            delivery.ack();
        }
    }
    assert_eq!(seen, ["5", "6"]);
}

pub(crate) async fn who_writes_to_it_and_holds_a_reader_back_is_named<S: Outbox>() {
    if !S::MANY_WRITERS {
        return;
    }
    let server = S::default();
    let pool = server.with_outbox().await;
    fill::<S>(&pool, 0..1).await;
    let subscriber = log::<S>(&pool, source());
    let mut subscription = subscriber.subscribe("outbox").await.unwrap();
    assert_eq!(read(&mut subscription, 1).await, ["0"]);
    let mut writer = pool.begin().await.unwrap();
    S::execute_in(&mut writer, &insert(1)).await;
    fill::<S>(&pool, 2..3).await;
    within("that it is held back", async {
        let is_held = |health| matches!(health, Health::Degraded { reason } if reason.contains("held back"));
        while !is_held(subscription.status().health) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let held = subscriber.held_back();
    assert_eq!((held.len(), &*held[0].topic), (1, "outbox"), "{held:?}");
    writer.commit().await.unwrap();
    assert_eq!(read(&mut subscription, 2).await, ["1", "2"]);
}
