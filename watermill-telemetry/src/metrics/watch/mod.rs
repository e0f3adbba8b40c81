//! [`Watch`]: figures that are read from what routers, relays and subscriptions say of themselves.

#[cfg(feature = "forwarder")]
mod relay;
mod router;
mod subscription;

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use self::subscription::Known;
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
    seen: Mutex<Vec<Seen>>,
}

/// What was seen of a part the last time.
#[derive(Default)]
struct Seen {
    /// Totals, by whose they are: counters are told the differences.
    totals: HashMap<String, Totals>,
    /// Subscriptions, by their labels.
    subscriptions: HashMap<String, Known>,
    /// Destinations of a relay, by their labels.
    #[cfg(feature = "forwarder")]
    held: std::collections::HashSet<metrics::SharedString>,
    /// How many handlers had ended.
    ended: u64,
}

/// By metric and the values of its labels.
type Totals = HashMap<(&'static str, String), u64>;

/// A look at one part.
struct Look<'a> {
    shared: &'a Shared,
    seen: &'a mut Seen,
}

impl Watch {
    pub(super) fn new(shared: Arc<Shared>, watched: Watched) -> Self {
        let seen = watched.parts().iter().map(|_| Seen::default()).collect();
        Self { shared, watched, seen: Mutex::new(seen) }
    }

    /// Brings the figures up to date. It asks no server; what it takes is in proportion to the number of handlers, relays and
    /// subscriptions.
    pub fn update(&self) {
        let mut seen = self.seen.lock();
        for (part, seen) in self.watched.parts().iter().zip(&mut *seen) {
            let mut look = Look { shared: &self.shared, seen };
            match part {
                Part::Router(control) => look.router(control),
                #[cfg(feature = "forwarder")]
                Part::Relay { name, control } => look.relay(name, &control.status()),
                Part::Subscriber { name, subscriber } => {
                    subscriber.status().iter().for_each(|status| look.subscription(NO_HANDLER, name, status));
                }
                Part::Check { .. } => {}
            }
        }
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
