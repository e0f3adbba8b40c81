//! Recurring schedules: messages that a database publishes again and again, once for all processes.

mod dialect;
mod error;
mod pauses;
mod plan;
mod plugin;
mod schedule;
mod sql_schedules;

pub(crate) use dialect::ScheduleDialect;
pub(crate) use dialect::StoredSchedule;
pub use error::{ScheduleError, ScheduleErrorKind};
pub use schedule::{Firing, Missed, Schedule};
pub use sql_schedules::{FiredReport, SqlSchedules};
