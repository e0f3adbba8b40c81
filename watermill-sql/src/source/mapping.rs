//! [`Mapping`]: a source as it was found in the database, and how its rows become messages.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};
use watermill_core::{backend::key_entry, error::BoxError};

use super::SqlSource;
use crate::{
    marshaler::{Columns, Unreadable},
    stored::{Store, Stored},
};

/// Which of the columns of a row tells when it was written, and the first of the entries.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) const PUBLISHED_MS: usize = 4;
const ENTRIES: usize = 5;

/// What a source is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Log,
    Queue,
}

/// A source with the texts that go into statements. Names are quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub(crate) source: SqlSource,
    /// With its schema.
    pub(crate) table: String,
    /// Of a log.
    pub(crate) offset: String,
    /// The column of the id, the text that is made of it, and its type.
    pub(crate) id: String,
    pub(crate) id_text: String,
    pub(crate) id_type: String,
    pub(crate) id_is_bytes: bool,
    pub(crate) order_by: String,
    /// What is selected of a row: id, payload, key, JSON metadata, when it was written, and each entry.
    pub(crate) columns: String,
    /// When a row was written, in milliseconds since the epoch, or null.
    pub(crate) published_ms: String,
    /// How many bytes of a row become a message, nearly.
    pub(crate) bytes: String,
    /// What is done with a row that is passed; `None` where it stays as it is.
    pub(crate) pass: Option<Pass>,
}

/// What is done with rows that are passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    Delete,
    /// A column, quoted, what it is set to, and the condition that it is not set.
    Mark {
        column: String,
        value: &'static str,
        is_unmarked: String,
    },
}

impl Mapping {
    /// The condition that a row is not marked.
    pub(crate) fn is_unmarked(&self) -> &str {
        match &self.pass {
            Some(Pass::Mark { is_unmarked, .. }) => is_unmarked,
            _ => "1 = 1",
        }
    }

    /// The beginning of a statement that deletes or marks, before its `where`.
    pub(crate) fn passing(&self) -> Option<String> {
        Some(match self.pass.as_ref()? {
            Pass::Delete => format!("delete from {}", self.table),
            Pass::Mark { column, value, .. } => format!("update {} set {column} = {value}", self.table),
        })
    }

    /// Keeps a row, if it is a message: `column` has what was selected, in that order.
    pub(crate) fn keep<'r>(
        &self,
        store: &mut Store,
        mut column: impl FnMut(usize) -> sqlx::Result<Option<&'r [u8]>>,
    ) -> sqlx::Result<Result<Stored, Unreadable>> {
        let (uuid, value) = (column(0)?.unwrap_or_default(), column(1)?);
        let payload = value.unwrap_or_default();
        let (key, json) = (column(2)?, column(3)?);
        let mut entries = Vec::with_capacity(self.source.metadata.len());
        for (at, (name, _)) in self.source.metadata.iter().enumerate() {
            if let Some(text) = column(at + ENTRIES)? {
                entries.push((&**name, text));
            }
        }
        let metadata = match metadata(key, json, &entries) {
            Ok(metadata) => metadata,
            Err(error) => {
                let remains = Columns { uuid, payload, metadata: json }.remains();
                return Ok(Err(Unreadable { error, remains }));
            }
        };
        let stored = store.keep(Columns { uuid, payload, metadata: Some(metadata.as_bytes()) });
        Ok(if value.is_some() { stored } else { stored.map(Stored::without_value) })
    }
}

/// When a row was written, of which the source may know the milliseconds since the epoch.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) fn moment(ms: Option<i64>) -> Option<SystemTime> {
    let since_epoch = Duration::from_millis(u64::try_from(ms?).ok()?);
    SystemTime::UNIX_EPOCH.checked_add(since_epoch)
}

/// The metadata of a row as our own tables have it.
fn metadata(key: Option<&[u8]>, json: Option<&[u8]>, entries: &[(&str, &[u8])]) -> Result<String, BoxError> {
    let mut all = Map::new();
    let parsed: Option<Map<String, Value>> = match json {
        Some(json) => serde_json::from_slice(json)
            .map_err(|error| format!("the column of metadata is not a JSON object: {error}"))?,
        None => None,
    };
    for (name, value) in parsed.unwrap_or_default() {
        match value {
            Value::Null => {}
            Value::String(text) => drop(all.insert(name, text.into())),
            other => drop(all.insert(name, other.to_string().into())),
        }
    }
    for (name, value) in entries {
        let text =
            std::str::from_utf8(value).map_err(|error| format!("the entry {name:?} is not text: {error}"))?;
        all.insert((*name).to_owned(), text.into());
    }
    if let Some(key) = key {
        let (name, value) = key_entry(key);
        all.insert(name.to_owned(), value.into_owned().into());
    }
    // Text always serialises.
    Ok(Value::Object(all).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_come_from_columns_and_from_json_and_columns_come_first() {
        let json = br#"{"a":"x","n":7,"gone":null,"deep":{"b":[1]}}"#;
        let text = metadata(Some(b"k"), Some(json), &[("a", b"column")]).unwrap();
        let read: Map<String, Value> = serde_json::from_str(&text).unwrap();
        let expected =
            serde_json::json!({"a": "column", "n": "7", "deep": "{\"b\":[1]}", "_watermill_key": "k"});
        assert_eq!(Value::Object(read), expected);
        assert_eq!(metadata(None, None, &[]).unwrap(), "{}");
        assert_eq!(metadata(None, Some(b"null"), &[]).unwrap(), "{}");
    }

    #[test]
    fn what_is_no_metadata_is_an_error() {
        assert!(metadata(None, Some(b"[]"), &[]).is_err());
        assert!(metadata(None, None, &[("a", b"\xff")]).is_err());
    }
}
