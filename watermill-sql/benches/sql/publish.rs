//! Publishing: calls of a hundred messages, and of one.

use tokio::time::Instant;
use watermill_core::Publisher;
use watermill_sql::{SqlPublisher, SqlPublisherConfig};
use watermill_testkit::workload;

use crate::{
    figure::Chosen,
    raw::{self, Raw},
};

pub(crate) async fn measure<R: Raw>(server: &R, chosen: &mut Chosen) {
    for (call, calls) in [(100, 100), (1, 2_000)] {
        let name = format!("{}/publish/{call}-a-call", R::NAME);
        if !chosen.has(&name) {
            continue;
        }
        let pool = server.pool(5).await;
        let topic = format!("publish_{call}");
        let publisher =
            SqlPublisher::new(pool.clone(), SqlPublisherConfig::default()).expect("a valid config");
        publisher.initialize(&topic).await.expect("the table is made");
        let messages: Vec<_> = workload::calls(calls * call, call).collect();
        let rows: Vec<_> = messages.iter().map(|call| raw::rows(call)).collect();
        let ours = async || {
            let calls = messages.clone();
            let started = Instant::now();
            for call in calls {
                publisher.publish(&topic, call).await.expect("it is accepted");
            }
            started.elapsed()
        };
        let raw = async || {
            let started = Instant::now();
            for call in &rows {
                R::insert(&pool, &topic, call).await;
            }
            started.elapsed()
        };
        chosen.compare(name, calls * call, Some(0.85), ours, raw).await;
    }
}
