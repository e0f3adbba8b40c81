//! [`Report`], what a router did, and [`RunError`], why it did not end well.

use std::{collections::BTreeMap, error::Error, fmt};

use super::{Counts, HandlerInfo};
use crate::error::BoxError;

/// What every handler of a router did until it ended, in the order in which they ended.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// The handlers that ended last, [`Report::MAX`] at the most.
    pub handlers: Vec<HandlerReport>,
    /// Those that ended before them, of which only sums are kept.
    pub forgotten: Forgotten,
}

/// Sums over handlers that ended too long ago to be reported one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Forgotten {
    /// How many there were.
    pub handlers: u64,
    /// How many of them did not end as they were asked to.
    pub failed: u64,
    /// What happened to their messages.
    pub counts: Counts,
}

/// What one handler did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HandlerReport {
    /// Its names.
    pub info: HandlerInfo,
    /// What happened to its messages.
    pub counts: Counts,
    /// The dead-lettered ones by why, as in [`HandlerStatus`](super::HandlerStatus).
    pub dead_letter_reasons: BTreeMap<&'static str, u64>,
    /// How often it was started again.
    pub restarts: u64,
    /// How it ended.
    pub ended: Ended,
}

/// How a handler ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// It was asked to, and settled everything it had taken.
    Stopped,
    /// It ended and was not started again, or its settlements could not be recorded.
    Failed {
        /// Why.
        error: String,
    },
    /// The drain deadline passed, or the router was aborted: what it had in hand is delivered again.
    Abandoned,
}

/// A router could not start, or did not end well.
#[derive(Debug)]
pub struct RunError {
    kind: RunErrorKind,
    detail: String,
    source: Option<BoxError>,
    report: Box<Report>,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunErrorKind {
    /// The router was put together wrongly; nothing was started. The text lists every problem.
    Build,
    /// A handler could not subscribe. Those that had started were stopped again, without having
    /// handled anything.
    Start,
    /// A plugin refused to start. Nothing was started.
    Plugin,
    /// Handlers failed for good. Their messages are delivered again when they run again.
    HandlersFailed,
    /// Something was not over at the drain deadline or when the router was aborted: handlers, the closing of
    /// subscriptions and publishers, plugins. The text names all of it. Messages in hand are delivered again.
    Abandoned,
    /// The router is not running (any more).
    NotRunning,
}

impl Report {
    /// How many handlers are reported one by one: 1,000.
    pub const MAX: usize = 1_000;

    /// The report of the handler of this name; of the last one, where there were several.
    pub fn handler(&self, name: &str) -> Option<&HandlerReport> {
        self.handlers.iter().rev().find(|handler| handler.info.name == name)
    }

    /// How many handlers have ended, the forgotten ones included.
    pub fn ended(&self) -> u64 {
        self.forgotten.handlers + self.handlers.len() as u64
    }

    /// Adds a handler, and forgets the first where there are too many.
    pub(super) fn push(&mut self, handler: HandlerReport) {
        if self.handlers.len() == Self::MAX {
            self.forgotten.add(&self.handlers.remove(0));
        }
        self.handlers.push(handler);
    }

    /// Whether a handler did not end as it was asked to.
    pub(super) fn has_failed(&self) -> bool {
        self.forgotten.failed > 0 || self.failed().next().is_some()
    }

    /// Those that did not end as they were asked to.
    fn failed(&self) -> impl Iterator<Item = &HandlerReport> {
        self.handlers.iter().filter(|handler| handler.ended != Ended::Stopped)
    }
}

impl RunError {
    pub(super) fn new(kind: RunErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), source: None, report: Box::default() }
    }

    pub(super) fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The router has ended, or does not take anything on any more.
    pub(super) fn not_running() -> Self {
        Self::new(RunErrorKind::NotRunning, "the router has ended or is stopping")
    }

    /// An error if any handler of the report ended badly, or something was abandoned.
    pub(super) fn check(report: Report, abandoned: Vec<String>) -> Result<Report, Self> {
        let failed = report.failed().filter_map(|handler| match &handler.ended {
            Ended::Failed { error } => Some(format!("{}: {error}", handler.info.name)),
            Ended::Stopped | Ended::Abandoned => None,
        });
        let forgotten = report.forgotten.failed;
        let forgotten = (forgotten > 0).then(|| format!("{forgotten} handlers that ended long ago"));
        let mut problems: Vec<_> = failed.chain(forgotten).collect();
        let kind = match (problems.is_empty(), abandoned.is_empty()) {
            (false, _) => RunErrorKind::HandlersFailed,
            (true, false) => RunErrorKind::Abandoned,
            (true, true) => return Ok(report),
        };
        problems.extend(abandoned);
        Err(Self::new(kind, problems.join("; ")).with_report(report))
    }

    /// Adds what the handlers did before.
    pub(super) fn with_report(self, report: Report) -> Self {
        Self { report: Box::new(report), ..self }
    }

    /// Adds what else went wrong.
    pub(super) fn and(mut self, more: &[String]) -> Self {
        for problem in more {
            self.detail = format!("{}; {problem}", self.detail);
        }
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> RunErrorKind {
        self.kind
    }

    /// What the handlers did before.
    pub fn report(&self) -> &Report {
        &self.report
    }
}

impl Forgotten {
    fn add(&mut self, handler: &HandlerReport) {
        self.handlers += 1;
        self.failed += u64::from(handler.ended != Ended::Stopped);
        self.counts.add(&handler.counts);
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            RunErrorKind::Build => "build the router",
            RunErrorKind::Start => "start the router",
            RunErrorKind::Plugin => "start a plugin of the router",
            RunErrorKind::HandlersFailed => "keep the handlers running",
            RunErrorKind::Abandoned => "drain the router in time",
            RunErrorKind::NotRunning => "reach the router",
        })?;
        write!(f, ": {}", self.detail)
    }
}

impl Error for RunError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl fmt::Display for HandlerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.info, self.counts)?;
        if self.restarts > 0 {
            write!(f, ", restarted {} times", self.restarts)?;
        }
        match &self.ended {
            Ended::Stopped => Ok(()),
            Ended::Failed { error } => write!(f, ", failed: {error}"),
            Ended::Abandoned => f.write_str(", abandoned"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.handlers.iter();
        if self.forgotten.handlers > 0 {
            write!(f, "{} handlers before ({})", self.forgotten.handlers, self.forgotten.counts)?;
        } else if let Some(first) = lines.next() {
            first.fmt(f)?;
        }
        lines.try_for_each(|handler| write!(f, "\n{handler}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handler(number: usize, ended: Ended) -> HandlerReport {
        let counts = Counts { acked: 2, ..Counts::default() };
        HandlerReport {
            info: HandlerInfo::consumer(number.to_string(), "memory", "in"),
            counts,
            dead_letter_reasons: BTreeMap::new(),
            restarts: 0,
            ended,
        }
    }

    #[test]
    fn a_report_keeps_the_last_thousand_handlers_and_sums_of_those_before() {
        let mut report = Report::default();
        report.push(handler(0, Ended::Failed { error: "it broke".to_owned() }));
        (1..=Report::MAX + 1).for_each(|number| report.push(handler(number, Ended::Stopped)));
        assert_eq!(report.handlers.len(), Report::MAX);
        assert!(report.handler("1").is_none() && report.handler("2").is_some());
        let Forgotten { handlers, failed, counts } = report.forgotten;
        assert_eq!((handlers, failed, counts.acked), (2, 1, 4));
        let error = RunError::check(report, Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "keep the handlers running: 1 handlers that ended long ago");
    }
}
