//! Connections as this crate uses them: lent by the user's pool, with nobody else's transaction open, given back
//! in order or closed, and never waited on without an end.

mod checked;
mod dialect;
mod limit;
mod pooled;
mod reserve;
mod spares;

pub(crate) use self::{
    checked::Checked,
    dialect::{ConnectionDialect, begin},
    limit::{PREPARE_MAX, within},
    pooled::{FORGOTTEN, IDLE_MAX, Pooled},
    reserve::{Lent, Reserve},
    spares::Spares,
};
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) use limit::LOCK_SECS_MAX;
