//! Rows that are no messages.

use super::*;

const BROKEN: &str = r#"insert into watermill_t (uuid, payload, metadata) values ('broken', '9', '{"a":1}')"#;

pub(crate) async fn a_row_that_cannot_be_read_is_reported_and_held_until_it_is_mended<S: Server>() {
    let mended = "update watermill_t set metadata = '{}' where uuid = 'broken'";
    held_until::<S>(mended, &["0", "9", "1"]).await;
}

pub(crate) async fn a_row_that_cannot_be_read_is_held_until_it_is_deleted<S: Server>() {
    held_until::<S>("delete from watermill_t where uuid = 'broken'", &["0", "1"]).await;
}

/// What comes before the row is delivered, what comes after it waits, and every look is reported.
async fn held_until<S: Server>(mended: &str, expected: &[&str]) {
    for (n, config) in S::ways().into_iter().enumerate() {
        let server = S::default();
        let pool = server.connect().await;
        publisher::<S>(&pool).publish("t", numbered(0..1)).await.unwrap();
        S::execute(&pool, BROKEN).await;
        publisher::<S>(&pool).publish("t", numbered(1..2)).await.unwrap();
        let config = config.retry(Backoff::constant(Duration::from_millis(20)));
        let mut subscription = reader::<S>(&pool, config).subscribe("t").await.unwrap();
        let (mut seen, mut errors) = (Vec::new(), 0);
        while seen.len() < expected.len() {
            match event(&mut subscription).await {
                Ok(delivery) => {
                    seen.push(payload(&delivery).to_owned());
                    delivery.ack();
                }
                Err(error) => {
                    assert_eq!(error.kind(), SubscribeErrorKind::Undecodable, "way {n}");
                    assert!(error.to_string().contains("offset 2"), "way {n}: {error}");
                    errors += 1;
                    if errors == 3 {
                        assert_eq!(seen, ["0"], "way {n}");
                        S::execute(&pool, mended).await;
                    }
                }
            }
        }
        assert_eq!(seen, expected, "way {n}");
    }
}
