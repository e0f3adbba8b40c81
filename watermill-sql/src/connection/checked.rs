//! [`Checked`]: what lies between a pool and its server, looked at once.

use sqlx::Pool;
use tokio::sync::OnceCell;

use super::ConnectionDialect;
use crate::error::{Failure, Trouble};

/// Whether a pool's connections are what they seem, or why not, once that is known.
#[derive(Debug, Default)]
pub(crate) struct Checked(OnceCell<Result<(), String>>);

impl Checked {
    /// Refuses a pool over which statements may become others.
    pub(crate) async fn pool<D: ConnectionDialect>(&self, pool: &Pool<D>) -> Result<(), Failure> {
        let found = match self.0.get() {
            Some(found) => found,
            None => self.0.get_or_try_init(|| D::check_pool(pool)).await?,
        };
        found.clone().map_err(|why| Failure::because(Trouble::Refused, why))
    }
}
