//! [`Chosen`]: the figures that were asked for, and how one is taken.

use std::time::Duration;

use watermill_testkit::{Figure, Figures, Limit, workload};

/// Rounds of each side; the first warms up and does not count.
const ROUNDS: usize = 6;

pub(crate) struct Chosen {
    pub(crate) figures: Figures,
    filter: Option<String>,
}

impl Chosen {
    pub(crate) fn new(figures: Figures) -> Self {
        let filter =
            std::env::args().skip(1).find(|argument| !argument.starts_with("--") && argument != "sql");
        Self { figures, filter }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.filter.as_deref().is_none_or(|filter| name.contains(filter))
    }

    /// Messages per second, ours over the raw client's. Each closure does its work once and says how long
    /// it took.
    pub(crate) async fn compare(
        &mut self,
        name: String,
        messages: usize,
        limit: Option<f64>,
        mut ours: impl AsyncFnMut() -> Duration,
        mut raw: impl AsyncFnMut() -> Duration,
    ) {
        if !self.has(&name) {
            return;
        }
        let (mut our_times, mut raw_times) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let (theirs, our) = (raw().await, ours().await);
            if round > 0 {
                raw_times.push(theirs);
                our_times.push(our);
            }
        }
        let rate = |times| workload::per_second(messages, middle(times));
        let figure = Figure::new(name, rate(our_times), "msg/s").baseline(rate(raw_times));
        self.push(match limit {
            Some(limit) => figure.limit(Limit::AtLeast(limit)),
            None => figure,
        });
    }

    pub(crate) fn push(&mut self, figure: Figure) {
        self.figures.push(figure);
    }
}

pub(crate) fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The size of the large backlog.
pub(crate) fn large() -> usize {
    std::env::var("WATERMILL_BENCH_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(1_000_000)
}
