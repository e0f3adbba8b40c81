//! Queues in order by key: which keys there are, and whose table says so.

use super::{
    ordering::{in_order, keyed, nothing_comes},
    *,
};
use crate::server::insert;

pub(crate) async fn a_hot_key_is_not_in_the_way_of_others<S: Server>() {
    const HOT: usize = 10_000;
    let server = S::default();
    let pool = server.connect().await;
    worker_with::<S>(&pool, in_order()).initialize("big").await.unwrap();
    for call in keyed("hot", 0..HOT).chunks(1_000) {
        publisher::<S>(&pool).publish("big", call.to_vec()).await.unwrap();
    }
    let mut holder = worker_with::<S>(&pool, in_order()).subscribe("big").await.unwrap();
    let held = next(&mut holder).await;
    let others = |from: usize| (from..from + 50).flat_map(|n| keyed(&format!("other-{n}"), n..n + 1));
    let mut subscription = worker_with::<S>(&pool, in_order()).subscribe("big").await.unwrap();
    for from in [0, 50] {
        publisher::<S>(&pool).publish("big", others(from).collect()).await.unwrap();
        for _ in 0..50 {
            let delivery = within("another key", async {
                tokio::select! { it = holder.next() => it, it = subscription.next() => it }
            });
            let delivery = delivery.await.unwrap().unwrap();
            assert_ne!(delivery.key().unwrap(), "hot");
            delivery.ack_confirmed().await.unwrap();
        }
    }
    // No claim looks there. What one look sees may be left where it was.
    let aside =
        S::number(&pool, "select count(*) from watermill_big where due_ms > 8000000000000000000").await;
    assert!(aside > HOT as i64 - 2_500, "{aside} are set aside");
    held.ack();
    for expected in 1..200 {
        let delivery = within("the hot key", async {
            tokio::select! { it = holder.next() => it, it = subscription.next() => it }
        });
        let delivery = delivery.await.unwrap().unwrap();
        assert_eq!(payload(&delivery), expected.to_string());
        delivery.ack();
    }
}

pub(crate) async fn a_key_whose_first_row_somebody_deletes_goes_on<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    worker_with::<S>(&pool, in_order()).initialize("t").await.unwrap();
    publisher::<S>(&pool).publish("t", keyed("a", 1..3)).await.unwrap();
    // It waited for a row that is gone.
    S::execute(&pool, "update watermill_t set due_ms = 9000000000000000000").await;
    let mut subscription = worker_with::<S>(&pool, in_order()).subscribe("t").await.unwrap();
    for expected in ["1", "2"] {
        let delivery = next(&mut subscription).await;
        assert_eq!(payload(&delivery), expected);
        delivery.ack();
    }
}

