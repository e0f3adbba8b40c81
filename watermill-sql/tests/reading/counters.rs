//! Tables whose offsets begin anew, below a group that was further.

use watermill_core::subscription::Health;

use super::*;

/// Only the order of offsets is confused by offsets that come again.
fn by_offset() -> SqlSubscriberConfig {
    SqlSubscriberConfig::default().lease(Duration::from_millis(600))
}

/// Waits for the refusal, and returns the statement that mends it.
async fn refusal(subscription: &mut Subscription) -> String {
    loop {
        if let Err(error) = event(subscription).await
            && error.kind() == SubscribeErrorKind::Refused
        {
            return error.to_string();
        }
    }
}

fn remedy(why: &str) -> String {
    let (_, remedy) = why.split_once("read it from its beginning: ").unwrap_or_else(|| panic!("{why}"));
    remedy.split(';').next().unwrap().to_owned()
}

pub(crate) async fn a_counter_that_begins_anew_under_a_reader_is_noticed_and_the_remedy_works<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", numbered(0..5)).await.unwrap();
    let mut subscription = reader::<S>(&pool, by_offset()).subscribe("t").await.unwrap();
    assert_eq!(read(&mut subscription, 5).await, ["0", "1", "2", "3", "4"]);
    S::execute(&pool, S::BEGIN_ANEW).await;
    publisher::<S>(&pool).publish("t", numbered(5..7)).await.unwrap();
    let why = refusal(&mut subscription).await;
    assert!(matches!(subscription.status().health, Health::Degraded { .. }));
    S::execute(&pool, &remedy(&why)).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        if let Ok(delivery) = event(&mut subscription).await {
            seen.push(payload(&delivery).to_owned());
            delivery.ack();
        }
    }
    assert_eq!(seen, ["5", "6"]);
}

pub(crate) async fn a_counter_that_is_past_the_position_again_is_noticed_under_a_reader<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", numbered(0..5)).await.unwrap();
    let mut subscription = reader::<S>(&pool, by_offset()).subscribe("t").await.unwrap();
    read(&mut subscription, 5).await;
    // Until it is known which row was read last.
    within("a renewal", async {
        while S::number(&pool, "select count(*) from _watermill_leases where read_row is not null").await == 0
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    S::execute(&pool, S::BEGIN_ANEW).await;
    publisher::<S>(&pool).publish("t", numbered(5..15)).await.unwrap();
    let why = refusal(&mut subscription).await;
    // It may have looked before the new rows were there.
    assert!(why.contains("begun anew") || why.contains("drawn none above"), "{why}");
}

pub(crate) async fn a_counter_that_is_past_the_position_again_is_refused_at_the_start<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", numbered(0..5)).await.unwrap();
    let mut subscription = reader::<S>(&pool, by_offset()).subscribe("t").await.unwrap();
    read(&mut subscription, 5).await;
    subscription.close().await.unwrap();
    S::execute(&pool, S::BEGIN_ANEW).await;
    publisher::<S>(&pool).publish("t", numbered(5..15)).await.unwrap();
    let error = reader::<S>(&pool, by_offset()).subscribe("t").await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Refused, "{error}");
    S::execute(&pool, &remedy(&error.to_string())).await;
    let mut subscription = reader::<S>(&pool, by_offset()).subscribe("t").await.unwrap();
    let all: Vec<String> = (5..15).map(|n| n.to_string()).collect();
    assert_eq!(read(&mut subscription, 10).await, all);
}

pub(crate) async fn what_retention_deletes_is_no_counter_that_begins_anew<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", numbered(0..5)).await.unwrap();
    for n in 0..3 {
        let mut subscription = reader::<S>(&pool, by_offset()).subscribe("t").await.unwrap();
        publisher::<S>(&pool).publish("t", numbered(9..10)).await.unwrap();
        let count = if n == 0 { 6 } else { 1 };
        assert_eq!(read(&mut subscription, count).await.last().unwrap(), "9");
        subscription.close().await.unwrap();
        S::execute(&pool, "delete from watermill_t").await;
    }
}
