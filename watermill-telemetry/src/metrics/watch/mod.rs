//! [`Watch`]: figures that are read from what routers, relays and subscriptions say of themselves.

mod gauges;
#[cfg(feature = "forwarder")]
mod outbox;
#[cfg(feature = "forwarder")]
mod relay;
mod router;
mod subscription;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use self::{
    gauges::Gauges,
    subscription::{Known, Whose},
};
use super::{
    list::Metric,
    shared::{NO_HANDLER, Shared},
};
use crate::watched::{Part, Watched};

/// Brings figures up to date from what is watched: what [`Metrics::watch`](super::Metrics::watch) makes.
///
/// Messages pay nothing for these figures: the router counts them anyway. One watch is enough for what it watches; two would count
/// twice.
pub struct Watch {
    shared: Arc<Shared>,
    watched: Watched,
    memory: Mutex<Memory>,
}

/// What was seen in the looks before.
#[derive(Default)]
struct Memory {
    /// By part.
    parts: Vec<Seen>,
    gauges: Gauges,
}

/// What was seen of a part the last time.
#[derive(Default)]
struct Seen {
    /// Totals, by whose they are: counters are told the differences.
    totals: HashMap<String, Totals>,
    subscriptions: HashMap<Whose, Known>,
    /// Handlers that have ended although nobody asked them to, and that nobody has started again; [`REMEMBERED_MAX`] at the
    /// most.
    failed: HashSet<String>,
    /// Whether there were more, of which one has the label of all that are beyond the bound of labels.
    has_failed_beyond: bool,
    #[cfg(feature = "forwarder")]
    relay: relay::Known,
    /// How many handlers had ended.
    ended: u64,
}

/// How many handlers that have failed are remembered of a router, and how many subscriptions that have ended of a subscriber.
const REMEMBERED_MAX: usize = 1_000;

/// By metric and the values of its labels.
type Totals = HashMap<(&'static str, String), u64>;

/// A look at one part.
struct Look<'a> {
    shared: &'a Shared,
    seen: &'a mut Seen,
    gauges: &'a mut Gauges,
}

impl Watch {
    pub(super) fn new(shared: Arc<Shared>, watched: Watched) -> Self {
        let parts = watched.parts().iter().map(|_| Seen::default()).collect();
        let memory = Memory { parts, gauges: Gauges::default() };
        Self { shared, watched, memory: Mutex::new(memory) }
    }

    /// Brings the figures up to date. It asks no server; what it takes is in proportion to the number of handlers, relays and
    /// subscriptions.
    pub fn update(&self) {
        let mut memory = self.memory.lock();
        let Memory { parts, gauges } = &mut *memory;
        for (part, seen) in self.watched.parts().iter().zip(parts) {
            let mut look = Look { shared: &self.shared, seen, gauges };
            match part {
                Part::Router(control) => look.router(control),
                #[cfg(feature = "forwarder")]
                Part::Relay { name, control } => look.relay(name, &control.status()),
                Part::Subscriber { name, subscriber, .. } => {
                    let statuses = subscriber.status();
                    look.subscriptions(NO_HANDLER, name, &statuses);
                    look.subscriptions_ended(&statuses);
                }
                Part::Check { .. } => {}
            }
        }
        gauges.set(&self.shared);
    }

    /// Brings the figures up to date again and again, for recorders that push; a page does it by itself when it is asked for. It
    /// never ends. A period below a millisecond is taken for one.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn every(&self, period: Duration) {
        let mut ticks = interval(period.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.update();
        }
    }
}

impl Look<'_> {
    /// Adds to a counter what has been added to the total since the last look.
    fn total(&mut self, whose: &str, metric: &'static Metric, values: &[&str], total: u64) {
        if !self.seen.totals.contains_key(whose) {
            self.seen.totals.insert(whose.to_owned(), Totals::new());
        }
        let Some(totals) = self.seen.totals.get_mut(whose) else { return };
        let before = totals.insert((metric.name, values.join("\n")), total);
        // A total that has shrunk has begun anew.
        let grown = before.filter(|before| *before <= total).map_or(total, |before| total - before);
        if grown > 0 || before.is_none() {
            self.shared.counter(metric, values).increment(grown);
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.watched).finish()
    }
}

#[cfg(test)]
mod tests {
    use watermill_core::subscription::{Health, SubscriptionStatus};

    use super::*;
    use crate::Metrics;

    #[test]
    fn of_what_has_ended_no_more_is_remembered_than_its_bound() {
        let metrics = Metrics::builder().names_max(0).prometheus();
        let (mut seen, mut gauges) = (Seen::default(), Gauges::default());
        let mut look = Look { shared: &metrics.shared, seen: &mut seen, gauges: &mut gauges };
        let names: Vec<String> = (0..REMEMBERED_MAX + 9).map(|number| number.to_string()).collect();
        names.iter().for_each(|name| look.failed(name));
        let of_group = |name| SubscriptionStatus::new("orders", Health::Healthy).group(Some(name));
        look.subscriptions("none", "all", &names.iter().map(of_group).collect::<Vec<_>>());
        look.subscriptions_ended(&[]);
        assert_eq!((seen.failed.len(), seen.subscriptions.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
        assert!(seen.has_failed_beyond, "and yet not forgotten");
    }
}
