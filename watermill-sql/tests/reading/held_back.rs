//! Readers that wait for the transactions of others, and what they say of it.

use tokio::time::Instant;
use watermill_core::subscription::Health;

use super::*;

/// Longer than a reader is patient.
const A_WHILE: Duration = Duration::from_millis(2_500);

/// There is a writer at every moment, and none of them stays for long: so nobody waits for longer than the longest
/// of them was there.
pub(crate) async fn nobody_waits_for_longer_than_a_writer_is_there_while_rows_flow<S: Server>() {
    if !S::MANY_WRITERS {
        return;
    }
    let server = S::default();
    let pool = server.connect().await;
    let subscriber = reader::<S>(&pool, S::ways().remove(0));
    let mut subscription = subscriber.subscribe("t").await.unwrap();
    let start = Instant::now();
    let mut longest = Duration::ZERO;
    let mut open: Option<(Instant, sqlx::Transaction<'static, S::Database>)> = None;
    for n in 0.. {
        let begun = Instant::now();
        let mut transaction = pool.begin().await.unwrap();
        SqlPublisher::in_transaction(&mut transaction).publish("t", numbered(n..n + 1)).await.unwrap();
        // So that the row of whoever is open is missed, on whatever database.
        publisher::<S>(&pool).publish("t", numbered(0..1)).await.unwrap();
        // It has looked before the next one begins, and so knows who was there.
        within("who holds it back", async {
            while subscriber.held_back().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let Some((since, earlier)) = open.replace((begun, transaction)) else { continue };
        let held = subscriber.held_back();
        longest = longest.max(since.elapsed());
        assert!(held.iter().all(|held| held.waited <= longest), "{longest:?}: {held:?}");
        let health = subscription.status().health;
        assert!(health == Health::Healthy || longest > Duration::from_secs(1), "{health:?}");
        earlier.commit().await.unwrap();
        while let Some(Some(delivery)) = subscription.next().now_or_never() {
            delivery.unwrap().ack();
        }
        if start.elapsed() > A_WHILE.max(longest * 3) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn the_age_of_who_holds_a_reader_back_is_its_own_and_not_that_of_the_wait<S: Server>() {
    if !S::MANY_WRITERS {
        return;
    }
    for (n, config) in S::ways().into_iter().enumerate() {
        let server = S::default();
        let pool = server.connect().await;
        let subscriber = reader::<S>(&pool, config);
        subscriber.initialize("t").await.unwrap();
        let mut late = pool.begin().await.unwrap();
        SqlPublisher::in_transaction(&mut late).publish("t", numbered(0..1)).await.unwrap();
        let begun = Instant::now();
        publisher::<S>(&pool).publish("t", numbered(1..2)).await.unwrap();
        while begun.elapsed() < A_WHILE {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let subscribed = Instant::now();
        let mut subscription = subscriber.subscribe("t").await.unwrap();
        let held = within("the gauge", async {
            loop {
                assert!(subscription.next().now_or_never().is_none());
                // Where others write on the same server the oldest of them is named.
                if let [held] = &subscriber.held_back()[..]
                    && held.age > held.waited
                {
                    return held.clone();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        assert!(held.waited <= subscribed.elapsed(), "way {n}: {held:?}");
        assert!(held.age >= Duration::from_secs(2), "way {n}: {held:?}");
        let id = held.id.expect("it has a connection");
        assert!(held.holder.contains(&id.to_string()), "way {n}: {held:?}");
        late.commit().await.unwrap();
        assert_eq!(read(&mut subscription, 2).await, ["0", "1"], "way {n}");
    }
}
