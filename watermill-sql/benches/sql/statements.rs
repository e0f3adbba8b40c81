//! How many statements reading takes: counts what sqlx says that it sends.

use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::{Event, Metadata, Subscriber, span};
use watermill_testkit::{Figure, Figures, Limit};

use crate::{Options, database::Bench, subscribe};

static STATEMENTS: AtomicUsize = AtomicUsize::new(0);

/// Counts the events in which sqlx logs a statement. To be counted costs time.
struct Counter;

/// Exactly, and over enough messages for the first and last ones to weigh little.
pub(crate) async fn measure<D: Bench>(options: &Options, figures: &mut Figures) {
    const COUNT: usize = 20_000;
    let name = format!("subscribe/{}/statements", D::LABEL);
    if !options.wants(&name) {
        return;
    }
    let database = D::database();
    let pool = D::pool(&database, 4).await;
    let topic = subscribe::filled(&pool, COUNT).await;
    count_from_now_on();
    subscribe::subscribed(&pool, &topic, 100, COUNT, true)().await;
    let each = counted() as f64 / COUNT as f64;
    figures.push(Figure::new(name, each, "statements per message").limit(Limit::AtMost(0.05)));
    pool.close().await;
}

/// Begins to count, in the whole process and for good.
fn count_from_now_on() {
    // A second call finds the first one's.
    let _ = tracing::subscriber::set_global_default(Counter);
    STATEMENTS.store(0, Ordering::Relaxed);
}

/// How many there were.
fn counted() -> usize {
    STATEMENTS.load(Ordering::Relaxed)
}

impl Subscriber for Counter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn event(&self, _: &Event<'_>) {
        STATEMENTS.fetch_add(1, Ordering::Relaxed);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}
