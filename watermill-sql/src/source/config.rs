//! [`SqlSource`]: what a user says of a table.

use std::fmt;

/// A table that is not one of Watermill's, and which of its columns are a message.
///
/// Given to [`SqlSubscriberConfig::source`](crate::SqlSubscriberConfig::source) it is read as a log, in the order in
/// which its transactions commit: that takes a column that the database counts up by itself. Given to
/// [`SqlQueueSubscriberConfig::source`](crate::SqlQueueSubscriberConfig::source) it is worked on as a queue, in no
/// promised order: that takes a key, a UUID for example. Nothing is added to the table; positions, leases and claims
/// are in tables of ours.
///
/// ```
/// use watermill_sql::{AfterAck, SqlSource, SqlSubscriberConfig};
///
/// let outbox = SqlSource::table("outbox")
///     .id("id")
///     .offset("seq")
///     .payload("payload")
///     .key("customer")
///     .metadata("type", "event_type")
///     .metadata_json("headers")
///     .after_ack(AfterAck::Delete);
/// let config = SqlSubscriberConfig::default().source(outbox);
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SqlSource {
    pub(crate) schema: Option<String>,
    pub(crate) table: String,
    pub(crate) topic: Option<String>,
    pub(crate) id: String,
    pub(crate) offset: Option<String>,
    pub(crate) payload: String,
    pub(crate) key: Option<String>,
    /// The names of entries, and their columns.
    pub(crate) metadata: Vec<(String, String)>,
    pub(crate) metadata_json: Option<String>,
    pub(crate) order_by: Option<String>,
    pub(crate) published_at: Option<String>,
    pub(crate) after_ack: AfterAck,
}

/// What becomes of a row of a [`SqlSource`] whose message was acked, in the transaction that records the ack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AfterAck {
    /// Nothing: the table is only read. What was acked is known from our own tables.
    #[default]
    Keep,
    /// The row is deleted.
    Delete,
    /// A column that was null, or false, is set to the time, or to true, by its type: the mark of whoever has relayed
    /// the table so far. A queue leaves alone what is marked already.
    Mark {
        /// The column.
        column: String,
    },
}

impl AfterAck {
    /// [`Mark`](Self::Mark) with the name of the column.
    pub fn mark(column: impl Into<String>) -> Self {
        Self::Mark { column: column.into() }
    }
}

impl SqlSource {
    /// A table, whose messages have the columns `id` and `payload` unless said otherwise.
    ///
    /// Every name is taken as it stands in the database's catalogue, and quoted: upper case stays upper case.
    pub fn table(table: impl Into<String>) -> Self {
        Self {
            schema: None,
            table: table.into(),
            topic: None,
            id: "id".to_owned(),
            offset: None,
            payload: "payload".to_owned(),
            key: None,
            metadata: Vec::new(),
            metadata_json: None,
            order_by: None,
            published_at: None,
            after_ack: AfterAck::Keep,
        }
    }

    /// The columns that Debezium's outbox event router expects: `id`, `aggregatetype`, `aggregateid`, `type` and
    /// `payload`, in the table `outbox`. The key is `aggregateid`; `aggregatetype` and `type` are entries of the
    /// metadata under their own names.
    ///
    /// Such a table has no column that counts up, so it is a queue; add one, name it with [`offset`](Self::offset), and
    /// it is a log as well.
    ///
    /// ```
    /// use watermill_sql::{AfterAck, SqlQueueSubscriberConfig, SqlSource};
    ///
    /// let config = SqlQueueSubscriberConfig::default().source(SqlSource::debezium().after_ack(AfterAck::Delete));
    /// assert!(config.validate().is_ok());
    /// ```
    pub fn debezium() -> Self {
        Self::table("outbox")
            .key("aggregateid")
            .metadata("aggregatetype", "aggregatetype")
            .metadata("type", "type")
    }

    /// Sets the name of the table, in a preset.
    #[must_use]
    pub fn named(mut self, table: impl Into<String>) -> Self {
        self.table = table.into();
        self
    }

    /// Sets the schema of the table; on MySQL, its database. Default: that of the connection.
    #[must_use]
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// Sets the topic to subscribe to, which names our tables for this one. Default: the name of the table. It must not
    /// be one that has messages of its own.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// Sets the column of the message's id, of text, a UUID or a number. Default: `id`. A queue tells rows apart by it:
    /// there it must be unique and have an index.
    #[must_use]
    pub fn id(mut self, column: impl Into<String>) -> Self {
        self.id = column.into();
        self
    }

