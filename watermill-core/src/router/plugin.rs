//! [`Plugin`]: code that takes part in a router's life.

use async_trait::async_trait;

use super::{HandlerInfo, Report, RouterControl};
use crate::error::BoxError;

/// Hooks into the life of a router: what a health page, a metrics exporter or a signal handler is.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// Called before the first handler subscribes, in the order in which plugins were added.
    ///
    /// # Errors
    ///
    /// An error keeps the router from starting.
    async fn on_start(&self, control: &RouterControl) -> Result<(), BoxError> {
        let _ = control;
        Ok(())
    }

    /// Called when a handler has failed for good while the router runs.
    fn on_handler_failed(&self, handler: &HandlerInfo, error: &str) {
        let _ = (handler, error);
    }

    /// Called when every handler has ended, before the router returns.
    async fn on_stop(&self, report: &Report) {
        let _ = report;
    }
}
