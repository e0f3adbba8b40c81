//! The figures of a router's handlers.

use std::collections::{BTreeMap, HashSet};

use watermill_core::{
    HandlerInfo,
    router::{Counts, Ended, HandlerReport, RouterControl},
};

use super::{Look, REMEMBERED_MAX, gauges::Fold};
use crate::metrics::{
    list::{
        DEAD_LETTERED, DROPPED, HANDLER_FAILED, HANDLER_PANICS, HANDLER_RESTARTS, HANDLER_UP, IN_FLIGHT,
        LOST, RECEIVED, REDELIVERED, RETRIED,
    },
    words::OTHER,
};

/// The words of a router for why messages were dead-lettered.
const REASONS: [&str; 4] = ["panic", "permanent", "publish", "error"];

impl Look<'_> {
    pub(super) fn router(&mut self, control: &RouterControl) {
        let (running, report) = (control.handlers(), control.report());
        let new = report.ended().saturating_sub(self.seen.ended);
        self.seen.ended = report.ended();
        let first_new = report.handlers.len().saturating_sub(usize::try_from(new).unwrap_or(usize::MAX));
        let ended = &report.handlers[first_new..];
        ended.iter().for_each(|ended| self.ended(ended));
        // What has ended since it was asked how it does has been counted to its end. Where there is another of its
        // name by now, that one is looked at the next time.
        let counted: HashSet<&str> = ended.iter().map(|ended| &*ended.info.name).collect();
        for status in running.iter().filter(|status| !counted.contains(&*status.info.name)) {
            let name = &status.info.name;
            self.counts(&status.info, &status.counts, &status.dead_letter_reasons, status.restarts);
            self.seen.failed.remove(name);
            self.up(name, true, false);
            self.in_flight(name, status.counts.in_flight);
            let subscription = std::slice::from_ref(&status.subscription);
            self.subscriptions(name, &status.info.subscriber, subscription);
        }
        // Said again in each look: another handler may have the same label, and not have failed.
        for name in std::mem::take(&mut self.seen.failed) {
            self.up(&name, false, true);
            self.seen.failed.insert(name);
        }
        if self.seen.has_failed_beyond {
            self.gauges.say(HANDLER_FAILED, &[OTHER], Fold::Max, 1.0);
        }
    }

    fn ended(&mut self, report: &HandlerReport) {
        let HandlerReport { info, ended, .. } = report;
        let has_failed = matches!(ended, Ended::Failed { .. });
        self.counts(info, &report.counts, &report.dead_letter_reasons, report.restarts);
        if has_failed {
            self.failed(&info.name);
        } else {
            self.seen.failed.remove(&info.name);
            self.up(&info.name, false, false);
        }
        self.in_flight(&info.name, 0);
        self.handlers_subscription_ended(info, has_failed);
        // Another of the same name begins at zero.
        self.seen.totals.remove(&info.name);
    }

    /// Beyond the bound one with a label of its own is said to have failed once, which stays so until it is said to run.
    pub(super) fn failed(&mut self, handler: &str) {
        if self.seen.failed.len() < REMEMBERED_MAX {
            self.seen.failed.insert(handler.to_owned());
        } else if !self.seen.failed.contains(handler) {
            self.up(handler, false, true);
            self.seen.has_failed_beyond |= &*self.shared.name(handler) == OTHER;
        }
    }

    fn up(&mut self, handler: &str, is_up: bool, has_failed: bool) {
        let handler = self.shared.name(handler);
        self.gauges.say(HANDLER_UP, &[&*handler], Fold::Max, f64::from(is_up));
        self.gauges.say(HANDLER_FAILED, &[&*handler], Fold::Max, f64::from(has_failed));
    }

    fn in_flight(&mut self, handler: &str, messages: u64) {
        let handler = self.shared.name(handler);
        self.gauges.say(IN_FLIGHT, &[&*handler], Fold::Sum, messages as f64);
    }

    fn counts(
        &mut self,
        info: &HandlerInfo,
        counts: &Counts,
        reasons: &BTreeMap<&'static str, u64>,
        restarts: u64,
    ) {
        let whose = &*info.name;
        let (handler, subscriber) = (self.shared.name(whose), self.shared.name(&info.subscriber));
        let acked = counts.acked + counts.dead_lettered + counts.postponed + counts.dropped;
        let nacked = counts.nacked + counts.rejected + counts.lost;
        self.total(whose, RECEIVED, &[&*handler, &*subscriber, "acked"], acked);
        self.total(whose, RECEIVED, &[&*handler, &*subscriber, "nacked"], nacked);
        for (metric, total) in [
            (HANDLER_RESTARTS, restarts),
            (HANDLER_PANICS, counts.panicked),
            (REDELIVERED, counts.redelivered),
            (RETRIED, counts.retried),
            (DROPPED, counts.dropped),
            (LOST, counts.lost),
        ] {
            self.total(whose, metric, &[&*handler], total);
        }
        // From the beginning: of a counter that begins with its first letter, an increase cannot be told.
        for reason in REASONS {
            let total = reasons.get(reason).copied().unwrap_or(0);
            self.total(whose, DEAD_LETTERED, &[&*handler, reason], total);
        }
        self.total(whose, DEAD_LETTERED, &[&*handler, "rejected"], counts.rejected);
    }
}