    /// Sets the column that gives the order of a log. It must be filled by the database with each insert: `bigserial`
    /// or an identity column on PostgreSQL, `auto_increment` on MySQL, `integer primary key autoincrement` on SQLite.
    /// What cannot be read in the order of commits is refused with the reason when one subscribes.
    ///
    /// A writer that names the number itself (one that was drawn beforehand, say) is not noticed, and its row is passed
    /// over if a later one was read before it is committed. On PostgreSQL `generated always as identity` keeps
    /// writers from it.
    #[must_use]
    pub fn offset(mut self, column: impl Into<String>) -> Self {
        self.offset = Some(column.into());
        self
    }

    /// Sets the column of the payload, of bytes, text or JSON. Default: `payload`. SQL's null is no value: the message is a
    /// [tombstone](watermill_core::Message::is_tombstone), and not one with an empty payload.
    #[must_use]
    pub fn payload(mut self, column: impl Into<String>) -> Self {
        self.payload = column.into();
        self
    }

    /// Sets the column of the message's key. Default: none. SQL's null is no key.
    #[must_use]
    pub fn key(mut self, column: impl Into<String>) -> Self {
        self.key = Some(column.into());
        self
    }

    /// Adds an entry of the metadata, from a column of its own, as text. SQL's null is no entry.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, column: impl Into<String>) -> Self {
        self.metadata.push((name.into(), column.into()));
        self
    }

    /// Sets a column that has a JSON object of metadata. Text stays text, and other values are kept as JSON writes them;
    /// `null` is no entry. Columns of their own come first where both have an entry.
    #[must_use]
    pub fn metadata_json(mut self, column: impl Into<String>) -> Self {
        self.metadata_json = Some(column.into());
        self
    }

    /// Sets the column, with an index, in whose order a queue takes rows: when they were written, say. Default: the id,
    /// which is that order where ids are UUIDs of version 7, and none where they are random.
    #[must_use]
    pub fn order_by(mut self, column: impl Into<String>) -> Self {
        self.order_by = Some(column.into());
        self
    }

    /// Sets the column that tells when a row was written, of a time. Default: none, and the age of a message is not known: in
    /// [`DeliveryInfo::published_at`](watermill_core::DeliveryInfo::published_at), a subscription's status and
    /// [`SqlStatus`](crate::SqlStatus).
    ///
    /// A time without a zone is in that of the sessions that ask for none, as the server has it, and in UTC on SQLite,
    /// where text as its functions of dates take is a time.
    #[must_use]
    pub fn published_at(mut self, column: impl Into<String>) -> Self {
        self.published_at = Some(column.into());
        self
    }

    /// Sets what becomes of a row whose message was acked, or was moved to the dead letters. Default:
    /// [`AfterAck::Keep`].
    #[must_use]
    pub fn after_ack(mut self, after_ack: AfterAck) -> Self {
        self.after_ack = after_ack;
        self
    }

    /// The topic that one subscribes to.
    pub(crate) fn topic_name(&self) -> &str {
        self.topic.as_deref().unwrap_or(&self.table)
    }

    /// What is wrong with it, as far as can be seen without the database.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mark = match &self.after_ack {
            AfterAck::Mark { column } => Some(column),
            _ => None,
        };
        let names = [Some(&self.table), Some(&self.id), Some(&self.payload)]
            .into_iter()
            .chain(
                [
                    &self.schema,
                    &self.offset,
                    &self.key,
                    &self.metadata_json,
                    &self.order_by,
                    &self.published_at,
                ]
                .map(Option::as_ref),
            )
            .chain([mark])
            .flatten()
            .chain(self.metadata.iter().map(|(_, column)| column));
        for name in names {
            if name.is_empty() || name.contains('\0') {
                problems.push(format!("source: {name:?} is no name of a table or column"));
            }
        }
        for (name, _) in &self.metadata {
            if self.metadata.iter().filter(|(other, _)| other == name).count() > 1 {
                problems.push(format!("source: the metadata entry {name:?} has two columns"));
                break;
            }
        }
        problems
    }
}

impl fmt::Debug for SqlSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlSource")
            .field("table", &self.table)
            .field("topic", &self.topic_name())
            .field("after_ack", &self.after_ack)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_named() {
        assert_eq!(SqlSource::debezium().problems(), Vec::<String>::new());
        for (source, problem) in [
            (SqlSource::table(""), "no name"),
            (SqlSource::table("o").after_ack(AfterAck::mark("")), "no name"),
            (SqlSource::table("o").metadata("a", "b").metadata("a", "c"), "two columns"),
        ] {
            let problems = source.problems();
            assert!(problems.iter().any(|found| found.contains(problem)), "{problems:?}");
        }
    }
}
