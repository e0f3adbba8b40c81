//! [`Tables`]: the names of the tables that hold a topic.

use std::sync::Arc;

use crate::{
    dialect::Dialect,
    source::{Mapping, Use},
};

/// The table of leases, which no topic can have.
pub(crate) const LEASES: &str = "_watermill_leases";
/// The table of checkpoints, which no topic can have either.
pub(crate) const CHECKPOINTS: &str = "_watermill_checkpoints";
/// The table of the plans of shards, which no topic can have either.
pub(crate) const SHARDS: &str = "_watermill_shards";
/// The table of the messages that were handled, which no topic can have either.
pub(crate) const INBOX: &str = "_watermill_inbox";

/// The table of schedules.
pub(crate) const SCHEDULES: &str = "_watermill_schedules";

/// The tables of one topic. The characters that a topic may have need no escaping inside quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    topic: Arc<str>,
    quote: char,
    /// Somebody's table that has the messages, and what it is used as.
    source: Option<Arc<(Use, Mapping)>>,
    /// The schema of the tables and the rest of the topic, where it names a schema.
    qualified: Option<Box<(String, String)>>,
}

impl Tables {
    /// The tables of `topic`, or what is wrong with the topic.
    pub(crate) fn new<D: Dialect>(topic: &str) -> Result<Self, String> {
        check_characters(topic)?;
        Self { topic: topic.into(), quote: D::QUOTE, qualified: None, source: None }.fitting::<D>()
    }

    /// The tables of a topic that may name the schema that they are in, if that is wanted.
    pub(crate) fn named<D: Dialect>(topic: &str, schema_qualified: bool) -> Result<Self, String> {
        if !schema_qualified {
            return Self::new::<D>(topic);
        }
        if !D::HAS_SCHEMAS {
            return Err(
                "schema_qualified: only PostgreSQL has schemas in its databases, turn it off".to_owned()
            );
        }
        let Some((schema, rest)) = qualified(topic) else { return Self::new::<D>(topic) };
        check_characters(schema).map_err(|problem| format!("the schema: {problem}"))?;
        check_characters(rest)?;
        if schema.len() > D::IDENTIFIER_BYTES_MAX {
            return Err(format!("the schema {schema:?} is longer than the database allows"));
        }
        // No other topic can be called that: leases are kept by it, for topics of all schemas in one table.
        let topic = format!("[{schema}].{rest}");
        let qualified = Some(Box::new((schema.to_owned(), rest.to_owned())));
        Self { topic: topic.into(), quote: D::QUOTE, qualified, source: None }.fitting::<D>()
    }

    fn fitting<D: Dialect>(self) -> Result<Self, String> {
        let tables = self;
        // The longest of the names decides, so that every topic published to can be read.
        let longest = tables.table("offsets_");
        let (bytes, limit) = (longest.len(), D::IDENTIFIER_BYTES_MAX);
        if bytes > limit {
            return Err(format!(
                "the table name {longest:?} has {bytes} bytes, the database allows {limit}: use a shorter topic"
            ));
        }
        Ok(tables)
    }

