//! A step of a message from a log of the same database: the group's position moves in its transaction.

use std::sync::Arc;

use futures::StreamExt as _;
use sqlx::{AssertSqlSafe, Pool};
use tokio::time::Instant;
use watermill_core::{Message, Subscriber as _, Subscription};
use watermill_sql::{SqlInbox, SqlInboxConfig, SqlSubscriber, SqlSubscriberConfig};
use watermill_testkit::unique;

use super::{Run, Step};
use crate::{raw::Depth, subscribe::filled};

/// How many are read at once.
const BATCH: usize = 100;

/// Of `count` steps: ours, and those that are written by hand.
pub(super) async fn runs<D: Step>(pool: &Pool<D>, outputs: &Arc<str>, count: usize) -> (Run, Run) {
    // More than that, as a backlog has: a reader at its end looks for more.
    let source = filled(pool, count + 2 * BATCH).await;
    (with_inbox(pool, &source, outputs, count), by_hand(pool, &source, outputs, count))
}

fn with_inbox<D: Step>(pool: &Pool<D>, source: &Arc<str>, outputs: &Arc<str>, count: usize) -> Run {
    let (pool, source, outputs) = (pool.clone(), source.clone(), outputs.clone());
    Box::new(move || {
        let (pool, source, outputs) = (pool.clone(), source.clone(), outputs.clone());
        Box::pin(async move {
            let config = SqlInboxConfig::default().joins_ack(true);
            let inbox = SqlInbox::new(pool.clone(), config).expect("it is valid");
            let config = SqlSubscriberConfig::default().group(unique("group")).batch_size(BATCH);
            let subscriber = SqlSubscriber::new(pool, config).expect("it is valid");
            let mut subscription: Subscription =
                subscriber.subscribe(&source).await.expect("a topic of ours");
            let started = Instant::now();
            for _ in 0..count {
                let delivery = subscription.next().await.expect("it goes on").expect("a message");
                let (message, output) = (delivery.message(), output());
                let done = inbox
                    .once(message, async |mut tx| {
                        D::effect(&mut tx, message.id().as_str()).await?;
                        tx.publish(&outputs, output.clone()).await?;
                        Ok(())
                    })
                    .await;
                assert_eq!(done.expect("the database takes them"), Some(()));
                delivery.ack();
            }
            let took = started.elapsed();
            subscription.close().await.expect("a clean end");
            took
        })
    })
}

fn by_hand<D: Step>(pool: &Pool<D>, source: &Arc<str>, outputs: &str, count: usize) -> Run {
    let (pool, source, insert) = (pool.clone(), source.clone(), D::insert_text(outputs, 1));
    let (read, advance) = (D::read_text(&source), D::advance_text(&source));
    Box::new(move || {
        let (pool, source, insert) = (pool.clone(), source.clone(), insert.clone());
        let (read, advance) = (read.clone(), advance.clone());
        Box::pin(async move {
            let group = unique("group");
            let mut connection = pool.acquire().await.expect("a connection");
            D::begin_group(&mut connection, &source, &group).await.expect("a new group");
            let limit = i64::try_from(BATCH).expect("a small number");
            let started = Instant::now();
            let (mut position, mut done) = (0, 0);
            while done < count {
                let (last, rows) = D::read_rows(&mut connection, &read, position, limit, Depth::Message)
                    .await
                    .expect("a topic of ours");
                // Nobody else writes to it: its offsets have no gaps.
                for offset in position + 1..=last {
                    let output = output();
                    let step = async {
                        let mut tx = pool.begin_with(AssertSqlSafe(D::BEGIN)).await?;
                        D::effect(&mut tx, output.id().as_str()).await?;
                        D::write_rows(&mut tx, &insert, std::slice::from_ref(&output)).await?;
                        D::move_position(&mut tx, &advance, &group, offset).await?;
                        tx.commit().await
                    };
                    step.await.expect("the database takes them");
                }
                (position, done) = (last, done + rows);
            }
            started.elapsed()
        })
    })
}

/// Both publish the same.
fn output() -> Message {
    Message::new(r#"{"cents":1200}"#)
}
