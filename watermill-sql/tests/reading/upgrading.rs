//! Releases side by side, and tables of earlier ones.

use super::*;

/// The columns that the first release did not know.
const ADDED: [&str; 6] = ["version", "told_token", "lease_ms", "connection", "read_offset", "read_row"];

/// Makes the table of leases what it was in the first release.
async fn as_of_the_first_release<S: Server>(pool: &Pool<S::Database>) {
    reader::<S>(pool, SqlSubscriberConfig::default()).initialize("t").await.unwrap();
    for column in ADDED.iter().filter(|column| S::SEES_CONNECTIONS || **column != "connection") {
        S::execute(pool, &format!("alter table _watermill_leases drop column {column}")).await;
    }
}

fn quick() -> SqlSubscriberConfig {
    SqlSubscriberConfig::default().lease(Duration::from_millis(900))
}

pub(crate) async fn a_table_of_the_first_release_is_brought_up_to_date<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", numbered(0..2)).await.unwrap();
    as_of_the_first_release::<S>(&pool).await;
    // Many begin at once when a service is updated.
    let readers: Vec<_> = (0..4).map(|n| reader::<S>(&pool, quick().group(format!("g{n}")))).collect();
    let subscribed = readers.iter().map(|reader| reader.subscribe("t"));
    for subscription in futures::future::join_all(subscribed).await {
        assert_eq!(read(&mut subscription.unwrap(), 2).await, ["0", "1"]);
    }
}

pub(crate) async fn without_the_right_to_alter_a_table_of_the_first_release_is_refused_with_the_statement<
    S: Server,
>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", numbered(0..1)).await.unwrap();
    as_of_the_first_release::<S>(&pool).await;
    let careful = reader::<S>(&pool, quick().initialize_schema(false));
    let error = careful.subscribe("t").await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Refused, "{error}");
    let text = error.to_string();
    let (_, statements) = text.split_once("or run: ").unwrap_or_else(|| panic!("{text}"));
    S::execute(&pool, statements).await;
    assert_eq!(read(&mut careful.subscribe("t").await.unwrap(), 1).await, ["0"]);
}

/// As the first release has it: it names the columns that it knows.
fn claimed_by_the_first_release(token: i64, expires_at_ms: i64) -> String {
    format!(
        "update _watermill_leases set owner = 'first', token = {token}, expires_at_ms = {expires_at_ms}
         where topic = 't'"
    )
}

pub(crate) async fn a_lease_that_the_first_release_has_is_its_own_until_it_ends<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", numbered(0..2)).await.unwrap();
    // Ours has it first, over a connection that ends, and asks for a long time.
    let mine = server.connect().await;
    let long = SqlSubscriberConfig::default().lease(Duration::from_secs(1_000));
    let mut subscription = reader::<S>(&mine, long).subscribe("t").await.unwrap();
    read(&mut subscription, 1).await;
    let token = S::number(&pool, "select token from _watermill_leases where topic = 't'").await + 1;
    let now_ms = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let until = i64::try_from(now_ms).unwrap() + 1_000;
    S::execute(&pool, &claimed_by_the_first_release(token, until)).await;
    drop(subscription);
    mine.close().await;
    let mut standby = reader::<S>(&pool, quick()).subscribe("t").await.unwrap();
    let delivery = next(&mut standby).await;
    let now_ms = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    assert!(i64::try_from(now_ms).unwrap() >= until, "it was taken from a release that does not tell");
    assert_eq!(payload(&delivery), "1");
}

/// A service while it is updated: one of its processes is of the first release, and they hand the group to and fro.
pub(crate) async fn two_releases_side_by_side_hand_a_group_to_and_fro<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", numbered(0..7)).await.unwrap();
    as_of_the_first_release::<S>(&pool).await;
    // Nothing here waits for the end of a lease.
    let ours = reader::<S>(&pool, SqlSubscriberConfig::default().lease(Duration::from_secs(60)));
    for begin in [0, 3] {
        // This release reads two of them, the second one first.
        let mut subscription = ours.subscribe("t").await.unwrap();
        subscription.set_window(watermill_core::Window::unordered(2.try_into().unwrap()));
        let first = next(&mut subscription).await;
        let second = next(&mut subscription).await;
        assert_eq!((payload(&first), payload(&second)), (&*begin.to_string(), &*(begin + 1).to_string()));
        second.ack_confirmed().await.unwrap();
        first.ack_confirmed().await.unwrap();
        subscription.close().await.unwrap();

        // The first release finds the lease free, keeps this one out, reads one, and gives it back.
        let free = "select count(*) from _watermill_leases where topic = 't' and owner is null";
        assert_eq!(S::number(&pool, free).await, 1);
        let token = S::number(&pool, "select token from _watermill_leases where topic = 't'").await + 1;
        let now_ms = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
        let until = i64::try_from(now_ms).unwrap() + 60_000;
        S::execute(&pool, &claimed_by_the_first_release(token, until)).await;
        let standby = ours.subscribe("t").await.unwrap();
        assert!(matches!(standby.status().health, watermill_core::subscription::Health::Degraded { .. }));
        drop(standby);
        let done = begin + 3;
        S::execute(
            &pool,
            &format!(
                "update watermill_offsets_t set offset_acked = {done};
                 update _watermill_leases set owner = null, expires_at_ms = 0 where topic = 't' and token = {token}"
            ),
        )
        .await;
    }
    let mut subscription = ours.subscribe("t").await.unwrap();
    assert_eq!(read(&mut subscription, 1).await, ["6"]);
}

pub(crate) async fn a_table_of_the_next_release_is_read_and_one_after_that_is_not<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    publisher::<S>(&pool).publish("t", numbered(0..2)).await.unwrap();
    reader::<S>(&pool, quick()).subscribe("t").await.unwrap().close().await.unwrap();
    S::execute(&pool, "alter table _watermill_leases add column of_the_next_release integer").await;
    S::execute(&pool, "update _watermill_leases set version = 3, of_the_next_release = 7").await;
    let mut subscription = reader::<S>(&pool, quick()).subscribe("t").await.unwrap();
    read(&mut subscription, 1).await;
    subscription.close().await.unwrap();
    let kept = "select count(*) from _watermill_leases where version = 2 and of_the_next_release = 7";
    assert_eq!(S::number(&pool, kept).await, 1, "what it does not know it leaves alone");
    S::execute(&pool, "update _watermill_leases set version = 4").await;
    let mut subscription = reader::<S>(&pool, quick()).subscribe("t").await.unwrap();
    let error = event(&mut subscription).await.unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("update this service"), "{error}");
}
