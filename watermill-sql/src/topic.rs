//! [`Tables`]: the names of the tables that hold a topic.

use crate::dialect::Dialect;

/// The table of leases, which no topic can have.
pub(crate) const LEASES: &str = "_watermill_leases";
/// The table of checkpoints, which no topic can have either.
pub(crate) const CHECKPOINTS: &str = "_watermill_checkpoints";

/// The tables of one topic. The characters that a topic may have need no escaping inside quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    topic: String,
    quote: char,
}

impl Tables {
    /// The tables of `topic`, or what is wrong with the topic.
    pub(crate) fn new<D: Dialect>(topic: &str) -> Result<Self, String> {
        check_characters(topic)?;
        let tables = Self { topic: topic.to_owned(), quote: D::QUOTE };
        // The longest of the names decides, so that every topic published to can be read.
        let longest = tables.offsets_name();
        let (bytes, limit) = (longest.len(), D::IDENTIFIER_BYTES_MAX);
        if bytes > limit {
            return Err(format!(
                "the table name {longest:?} has {bytes} bytes, the database allows {limit}: use a shorter topic"
            ));
        }
        Ok(tables)
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// The messages table, quoted.
    pub(crate) fn messages(&self) -> String {
        self.quoted(&self.messages_name())
    }

    /// The offsets table of a log, quoted.
    pub(crate) fn offsets(&self) -> String {
        self.quoted(&self.offsets_name())
    }

    /// The index of a queue's due times, quoted.
    #[cfg(feature = "sqlite")]
    pub(crate) fn due_index(&self) -> String {
        self.quoted(&format!("_watermill_due_{}", self.topic))
    }

    /// The name of the messages table, as the database's catalogue has it.
    pub(crate) fn messages_name(&self) -> String {
        format!("watermill_{}", self.topic)
    }

    /// The name of the offsets table, as the database's catalogue has it.
    pub(crate) fn offsets_name(&self) -> String {
        format!("watermill_offsets_{}", self.topic)
    }

    fn quoted(&self, name: &str) -> String {
        format!("{quote}{name}{quote}", quote = self.quote)
    }
}

/// Says what is wrong with the characters of a topic, if anything is.
pub(crate) fn check_characters(topic: &str) -> Result<(), String> {
    if topic.is_empty() {
        return Err("the topic is empty".to_owned());
    }
    match topic.chars().find(|c| !(c.is_ascii_alphanumeric() || "-$:._".contains(*c))) {
        Some(c) => Err(format!("the topic contains {c:?}: only A-Z a-z 0-9 - $ : . _ make a table name")),
        None => Ok(()),
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use sqlx::Sqlite;

    use super::*;

    #[test]
    fn tables_are_named_as_go_names_them() {
        let tables = Tables::new::<Sqlite>("orders.placed-v1").unwrap();
        assert_eq!(tables.messages(), r#""watermill_orders.placed-v1""#);
        assert_eq!(tables.offsets(), r#""watermill_offsets_orders.placed-v1""#);
    }

    #[test]
    fn a_topic_that_is_no_table_name_is_refused_with_the_reason() {
        for topic in ["", "a b", "a\"b", "a;b", "ü", "a/b", "a\0"] {
            assert!(Tables::new::<Sqlite>(topic).is_err(), "{topic:?}");
        }
        let long = "t".repeat(300);
        assert!(Tables::new::<Sqlite>(&long).unwrap_err().contains("shorter"));
    }
}
