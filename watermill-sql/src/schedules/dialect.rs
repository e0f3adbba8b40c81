//! [`ScheduleDialect`]: what differs between databases about schedules.

use async_trait::async_trait;

use crate::publisher::InsertDialect;

/// The statements of one database for its table of schedules. Times are in milliseconds since the Unix epoch, by the
/// database's clock.
#[async_trait]
pub trait ScheduleDialect: InsertDialect {
    /// Creates the table unless it exists.
    async fn create_schedules(connection: &mut Self::Connection) -> sqlx::Result<()>;

    /// What time it is.
    async fn now_ms(connection: &mut Self::Connection) -> sqlx::Result<i64>;

    /// Every schedule of the database.
    async fn schedules(connection: &mut Self::Connection) -> sqlx::Result<Vec<StoredSchedule>>;

    /// Adds a schedule unless there is one of this name.
    async fn add_schedule(connection: &mut Self::Connection, schedule: &StoredSchedule) -> sqlx::Result<()>;

    /// Gives the schedule of this name another plan, and so another time, unless it has this plan.
    async fn change_schedule(
        connection: &mut Self::Connection,
        schedule: &StoredSchedule,
    ) -> sqlx::Result<()>;

    /// Sets the next time of a schedule, if it is as it was read: false when somebody else has fired it, or has changed
    /// its plan.
    async fn advance_schedule(
        connection: &mut Self::Connection,
        schedule: &StoredSchedule,
        next_ms: i64,
    ) -> sqlx::Result<bool>;

    /// Removes a schedule; false when there was none.
    async fn remove_schedule(connection: &mut Self::Connection, name: &str) -> sqlx::Result<bool>;
}

/// The row of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSchedule {
    pub(crate) name: String,
    /// In words, to tell it from another.
    pub(crate) plan: String,
    /// When it fires next.
    pub(crate) next_ms: i64,
}
