//! [`Metadata`]: ordered text pairs.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Text values by name, in the order of their names, each name once.
///
/// Sorted, so that two processes write the same bytes for the same metadata (Go's JSON encoder sorts
/// too) and equality is what it looks like. An empty one does not allocate.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Sorted by name. A vector, because metadata is small and read more often than written.
    entries: Vec<(String, String)>,
}

impl Metadata {
    /// Metadata without entries.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// The value of `name`; `None` when there is no such entry, `Some("")` when it is empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.position(name).ok().map(|at| self.entries[at].1.as_str())
    }

    /// Whether there is an entry of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.position(name).is_ok()
    }

    /// Sets an entry and returns the value it had.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) -> Option<String> {
        let (name, value) = (name.into(), value.into());
        match self.position(&name) {
            Ok(at) => Some(std::mem::replace(&mut self.entries[at].1, value)),
            Err(at) => {
                self.entries.insert(at, (name, value));
                None
            }
        }
    }

    /// Sets an entry unless there is one already; says whether it did.
    pub fn insert_if_absent(&mut self, name: &str, value: impl Into<String>) -> bool {
        match self.position(name) {
            Ok(_) => false,
            Err(at) => {
                self.entries.insert(at, (name.to_owned(), value.into()));
                true
            }
        }
    }

    /// Removes an entry and returns its value.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        self.position(name).ok().map(|at| self.entries.remove(at).1)
    }

    /// The entries, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.entries.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|(entry, _)| entry.as_str().cmp(name))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Metadata {
    /// Of entries with the same name the last wins, as with Kafka headers.
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut entries: Vec<(String, String)> =
            pairs.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
        // One stable sort keeps this linearithmic for records with very many headers.
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        entries.reverse();
        entries.dedup_by(|(a, _), (b, _)| a == b);
        entries.reverse();
        Self { entries }
    }
}

impl<N: Into<String>, V: Into<String>> Extend<(N, V)> for Metadata {
    fn extend<I: IntoIterator<Item = (N, V)>>(&mut self, pairs: I) {
        for (name, value) in pairs {
            self.insert(name, value);
        }
    }
}

impl IntoIterator for Metadata {
    type Item = (String, String);
    type IntoIter = std::vec::IntoIter<(String, String)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Metadata {
    /// Accepts a map of text, and `null` as a Go writer may emit it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> de::Visitor<'de> for Pairs {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of text to text, or null")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Metadata, E> {
                Ok(Metadata::new())
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry::<String, String>()? {
                    pairs.push(pair);
                }
                // What was written from metadata comes as they are.
                match pairs.is_sorted_by(|(a, _), (b, _)| a < b) {
                    true => Ok(Metadata { entries: pairs }),
                    false => Ok(pairs.into_iter().collect()),
                }
            }
        }

        deserializer.deserialize_any(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_sorted_and_the_last_of_a_name_wins() {
        let metadata: Metadata = [("b", "1"), ("a", "2"), ("b", "3")].into_iter().collect();
        assert_eq!(metadata.iter().collect::<Vec<_>>(), [("a", "2"), ("b", "3")]);
    }

    #[test]
    fn inserting_returns_what_was_there() {
        let mut metadata = Metadata::new();
        assert_eq!(metadata.insert("k", "1"), None);
        assert_eq!(metadata.insert("k", "2"), Some("1".to_owned()));
        assert!(!metadata.insert_if_absent("k", "3"));
        assert_eq!(metadata.remove("k"), Some("2".to_owned()));
        assert!(metadata.is_empty());
    }

    #[test]
    fn json_is_a_sorted_object_and_null_reads_as_empty() {
        let metadata: Metadata = [("z", "1"), ("a", "ü")].into_iter().collect();
        let json = serde_json::to_string(&metadata).unwrap();
        assert_eq!(json, r#"{"a":"ü","z":"1"}"#);
        assert_eq!(serde_json::from_str::<Metadata>(&json).unwrap(), metadata);
        assert!(serde_json::from_str::<Metadata>("null").unwrap().is_empty());
        let unsorted: Metadata = serde_json::from_str(r#"{"z":"0","a":"ü","z":"1"}"#).unwrap();
        assert_eq!(unsorted, metadata);
    }
}
