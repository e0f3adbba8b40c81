//! Transactions that the caller has begun with a statement of its own, so that sqlx does not know of them.

use super::*;

pub(crate) async fn what_is_published_inside_a_begin_of_the_callers_is_the_callers_to_commit<S: Server>() {
    let server = S::default();
    let (pool, other) = (server.pool(1).await, server.pool(1).await);
    S::execute(&mut other.acquire().await.unwrap(), "create table mine (n int)").await;
    for layout in [Layout::Log, Layout::Queue] {
        let topic = format!("{layout:?}").to_lowercase();
        publisher::<S>(&pool, layout).publish(&topic, numbered(0..1)).await.unwrap();
        for (end, messages) in [("rollback", 1), ("rollback", 2_500), ("commit", 1), ("commit", 2_500)] {
            let before = count::<S>(&other, &topic).await;
            let mine_before = S::number(&other, "select count(*) from mine").await;
            let mut connection = pool.acquire().await.unwrap();
            S::execute(&mut connection, "begin; insert into mine values (1)").await;
            publish_inside::<S>(&mut connection, layout, &topic, numbered(0..messages)).await.unwrap();
            assert_eq!(count::<S>(&other, &topic).await, before, "nothing is there before the {end}");
            S::execute(&mut connection, end).await;
            drop(connection);
            let (there, mine) = match end {
                "commit" => (messages as i64, 1),
                _ => (0, 0),
            };
            assert_eq!(count::<S>(&other, &topic).await - before, there, "{messages} after the {end}");
            assert_eq!(S::number(&other, "select count(*) from mine").await - mine_before, mine);
        }
    }
}

pub(crate) async fn what_fails_inside_a_begin_of_the_callers_leaves_the_rest_of_it<S: Server>() {
    let server = S::default();
    let (pool, other) = (server.pool(1).await, server.pool(1).await);
    publisher::<S>(&pool, Layout::Log).publish("t", numbered(0..1)).await.unwrap();
    S::execute(&mut pool.acquire().await.unwrap(), S::REFUSE).await;
    let mut messages = numbered(0..2_500);
    messages.push(Message::with_id("refused", "1"));
    let mut connection = pool.acquire().await.unwrap();
    S::execute(&mut connection, "create table mine (n int)").await;
    S::execute(&mut connection, "begin; insert into mine values (1)").await;
    publish_inside::<S>(&mut connection, Layout::Log, "t", messages).await.unwrap_err();
    publish_inside::<S>(&mut connection, Layout::Log, "t", numbered(0..2)).await.unwrap();
    S::execute(&mut connection, "commit").await;
    assert_eq!(S::number(&other, "select count(*) from mine").await, 1);
    assert_eq!(count::<S>(&other, "t").await, 3);
}

async fn publish_inside<S: Server>(
    connection: &mut <S::Database as sqlx::Database>::Connection,
    layout: Layout,
    topic: &str,
    messages: Vec<Message>,
) -> Result<(), watermill_core::error::PublishError> {
    let publisher = SqlPublisher::<S::Database>::on_connection(connection).config(publishing(layout));
    publisher.publish(topic, messages).await
}

/// As a middleware does: it begins, hands the publisher on by value, and commits when it has it back.
pub(crate) async fn a_publisher_that_owns_a_transaction_gives_it_back_to_be_committed<S: Server>() {
    let server = S::default();
    let (pool, other) = (server.pool(1).await, server.pool(1).await);
    publisher::<S>(&pool, Layout::Log).publish("t", numbered(0..1)).await.unwrap();
    let transaction = pool.begin().await.unwrap();
    let publisher = SqlPublisher::<S::Database>::owning(transaction).config(publishing(Layout::Log));
    let publisher = tokio::spawn(async move {
        publisher.publish("t", numbered(0..3)).await.unwrap();
        publisher
    });
    let transaction = publisher.await.unwrap().into_inner();
    assert_eq!(count::<S>(&other, "t").await, 1, "nothing is there before the commit");
    transaction.commit().await.unwrap();
    assert_eq!(count::<S>(&other, "t").await, 4);

    let rolled_back = SqlPublisher::<S::Database>::owning(pool.begin().await.unwrap());
    rolled_back.config(publishing(Layout::Log)).publish("t", numbered(0..3)).await.unwrap();
    assert_eq!(count::<S>(&other, "t").await, 4, "a publisher that is dropped has committed nothing");
}
