//! Working on a queue, with one worker and with eight.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, future::join_all};
use sqlx::Pool;
use tokio::{sync::Notify, time::Instant};
use watermill_core::{Subscriber, Window};
use watermill_sql::{SqlQueueSubscriber, SqlQueueSubscriberConfig};

use crate::{
    figure::{Chosen, large},
    raw::Raw,
};

/// Messages of a round.
const MESSAGES: usize = 20_000;
const BATCH: usize = 100;

pub(crate) async fn measure<R: Raw>(server: &R, chosen: &mut Chosen) {
    let name = |what: &str| format!("{}/queue/{what}", R::NAME);
    let pool = server.pool(16).await;
    let worker = SqlQueueSubscriber::new(pool.clone(), SqlQueueSubscriberConfig::default().batch_size(BATCH))
        .expect("a valid config");
    worker.initialize("queue").await.expect("the tables are made");
    for (workers, limit) in [(1, None), (2, None), (4, None), (8, Some(0.7))] {
        let ours = async || {
            R::refill_queue(&pool, "queue", MESSAGES).await;
            work::<R>(&pool, "queue", workers, 1, MESSAGES).await
        };
        let raw = async || {
            R::refill_queue(&pool, "queue", MESSAGES).await;
            let started = Instant::now();
            join_all((0..workers).map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move { R::claim_and_delete(&pool, "queue", BATCH).await })
            }))
            .await;
            started.elapsed()
        };
        chosen.compare(name(&format!("workers-{workers}")), MESSAGES, limit, ours, raw).await;
    }
    let many = large();
    let few = async || {
        R::refill_queue(&pool, "queue", MESSAGES).await;
        work::<R>(&pool, "queue", 1, 8, MESSAGES).await
    };
    let mut filled = false;
    worker.initialize("backlog").await.expect("the tables are made");
    let with_backlog = async || {
        if !std::mem::replace(&mut filled, true) {
            R::refill_queue(&pool, "backlog", many).await;
        }
        work::<R>(&pool, "backlog", 1, 8, MESSAGES).await
    };
    chosen.compare(name("backlog"), MESSAGES, None, with_backlog, few).await;
}

/// So many subscriptions with a window each work off so many messages together.
async fn work<R: Raw>(
    pool: &Pool<R::Database>,
    topic: &'static str,
    workers: usize,
    window: usize,
    messages: usize,
) -> Duration {
    let left = Arc::new(AtomicUsize::new(messages));
    let done = Arc::new(Notify::new());
    let started = Instant::now();
    let working = (0..workers).map(|_| {
        let (pool, left, done) = (pool.clone(), left.clone(), done.clone());
        tokio::spawn(async move {
            let config = SqlQueueSubscriberConfig::default().batch_size(BATCH);
            let worker = SqlQueueSubscriber::new(pool, config).expect("a valid config");
            let mut subscription = worker.subscribe(topic).await.expect("it begins");
            subscription.set_window(Window::unordered(NonZeroUsize::new(window).expect("not zero")));
            loop {
                tokio::select! {
                    biased;
                    () = done.notified() => break,
                    delivery = subscription.next() => {
                        let delivery = delivery.expect("the stream goes on").expect("no trouble");
                        std::hint::black_box(delivery.metadata());
                        delivery.ack();
                        let before = left.fetch_sub(1, Ordering::Relaxed);
                        if before <= 1 {
                            done.notify_waiters();
                            break;
                        }
                    }
                }
            }
            subscription.close().await.expect("it ends");
        })
    });
    for worker in join_all(working).await {
        worker.expect("no panic");
    }
    started.elapsed()
}
