//! Faults and kills, from seeds: every message once, and in order.

use std::{future::pending, time::Duration};

use tokio::time::{sleep, timeout};

use crate::destination::{Destination, relay, source};

const MESSAGES: usize = 300;
const TOPICS: [&str; 3] = ["a", "b", "c"];

#[tokio::test(start_paused = true)]
async fn faults_and_kills_publish_nothing_twice_lose_nothing_and_keep_the_order_of_each_key() {
    for seed in 0..30 {
        let source = source(&TOPICS, MESSAGES).await;
        let destination = Destination::default();
        let mut random = fastrand::Rng::with_seed(seed);
        {
            let mut state = destination.state();
            state.chance = 0.15;
            state.random = Some(random.fork());
        }
        let mut lives = 0;
        while destination.state().published.len() < MESSAGES {
            lives += 1;
            assert!(lives < 1000, "seed {seed}: it does not get on");
            let life = Duration::from_millis(random.u64(1..80));
            let running = relay(&source, &destination, 16).run_until(pending());
            // As a crash does it: the future is dropped wherever it is.
            let _ = timeout(life, running).await;
        }
        let by_key = destination.by_key();
        assert_eq!(by_key.values().map(Vec::len).sum::<usize>(), MESSAGES, "seed {seed}");
        assert_eq!(by_key.len(), 3 * 7, "seed {seed}");
        for (key, ids) in by_key {
            assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "seed {seed}, {key:?}: {ids:?}");
        }

        destination.state().chance = 0.0;
        let report = relay(&source, &destination, 16).run_until(sleep(Duration::from_secs(60))).await;
        assert_eq!(report.expect("a graceful stop").forwarded, 0, "seed {seed}: all were published");
        let report = relay(&source, &destination, 16).run_until(sleep(Duration::from_secs(60))).await;
        assert_eq!(report.expect("a graceful stop").repeated, 0, "seed {seed}: all were acked");
        assert_eq!(destination.state().published.len(), MESSAGES, "seed {seed}");
    }
}
