//! [`SqlPublisherConfig`]: plain data, checked as a whole.

use std::time::Duration;

use watermill_core::error::ConfigError;

use crate::{Layout, PayloadColumn};

/// How an [`SqlPublisher`](crate::SqlPublisher) publishes.
#[derive(Clone, Debug, PartialEq)]
pub struct SqlPublisherConfig {
    pub(crate) layout: Layout,
    pub(crate) initialize_schema: bool,
    /// `None` until the database is known, whose default it is then.
    pub(crate) payload_column: Option<PayloadColumn>,
    pub(crate) timeout: Duration,
    pub(crate) schema_qualified: bool,
}

impl SqlPublisherConfig {
    /// Sets what the topic's table is. Default: [`Layout::Log`].
    #[must_use]
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Whether a missing table is created by the first publish to its topic. Default: true. Turned
    /// off, publishing to a missing table fails and nothing is created.
    #[must_use]
    pub fn initialize_schema(mut self, initialize_schema: bool) -> Self {
        self.initialize_schema = initialize_schema;
        self
    }

    /// Sets what the payload column holds, and of which type a missing table's is made. Default: what
    /// Go's library makes, JSON on PostgreSQL and MySQL, bytes on SQLite.
    #[must_use]
    pub fn payload_column(mut self, payload_column: PayloadColumn) -> Self {
        self.payload_column = Some(payload_column);
        self
    }

    /// Sets how long the database may take for a call. Default: 30 s. A call over a pool that takes longer fails, and
    /// its connection is closed: it may be half open, or wait for a lock. Over a connection of the caller's, that
    /// is left as it is, and had better be closed, too. The messages may arrive nevertheless, all of them or none.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether a topic may name the schema of its tables, on PostgreSQL: `billing.orders`, or `[billing].orders` for one
    /// with dots in its name, is then in the table `watermill_orders` of the schema `billing`, which is made with it.
    /// Default: false, and a dot is a part of the table's name.
    #[must_use]
    pub fn schema_qualified(mut self, schema_qualified: bool) -> Self {
        self.schema_qualified = schema_qualified;
        self
    }

    /// How to publish to a table that a subscriber makes.
    pub(crate) fn for_table(layout: Layout, payload_column: Option<PayloadColumn>) -> Self {
        Self { layout, payload_column, ..Self::default() }
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with every problem there is.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let no_time = self.timeout.is_zero().then(|| "timeout: zero would publish nothing".to_owned());
        ConfigError::check("configure the SQL publisher").with(no_time).finish()
    }
}

impl Default for SqlPublisherConfig {
    fn default() -> Self {
        Self {
            layout: Layout::Log,
            initialize_schema: true,
            payload_column: None,
            timeout: Duration::from_secs(30),
            schema_qualified: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(SqlPublisherConfig::default().validate(), Ok(()));
    }
}
