//! Queues in order by key: who gets the next message of a key, and when.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use super::*;
use crate::server::insert;

/// How soon a worker that has died is noticed.
const TIMEOUT: Duration = Duration::from_secs(3);

pub(crate) fn in_order() -> SqlQueueSubscriberConfig {
    SqlQueueSubscriberConfig::default().ordered_by_key(true)
}

/// Messages of one key, as JSON numbers.
pub(crate) fn keyed(key: &str, range: std::ops::Range<usize>) -> Vec<Message> {
    numbered(range).into_iter().map(|message| message.with_key(key.to_owned())).collect()
}

/// A row of plain SQL whose offset was drawn long ago.
async fn insert_at<S: Server>(pool: &Pool<S::Database>, offset: i64, payload: &str) {
    let column = format!("{quote}offset{quote}", quote = S::QUOTE);
    let values = format!(r#"({offset}, 'u', '{payload}', '{{"_watermill_key":"a"}}')"#);
    let insert = format!("insert into watermill_t ({column}, uuid, payload, metadata) values {values}");
    S::execute(pool, &insert).await;
}

pub(crate) async fn nothing_comes(subscription: &mut Subscription) {
    let came = tokio::time::timeout(Duration::from_millis(400), subscription.next()).await;
    assert!(came.is_err(), "{came:?}");
}

pub(crate) async fn a_key_waits_for_its_message_in_hand_and_others_go_on<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    let mut one = worker_with::<S>(&pool, in_order()).subscribe("t").await.unwrap();
    publisher::<S>(&pool).publish("t", keyed("a", 0..3)).await.unwrap();
    let first = next(&mut one).await;
    publisher::<S>(&pool).publish("t", keyed("b", 10..13)).await.unwrap();
    publisher::<S>(&pool).publish("t", numbered(20..22)).await.unwrap();
    let mut other = worker_with::<S>(&server.connect().await, in_order()).subscribe("t").await.unwrap();
    let mut seen = Vec::new();
    let mut without_key = Vec::new();
    // In either worker, and two at a time of those without a key.
    for _ in 0..5 {
        let delivery = within("another key", async {
            tokio::select! { it = one.next() => it, it = other.next() => it }
        });
        let delivery = delivery.await.unwrap().unwrap();
        seen.push(payload(&delivery).parse::<usize>().unwrap());
        if delivery.key().is_some() { delivery.ack() } else { without_key.push(delivery) }
    }
    seen.retain(|n| *n < 20);
    assert_eq!((seen, without_key.len()), (vec![10, 11, 12], 2));
    nothing_comes(&mut other).await;
    first.ack();
    for expected in ["1", "2"] {
        let delivery = within("the next of the key", async {
            tokio::select! { it = one.next() => it, it = other.next() => it }
        });
        let delivery = delivery.await.unwrap().unwrap();
        assert_eq!(payload(&delivery), expected);
        delivery.ack();
    }
}

pub(crate) async fn a_nacked_or_delayed_message_holds_its_key<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    let mut calls = keyed("a", 0..2);
    let late = Message::new("10").with_key("b").delay_for(Duration::from_secs(2));
    calls.extend([late, Message::new("11").with_key("b"), Message::new("20").with_key("c")]);
    publisher::<S>(&pool).publish("t", calls).await.unwrap();
    let mut subscription = worker_with::<S>(&pool, in_order()).subscribe("t").await.unwrap();
    // Whatever the window.
    subscription.set_window(watermill_core::Window::unordered(8.try_into().unwrap()));
    let mut seen = Vec::new();
    let mut is_nacked = false;
    while seen.len() < 5 {
        let delivery = next(&mut subscription).await;
        let n: usize = payload(&delivery).parse().unwrap();
        if n == 0 && !std::mem::replace(&mut is_nacked, true) {
            delivery.nack_after(Duration::from_secs(1));
            continue;
        }
        seen.push(n);
        delivery.ack();
    }
    let place = |n: usize| seen.iter().position(|other| *other == n).unwrap();
    assert!(place(20) < place(0) && place(0) < place(1) && place(10) < place(11), "{seen:?}");
}

