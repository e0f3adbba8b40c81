//! [`Report`], what a router did, and [`RunError`], why it did not end well.

use std::{error::Error, fmt};

use super::{Counts, HandlerInfo};
use crate::error::{BoxError, chain};

/// What every handler of a router did until it ended, in the order in which they ended.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// The handlers.
    pub handlers: Vec<HandlerReport>,
}

/// What one handler did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HandlerReport {
    /// Its names.
    pub info: HandlerInfo,
    /// What happened to its messages.
    pub counts: Counts,
    /// How it ended.
    pub ended: Ended,
}

/// How a handler ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// It was asked to, and settled everything it had taken.
    Stopped,
    /// Its subscription or service failed for good, or its settlements could not be recorded.
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
    /// Messages were still being handled at the drain deadline or when the router was aborted. They
    /// are delivered again.
    Abandoned,
    /// The router is not running (any more).
    NotRunning,
}

impl Report {
    /// The report of the handler of this name.
    pub fn handler(&self, name: &str) -> Option<&HandlerReport> {
        self.handlers.iter().find(|handler| handler.info.name == name)
    }

    /// Those that did not end as they were asked to.
    pub(super) fn failed(&self) -> impl Iterator<Item = &HandlerReport> {
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

    /// An error if any handler of the report ended badly.
    pub(super) fn check(report: Report) -> Result<Report, Self> {
        let names = |ended: fn(&Ended) -> bool| {
            let names = report.failed().filter(|handler| ended(&handler.ended));
            names.map(describe).collect::<Vec<_>>().join("; ")
        };
        let failed = names(|ended| matches!(ended, Ended::Failed { .. }));
        let abandoned = names(|ended| matches!(ended, Ended::Abandoned));
        let error = if !failed.is_empty() {
            Self::new(RunErrorKind::HandlersFailed, failed)
        } else if !abandoned.is_empty() {
            Self::new(RunErrorKind::Abandoned, abandoned)
        } else {
            return Ok(report);
        };
        Err(Self { report: Box::new(report), ..error })
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

fn describe(handler: &HandlerReport) -> String {
    match &handler.ended {
        Ended::Failed { error } => format!("{}: {error}", handler.info.name),
        _ => format!("{}: {}", handler.info.name, handler.counts),
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
        match &self.ended {
            Ended::Stopped => Ok(()),
            Ended::Failed { error } => write!(f, ", failed: {error}"),
            Ended::Abandoned => f.write_str(", abandoned"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, handler) in self.handlers.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            handler.fmt(f)?;
        }
        Ok(())
    }
}

/// An error as the text of [`Ended::Failed`].
pub(super) fn failed(error: &(dyn Error + 'static)) -> Ended {
    Ended::Failed { error: chain(error) }
}