    /// The same topic, whose messages are in a table that is not ours.
    pub(crate) fn over(self, used_as: Use, mapping: Mapping) -> Self {
        Self { source: Some(Arc::new((used_as, mapping))), ..self }
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// The schema that the topic names, quoted.
    #[cfg(feature = "postgres")]
    pub(crate) fn schema(&self) -> Option<String> {
        self.qualified.as_ref().map(|qualified| self.quoted(&qualified.0))
    }

    /// How the rows of somebody's table become messages, where it is one.
    pub(crate) fn mapping(&self) -> Option<&Mapping> {
        self.source.as_deref().map(|(_, mapping)| mapping)
    }

    /// The messages table, quoted: of a queue over somebody's table, that of our claims.
    pub(crate) fn messages(&self) -> String {
        match self.source.as_deref() {
            Some((Use::Log, mapping)) => mapping.table.clone(),
            Some((Use::Queue, _)) => self.in_schema(&self.table("claims_")),
            None => self.in_schema(&self.table("")),
        }
    }

    /// The schema of the messages table, where it is not that of the connection.
    #[cfg(feature = "mysql")]
    pub(crate) fn messages_schema(&self) -> Option<&str> {
        match self.source.as_deref() {
            Some((Use::Log, mapping)) => mapping.source.schema.as_deref(),
            _ => None,
        }
    }

    /// The column that gives the order of a log, quoted.
    pub(crate) fn offset(&self) -> String {
        match self.source.as_deref() {
            Some((Use::Log, mapping)) => mapping.offset.clone(),
            _ => self.quoted("offset"),
        }
    }

    /// What tells a row of a log from others that may have had its offset: by `ours` in our own tables.
    pub(crate) fn row<'t>(&'t self, ours: &'t str) -> &'t str {
        self.mapping().map_or(ours, |mapping| &mapping.id_text)
    }

    /// The offsets table of a log, quoted.
    pub(crate) fn offsets(&self) -> String {
        self.in_schema(&self.table("offsets_"))
    }

    /// The index of a queue's due times, quoted.
    #[cfg(feature = "sqlite")]
    pub(crate) fn due_index(&self) -> String {
        self.quoted(&format!("_watermill_due_{}", self.topic))
    }

    /// The index of an ordered queue's keys, quoted.
    #[cfg(feature = "sqlite")]
    pub(crate) fn key_index(&self) -> String {
        self.quoted(&format!("_watermill_key_{}", self.topic))
    }

    /// The index of those keys of an ordered queue that are in a worker's hand, quoted.
    #[cfg(feature = "sqlite")]
    pub(crate) fn hold_index(&self) -> String {
        self.quoted(&format!("_watermill_hold_{}", self.topic))
    }

    /// The name of the messages table, as the database's catalogue has it; quoted, with its schema, where the topic
    /// names one.
    pub(crate) fn messages_name(&self) -> String {
        match self.source.as_deref() {
            Some((Use::Log, mapping)) => mapping.source.table.clone(),
            Some((Use::Queue, _)) => self.catalogued("claims_"),
            None => self.catalogued(""),
        }
    }

    /// The name of the offsets table, in the same way.
    pub(crate) fn offsets_name(&self) -> String {
        self.catalogued("offsets_")
    }

    fn catalogued(&self, kind: &str) -> String {
        match &self.qualified {
            Some(_) => self.in_schema(&self.table(kind)),
            None => self.table(kind),
        }
    }

    fn table(&self, kind: &str) -> String {
        let topic = self.qualified.as_ref().map_or(&*self.topic, |qualified| &*qualified.1);
        format!("watermill_{kind}{topic}")
    }

    fn in_schema(&self, table: &str) -> String {
        match &self.qualified {
            Some(qualified) => format!("{}.{}", self.quoted(&qualified.0), self.quoted(table)),
            None => self.quoted(table),
        }
    }

    fn quoted(&self, name: &str) -> String {
        format!("{quote}{name}{quote}", quote = self.quote)
    }
}

/// The schema and the rest of a topic that names one: `schema.topic`, or `[schema].topic` for one with dots.
fn qualified(topic: &str) -> Option<(&str, &str)> {
    match topic.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once("]."),
        None => topic.split_once('.'),
    }
}

/// Says what is wrong with the characters of a topic that may name a schema, if anything is.
pub(crate) fn check_name(topic: &str, schema_qualified: bool) -> Result<(), String> {
    match qualified(topic).filter(|_| schema_qualified) {
        Some((schema, rest)) => check_characters(schema).and_then(|()| check_characters(rest)),
        None => check_characters(topic),
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

#[cfg(all(test, feature = "postgres"))]
mod schema_tests {
    use sqlx::Postgres;

    use super::*;

    fn named(topic: &str) -> Result<Tables, String> {
        Tables::named::<Postgres>(topic, true)
    }

    #[test]
    fn a_topic_may_name_the_schema_of_its_tables() {
        for topic in ["billing.orders.placed", "[billing].orders.placed"] {
            let tables = named(topic).unwrap();
            assert_eq!(tables.messages(), r#""billing"."watermill_orders.placed""#);
            assert_eq!(tables.offsets(), r#""billing"."watermill_offsets_orders.placed""#);
            assert_eq!(tables.topic(), "[billing].orders.placed");
        }
        assert_eq!(named("[a.b].orders").unwrap().messages(), r#""a.b"."watermill_orders""#);
        assert_eq!(named("orders").unwrap(), Tables::new::<Postgres>("orders").unwrap());
    }

    #[test]
    fn without_the_option_a_dot_is_a_part_of_the_name() {
        let tables = Tables::named::<Postgres>("billing.orders", false).unwrap();
        assert_eq!(
            (&*tables.messages(), tables.topic()),
            (r#""watermill_billing.orders""#, "billing.orders")
        );
        assert!(Tables::named::<Postgres>("[billing].orders", false).is_err());
    }

    #[test]
    fn what_is_no_schema_or_topic_is_refused() {
        for topic in [".orders", "billing.", "[a\"b].orders", "[].orders", "[a.orders", "[a]orders", "a b.c"]
        {
            assert!(named(topic).is_err(), "{topic}");
        }
        assert!(named(&format!("{}.t", "s".repeat(64))).is_err());
        assert!(named(&format!("s.{}", "t".repeat(60))).is_err());
        assert!(named(&format!("{}.t", "s".repeat(63))).is_ok());
    }
}
