//! [`ScheduleError`]: why a schedule has not fired.

use std::{any::Any, error::Error, fmt};

use watermill_core::error::{BoxError, PublishError};

use crate::error::{Failure, Trouble};

/// A look at the schedules that ended early. What is due stays due, and fires at a later look.
#[derive(Debug)]
pub struct ScheduleError {
    kind: ScheduleErrorKind,
    schedule: Option<String>,
    detail: Option<String>,
    source: Option<BoxError>,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScheduleErrorKind {
    /// The database could not be reached, or was busy: try again.
    Unavailable,
    /// The message could not be made or published: the function that makes it panicked, its topic makes no table name, or its
    /// payload is not what the column holds.
    Publish,
    /// The pool was closed.
    Closed,
    /// The database refused, for want of permission for instance, or the table of schedules is not there.
    Refused,
}

impl ScheduleError {
    pub(super) fn new(failure: Failure) -> Self {
        let kind = match failure.trouble() {
            Trouble::Closed => ScheduleErrorKind::Closed,
            trouble if trouble.is_passing() => ScheduleErrorKind::Unavailable,
            _ => ScheduleErrorKind::Refused,
        };
        let (detail, source) = failure.into_parts();
        Self { kind, schedule: None, detail, source }
    }

    pub(super) fn publishing(error: PublishError) -> Self {
        let kind = match error.is_retryable() {
            true => ScheduleErrorKind::Unavailable,
            false => ScheduleErrorKind::Publish,
        };
        Self { kind, schedule: None, detail: None, source: Some(error.into()) }
    }

    /// The user's function that makes the message, or the publisher around ours, has panicked.
    pub(super) fn panicked(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let detail = format!("panicked: {}", text.unwrap_or("a value that is not text"));
        Self { kind: ScheduleErrorKind::Publish, schedule: None, detail: Some(detail), source: None }
    }

    pub(super) fn of(mut self, schedule: &str) -> Self {
        self.schedule = Some(schedule.to_owned());
        self
    }

    /// What is wrong.
    pub fn kind(&self) -> ScheduleErrorKind {
        self.kind
    }

    /// The schedule that was to fire, if it is one's alone.
    pub fn schedule(&self) -> Option<&str> {
        self.schedule.as_deref()
    }

    /// Whether another look may succeed without anybody having changed anything.
    pub fn is_retryable(&self) -> bool {
        self.kind == ScheduleErrorKind::Unavailable
    }
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schedule {
            Some(schedule) => write!(f, "fire schedule {schedule:?}: ")?,
            None => f.write_str("look at the schedules: ")?,
        }
        f.write_str(match self.kind {
            ScheduleErrorKind::Unavailable => "the database is unavailable",
            ScheduleErrorKind::Publish => "its message cannot be published",
            ScheduleErrorKind::Closed => "the pool is closed",
            ScheduleErrorKind::Refused => "the database refused",
        })?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl Error for ScheduleError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