pub(crate) async fn a_queue_in_order_and_one_without_are_told_apart<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", keyed("a", 0..2)).await.unwrap();
    let refused =
        worker_with::<S>(&pool, in_order().initialize_schema(false)).subscribe("t").await.unwrap_err();
    assert_eq!(refused.kind(), SubscribeErrorKind::Refused, "{refused}");
    // The error says what mends it.
    let text = refused.to_string();
    let (_, statements) = text.split_once("or run: ").unwrap_or_else(|| panic!("{text}"));
    S::execute(&pool, statements).await;
    let mut subscription =
        worker_with::<S>(&pool, in_order().initialize_schema(false)).subscribe("t").await.unwrap();
    let first = next(&mut subscription).await;
    assert_eq!(payload(&first), "0");
    nothing_comes(&mut subscription).await;
    let refused = worker::<S>(&pool).subscribe("t").await.unwrap_err();
    assert_eq!(refused.kind(), SubscribeErrorKind::Topic);
    assert!(refused.to_string().contains("ordered_by_key"), "{refused}");
    drop(first);

    // Of many that begin at once, on a table of Go's, one adds what is missing.
    S::execute(&pool, S::GO_QUEUE).await;
    let worker = worker_with::<S>(&pool, in_order());
    let begun = futures::future::join_all((0..4).map(|_| worker.initialize("go"))).await;
    begun.into_iter().for_each(|result| result.unwrap());
    S::execute(&pool, &insert("go", "1", r#"{"_watermill_key":"a"}"#)).await;
    S::execute(&pool, &insert("go", "2", r#"{"_watermill_key":"a"}"#)).await;
    let mut subscription = worker.subscribe("go").await.unwrap();
    let first = next(&mut subscription).await;
    nothing_comes(&mut subscription).await;
    first.ack();
    assert_eq!(payload(&next(&mut subscription).await), "2");
}

pub(crate) async fn a_queue_that_is_filled_is_put_in_order_in_the_time_that_one_gives_it<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    for _ in 0..10 {
        publisher::<S>(&pool).publish("t", keyed("a", 0..1_000)).await.unwrap();
    }
    let hurried = worker_with::<S>(&pool, in_order().schema_timeout(Duration::from_millis(1)));
    let error = hurried.initialize("t").await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("did not answer within 1ms"), "{error}");
    // The server may be at it still.
    let worker = worker_with::<S>(&pool, in_order());
    let begun = futures::future::join_all((0..3).map(|_| worker.initialize("t"))).await;
    begun.into_iter().for_each(|result| result.unwrap());
    let mut subscription = worker.subscribe("t").await.unwrap();
    assert_eq!(payload(&next(&mut subscription).await), "0");
}

/// The change waits for as long as one of millions of rows takes.
#[cfg(feature = "postgres")]
pub(crate) async fn to_put_a_queue_in_order_may_take_longer_than_anything_else() {
    use crate::databases::{TestDatabase as _, postgres_database::Database};

    let server = Database::default();
    let pool = server.connect().await;
    publisher::<Database>(&pool).publish("t", keyed("a", 0..2)).await.unwrap();
    let slow = "create function slow() returns event_trigger language plpgsql
                as 'begin perform pg_sleep(11); end';
                create event trigger slow on ddl_command_start when tag in ('ALTER TABLE') execute function slow()";
    Database::execute(&pool, slow).await;
    worker_with::<Database>(&pool, in_order()).initialize("t").await.unwrap();
    worker_with::<Database>(&pool, in_order().initialize_schema(false)).initialize("t").await.unwrap();
}

pub(crate) async fn a_key_may_be_any_bytes<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    worker_with::<S>(&pool, in_order()).initialize("t").await.unwrap();
    let long = "k".repeat(10_000);
    let keys: [&[u8]; 5] = [b"", b"A", b"a", b"\0\xff", long.as_bytes()];
    let call = keys.iter().flat_map(|key| numbered(0..2).into_iter().map(|it| it.with_key(key.to_vec())));
    publisher::<S>(&pool).publish("t", call.collect()).await.unwrap();
    let nul = Message::new("0").with_key("\0").with_metadata("nul", "\0\\u0000");
    publisher::<S>(&pool).publish("t", vec![nul]).await.unwrap();
    let mut subscription = worker_with::<S>(&pool, in_order()).subscribe("t").await.unwrap();
    // The first of each, side by side.
    for _ in 0..6 {
        let delivery = next(&mut subscription).await;
        assert_eq!(payload(&delivery), "0");
        std::mem::forget(delivery);
    }
    nothing_comes(&mut subscription).await;
}

pub(crate) async fn status_tells_what_waits_behind_its_key<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    let mut call = keyed("a", 0..50);
    call.push(Message::new("60").with_key("b").delay_for(Duration::from_secs(3_600)));
    call.extend(keyed("c", 70..72));
    call.extend(numbered(80..82));
    publisher::<S>(&pool).publish("t", call).await.unwrap();
    worker_with::<S>(&pool, in_order()).initialize("t").await.unwrap();
    let status = watermill_sql::SqlStatus::new(pool.clone());
    let before = status.queue("t", None).await.unwrap();
    let counts = |status: &watermill_sql::QueueStatus| {
        [&status.due, &status.behind, &status.delayed, &status.in_hand].map(|count| count.rows)
    };
    assert_eq!(counts(&before), [4, 50, 1, 0], "the heads of two keys, and two without a key");
    let mut subscription = worker_with::<S>(&pool, in_order().batch_size(1)).subscribe("t").await.unwrap();
    let held = next(&mut subscription).await;
    assert_eq!(payload(&held), "0");
    within("one in hand, and one ahead at most", async {
        loop {
            let [due, behind, delayed, in_hand] = counts(&status.queue("t", None).await.unwrap());
            assert_eq!((due + behind + in_hand, delayed), (54, 1));
            if in_hand >= 1 && behind >= 48 {
                break;
            }
        }
    })
    .await;
}