pub(crate) async fn eight_workers_keep_the_order_of_keys_whatever_fails<S: Server>() {
    const KEYS: usize = 12;
    const EACH: usize = 15;
    let server = S::default();
    let pool = server.connect().await;
    worker_with::<S>(&pool, in_order()).initialize("t").await.unwrap();
    let log = Arc::new(Mutex::new(HashMap::<String, Key>::new()));
    let mut workers = Vec::new();
    for name in 0..8 {
        // A process of its own would have a pool and threads of its own.
        workers.push(Some(start::<S>(&server, name, log.clone()).await));
    }
    // In order: one call after another.
    for n in 0..EACH {
        let call: Vec<_> = (0..KEYS).flat_map(|key| keyed(&format!("key-{key}"), n..n + 1)).collect();
        publisher::<S>(&pool).publish("t", call).await.unwrap();
    }
    // Three of them die, one after another, and are replaced.
    for (name, killed) in [0, 3, 6].into_iter().enumerate() {
        let done = || log.lock().unwrap().values().map(|key| key.acked).sum::<usize>();
        within("progress", async {
            while done() < (name + 1) * KEYS * EACH / 5 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        // Not in the background: what it is just doing would be written down after it has died.
        let victim = workers[killed].take().unwrap();
        tokio::task::spawn_blocking(move || victim.shutdown_timeout(Duration::from_secs(30))).await.unwrap();
        log.lock().unwrap().values_mut().for_each(|key| key.in_hand.retain(|name| *name != killed));
        workers.push(Some(start::<S>(&server, 8 + name, log.clone()).await));
    }
    until_there_are::<S>(&pool, 0, "select count(*) from watermill_t").await;
    workers.into_iter().flatten().for_each(tokio::runtime::Runtime::shutdown_background);
    let log = log.lock().unwrap();
    assert_eq!(log.len(), KEYS);
    assert!(log.values().all(|key| key.acked == EACH), "{log:?}");
    let wrong: Vec<_> = log.values().flat_map(|key| &key.wrong).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// What has happened to a key.
#[derive(Debug, Default)]
struct Key {
    in_hand: Vec<usize>,
    acked: usize,
    wrong: Vec<String>,
}

/// A worker in a runtime of its own, that takes several keys at a time, nacks now and then, and says what it does.
async fn start<S: Server>(
    server: &S,
    name: usize,
    log: Arc<Mutex<HashMap<String, Key>>>,
) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let options = server.connect().await;
    let config = in_order().visibility_timeout(TIMEOUT).batch_size(5);
    runtime.spawn(async move {
        let subscription = worker_with::<S>(&options, config).subscribe("t").await.unwrap();
        let work = subscription.for_each_concurrent(3, |delivery| {
            let log = log.clone();
            async move {
                // A busy machine may keep a worker waiting for the database, or until its claims have run out.
                let Ok(delivery) = delivery else { return };
                if delivery.is_lost() {
                    return;
                }
                let key = String::from_utf8(delivery.key().unwrap().to_vec()).unwrap();
                let n: usize = payload(&delivery).parse().unwrap();
                let change =
                    |change: &dyn Fn(&mut Key)| change(log.lock().unwrap().entry(key.clone()).or_default());
                change(&|it| {
                    // What was acked and not recorded when its worker died comes again.
                    if !it.in_hand.is_empty() || n > it.acked {
                        it.wrong.push(format!("{key}: {n} with {name}: {it:?}"));
                    }
                    it.in_hand.push(name);
                });
                tokio::time::sleep(Duration::from_millis(2)).await;
                change(&|it| it.in_hand.retain(|other| *other != name));
                if (n + name).is_multiple_of(7) && delivery.info().attempt() == 1 {
                    delivery.nack_after(Duration::from_millis((n % 3 * 10) as u64));
                } else {
                    change(&|it| it.acked = it.acked.max(n + 1));
                    delivery.ack();
                }
            }
        });
        work.await;
    });
    runtime
}

pub(crate) async fn a_worker_that_dies_frees_its_keys_and_the_same_messages_come_first<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", keyed("a", 0..3)).await.unwrap();
    let config = in_order().visibility_timeout(TIMEOUT);
    // Whoever ends a runtime ends its tasks where they stand, as the end of a process does.
    let victim = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (theirs, options) = (config.clone(), server.connect().await);
    let dies = victim.spawn(async move {
        let mut subscription = worker_with::<S>(&options, theirs).subscribe("t").await.unwrap();
        std::mem::forget(next(&mut subscription).await);
        std::mem::forget(subscription);
    });
    dies.await.unwrap();
    victim.shutdown_background();
    publisher::<S>(&pool).publish("t", keyed("b", 10..11)).await.unwrap();
    let mut subscription = worker_with::<S>(&pool, config).subscribe("t").await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        let delivery = next(&mut subscription).await;
        let n: usize = payload(&delivery).parse().unwrap();
        assert!(n != 0 || delivery.info().attempt() == 2, "it was with the one that died");
        seen.push(n);
        delivery.ack();
    }
    seen.retain(|n| *n < 10);
    assert_eq!(seen, [0, 1, 2]);
}

