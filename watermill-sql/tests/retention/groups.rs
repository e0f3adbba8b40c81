//! Whom rows are kept for.

use watermill_core::subscription::Window;

use super::*;
use crate::server::age;

pub(crate) async fn what_is_old_and_was_read_by_every_group_is_deleted<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publish::<S>(&pool, 1..6).await;
    read::<S>(&pool, "quick", "t", 5).await;
    assert_eq!(read::<S>(&pool, "slow", "t", 3).await, ["1", "2", "3"]);

    assert_eq!(run::<S>(&pool, by_the_day(), "t").await, RetentionReport::default(), "nothing is old");
    age::<S>(&pool, "1 = 1").await;
    let report = run::<S>(&pool, by_the_day(), "t").await;
    assert_eq!((report.deleted, report.kept_for.as_deref()), (3, Some("slow")));

    assert_eq!(read::<S>(&pool, "slow", "t", 2).await, ["4", "5"], "what was unread is still there");
    let report = run::<S>(&pool, by_the_day(), "t").await;
    assert_eq!((report.deleted, report.kept_for), (2, None));

    publish::<S>(&pool, 6..7).await;
    for group in ["quick", "slow"] {
        assert_eq!(read::<S>(&pool, group, "t", 1).await, ["6"], "an empty table keeps its place");
    }
}

pub(crate) async fn what_was_acked_ahead_of_an_unsettled_row_does_not_let_that_row_go<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publish::<S>(&pool, 1..4).await;
    let mut subscription = subscriber::<S>(&pool, "g").subscribe("t").await.unwrap();
    subscription.set_window(Window::unordered(3.try_into().unwrap()));
    let first = next(&mut subscription).await;
    for _ in 0..2 {
        next(&mut subscription).await.ack_confirmed().await.unwrap();
    }
    age::<S>(&pool, "1 = 1").await;
    let report = run::<S>(&pool, by_the_day(), "t").await;
    assert_eq!((report.deleted, report.kept_for.as_deref()), (0, Some("g")));

    first.ack_confirmed().await.unwrap();
    assert_eq!(run::<S>(&pool, by_the_day(), "t").await.deleted, 3);
    publish::<S>(&pool, 4..5).await;
    assert_eq!(payload(&next(&mut subscription).await), "4", "the reader goes on");
}

pub(crate) async fn a_group_of_gos_that_is_behind_keeps_its_rows<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    S::execute(&pool, S::GO_LOG).await;
    let report = run::<S>(&pool, by_the_day(), "go").await;
    assert_eq!((report.deleted, report.kept_for.as_deref()), (2, Some("behind")));
    assert_eq!(S::number(&pool, "select count(*) from watermill_go where uuid = 'c'").await, 1);
}

pub(crate) async fn a_log_without_groups_is_kept_unless_that_is_not_wanted<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publish::<S>(&pool, 1..4).await;
    age::<S>(&pool, "uuid is not null").await;
    assert_eq!(run::<S>(&pool, by_the_day(), "t").await.deleted, 0, "without a table of offsets");
    subscriber::<S>(&pool, "g").initialize("t").await.unwrap();
    S::execute(&pool, "delete from watermill_offsets_t").await;
    assert_eq!(run::<S>(&pool, by_the_day(), "t").await.deleted, 0, "with one that is empty");
    assert_eq!(run::<S>(&pool, by_the_day().without_groups(true), "t").await.deleted, 3);

    publish::<S>(&pool, 4..5).await;
    age::<S>(&pool, "uuid is not null").await;
    S::execute(&pool, "drop table watermill_offsets_t").await;
    assert_eq!(run::<S>(&pool, by_the_day().without_groups(true), "t").await.deleted, 1);
}

pub(crate) async fn a_group_that_begins_later_reads_what_is_left<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publish::<S>(&pool, 1..5).await;
    read::<S>(&pool, "first", "t", 4).await;
    // In the middle, so that the new group finds a gap on its way and one before it.
    age::<S>(&pool, r#"cast(payload as char(1)) in ('1', '3')"#).await;
    assert_eq!(run::<S>(&pool, by_the_day(), "t").await.deleted, 2);
    assert_eq!(read::<S>(&pool, "second", "t", 2).await, ["2", "4"]);
}

pub(crate) async fn readers_miss_nothing_while_rows_are_deleted_behind_them<S: Server>() {
    const COUNT: usize = 400;
    let server = S::default();
    let pool = server.connect().await;
    for group in ["a", "b"] {
        subscriber::<S>(&pool, group).initialize("t").await.unwrap();
    }
    let config = SqlRetentionConfig::default().keep_for(Duration::ZERO).batch_size(7).pause(Duration::ZERO);
    let (retention_pool, publisher_pool) = (pool.clone(), pool.clone());
    let deleting = tokio::spawn(async move {
        let mut deleted = 0;
        while deleted < COUNT as u64 {
            deleted += run::<S>(&retention_pool, config.clone(), "t").await.deleted;
            tokio::task::yield_now().await;
        }
    });
    let publishing = tokio::spawn(async move {
        for at in 0..COUNT / 4 {
            publish::<S>(&publisher_pool, at * 4..at * 4 + 4).await;
        }
    });
    let expected: Vec<String> = (0..COUNT).map(|n| n.to_string()).collect();
    let (a, b) = within("both groups", async {
        tokio::join!(read::<S>(&pool, "a", "t", COUNT), read::<S>(&pool, "b", "t", COUNT))
    })
    .await;
    assert_eq!(a, expected);
    assert_eq!(b, expected);
    publishing.await.unwrap();
    within("everything to be deleted", deleting).await.unwrap();
    assert_eq!(S::number(&pool, "select count(*) from watermill_t").await, 0);
}