pub(crate) async fn a_message_that_is_committed_late_waits_for_the_one_in_hand<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    let mut one = worker_with::<S>(&pool, in_order()).subscribe("t").await.unwrap();
    insert_at::<S>(&pool, 100, "2").await;
    let held = next(&mut one).await;
    // As if its offset had been drawn before, and its transaction had ended now.
    insert_at::<S>(&pool, 50, "1").await;
    insert_at::<S>(&pool, 101, "3").await;
    let mut other = worker_with::<S>(&server.connect().await, in_order()).subscribe("t").await.unwrap();
    nothing_comes(&mut other).await;
    held.ack_confirmed().await.unwrap();
    one.close().await.unwrap();
    for expected in ["1", "3"] {
        let delivery = next(&mut other).await;
        assert_eq!(payload(&delivery), expected);
        delivery.ack();
    }
}

/// Two claims at once of a key that each sees another head of.
pub(crate) async fn a_claim_that_cannot_be_seen_yet_keeps_its_key<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    worker_with::<S>(&pool, in_order()).initialize("t").await.unwrap();
    insert_at::<S>(&pool, 100, "2").await;
    // With one writer at a time there is no such thing.
    let Some(sleep) = S::SLEEP else { return };
    let claim = format!(
        "begin; update watermill_t set owner = 'another 9000000000000', due_ms = 8000000000000, attempts = 1,
         holds_key = ordering_key; {sleep}; commit"
    );
    let unseen = server.connect().await;
    let claimed = tokio::spawn(async move { S::execute(&unseen, &claim).await });
    let free = "select count(*) from (select 1 from watermill_t for update skip locked) free";
    until_there_are::<S>(&pool, 0, free).await;
    insert_at::<S>(&pool, 50, "1").await;
    let mut subscription =
        worker_with::<S>(&server.connect().await, in_order()).subscribe("t").await.unwrap();
    nothing_comes(&mut subscription).await;
    claimed.await.unwrap();
    nothing_comes(&mut subscription).await;
    S::execute(&pool, "delete from watermill_t where owner like 'another%'").await;
    assert_eq!(payload(&next(&mut subscription).await), "1");
}

pub(crate) async fn a_rejected_or_marked_message_releases_its_key<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", keyed("a", 0..3)).await.unwrap();
    let config = in_order().on_ack(OnAck::Mark).dead_letter_topic("dead");
    let mut subscription = worker_with::<S>(&pool, config).subscribe("t").await.unwrap();
    next(&mut subscription).await.reject("no");
    for expected in ["1", "2"] {
        let delivery = next(&mut subscription).await;
        assert_eq!(payload(&delivery), expected);
        delivery.ack();
    }
    subscription.close().await.unwrap();
    assert_eq!(
        S::number(&pool, "select count(*) from watermill_t where acked and holds_key is null").await,
        3
    );
    assert_eq!(S::number(&pool, "select count(*) from watermill_dead").await, 1);
}

pub(crate) async fn an_unreadable_message_holds_its_key_until_it_is_mended<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    worker_with::<S>(&pool, in_order()).initialize("t").await.unwrap();
    let odd = r#"{"_watermill_key":"a","odd":1}"#;
    S::execute(&pool, &insert("t", "1", odd)).await;
    publisher::<S>(&pool).publish("t", keyed("a", 2..3)).await.unwrap();
    publisher::<S>(&pool).publish("t", keyed("b", 3..4)).await.unwrap();
    let config = in_order().retry(Backoff::constant(Duration::from_millis(50)));
    let mut subscription = worker_with::<S>(&pool, config).subscribe("t").await.unwrap();
    let mut seen = Vec::new();
    let (mut errors, mut is_mended) = (0, false);
    within("the mended one, and what is behind it", async {
        while seen.len() < 3 {
            match subscription.next().await.unwrap() {
                Ok(delivery) => {
                    seen.push(payload(&delivery).to_owned());
                    delivery.ack();
                }
                Err(_) => errors += 1,
            }
            if errors > 2 && seen.len() == 1 && !std::mem::replace(&mut is_mended, true) {
                let good = r#"{"_watermill_key":"a"}"#;
                S::execute(&pool, &format!("update watermill_t set metadata = '{good}' where uuid = 'u'"))
                    .await;
            }
        }
    })
    .await;
    assert_eq!(seen, ["3", "1", "2"]);
}
