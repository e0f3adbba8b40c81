//! [`Metadata`]: ordered text pairs.

mod packed;

use std::{borrow::Cow, fmt};

use self::packed::{Packed, Packer};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Text values by name, in the order of their names, each name once.
///
/// Sorted, so that two processes write the same bytes for the same metadata (Go's JSON encoder sorts
/// too) and equality is what it looks like. An empty one does not allocate.
#[derive(Clone)]
pub struct Metadata(Entries);

/// Sorted by name. No map, because metadata is small and read more often than written.
#[derive(Clone)]
enum Entries {
    Apart(Vec<(String, String)>),
    /// What a marshaler has read, until it is changed.
    Packed(Packed),
}

impl Metadata {
    /// Metadata without entries.
    pub const fn new() -> Self {
        Self(Entries::Apart(Vec::new()))
    }

    /// Metadata that is copied into one piece of memory, for marshalers: one allocation, where
    /// collecting makes two for each entry. Of entries with the same name the last wins.
    pub fn packed<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        Self::pack(pairs, |(name, value)| (name.as_ref().as_bytes(), value.as_ref().as_bytes()))
            .expect("pieces of text are text together")
    }

    /// The same where values may not be text, as in a broker's headers; `None` when one of them is not UTF-8. All of
    /// them are checked at once, in a fraction of the time that checking each takes.
    pub fn packed_utf8<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Option<Self> {
        Self::pack(pairs, |(name, value)| (name.as_bytes(), value))
    }

    #[inline]
    fn pack<P>(pairs: impl IntoIterator<Item = P>, bytes: impl Fn(&P) -> (&[u8], &[u8])) -> Option<Self> {
        let mut pairs = pairs.into_iter();
        let mut packer = Packer::default();
        // By the iterator's own loop, which is quicker than asking it for one after another.
        let packed = pairs.try_for_each(|pair| {
            let (name, value) = bytes(&pair);
            if packer.push(name, value) { Ok(()) } else { Err(pair) }
        });
        match packed {
            Ok(()) if packer.is_empty() => Some(Self::new()),
            Ok(()) => packer.finish().map(|packed| Self(Entries::Packed(packed))),
            Err(next) => Self::unpacked(&packer, std::iter::once(next).chain(pairs), bytes),
        }
    }

    /// What was packed so far and what is left, where there is no room for all of it.
    #[cold]
    fn unpacked<P>(
        packer: &Packer,
        rest: impl Iterator<Item = P>,
        bytes: impl Fn(&P) -> (&[u8], &[u8]),
    ) -> Option<Self> {
        let text = |(name, value): (&[u8], &[u8])| {
            let text = |bytes: &[u8]| str::from_utf8(bytes).ok().map(str::to_owned);
            Some((text(name)?, text(value)?))
        };
        packer.iter().map(text).chain(rest.map(|pair| text(bytes(&pair)))).collect()
    }

    /// The value of `name`; `None` when there is no such entry, `Some("")` when it is empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.position(name).ok().map(|at| self.entry(at).1)
    }

    /// Whether there is an entry of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.position(name).is_ok()
    }

    /// Sets an entry and returns the value it had.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) -> Option<String> {
        let (name, value) = (name.into(), value.into());
        let position = self.position(&name);
        let entries = self.apart();
        match position {
            Ok(at) => Some(std::mem::replace(&mut entries[at].1, value)),
            Err(at) => {
                entries.insert(at, (name, value));
                None
            }
        }
    }

    /// Sets an entry unless there is one already; says whether it did.
    pub fn insert_if_absent(&mut self, name: &str, value: impl Into<String>) -> bool {
        match self.position(name) {
            Ok(_) => false,
            Err(at) => {
                self.apart().insert(at, (name.to_owned(), value.into()));
                true
            }
        }
    }

    /// Removes an entry and returns its value.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        self.position(name).ok().map(|at| self.apart().remove(at).1)
    }

    /// The entries, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        (0..self.len()).map(|at| self.entry(at))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Entries::Apart(entries) => entries.len(),
            Entries::Packed(packed) => packed.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        match &self.0 {
            Entries::Apart(entries) => entries.binary_search_by(|(entry, _)| entry.as_str().cmp(name)),
            Entries::Packed(packed) => packed.position(name),
        }
    }

    fn entry(&self, at: usize) -> (&str, &str) {
        match &self.0 {
            Entries::Apart(entries) => (&entries[at].0, &entries[at].1),
            Entries::Packed(packed) => packed.entry(at),
        }
    }

    /// The entries, to change.
    fn apart(&mut self) -> &mut Vec<(String, String)> {
        if let Entries::Packed(packed) = &self.0 {
            self.0 = Entries::Apart(packed.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect());
        }
        match &mut self.0 {
            Entries::Apart(entries) => entries,
            Entries::Packed(_) => unreachable!("it was just taken apart"),
        }
    }
}

impl Default for Metadata {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Metadata {}

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
        Self(Entries::Apart(entries))
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

    fn into_iter(mut self) -> Self::IntoIter {
        std::mem::take(self.apart()).into_iter()
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
                let mut failed = None;
                let pairs = std::iter::from_fn(|| {
                    map.next_entry::<Text<'de>, Text<'de>>().unwrap_or_else(|error| {
                        failed = Some(error);
                        None
                    })
                });
                let metadata = Metadata::packed(pairs);
                failed.map_or(Ok(metadata), Err)
            }
        }

        deserializer.deserialize_any(Pairs)
    }
}

/// Text that need not be copied where it stands as it is in what is read.
struct Text<'de>(Cow<'de, str>);

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> de::Visitor<'de> for Any {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text)))
            }
        }

        deserializer.deserialize_str(Any)
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
    fn packed_metadata_is_metadata_like_any_other() {
        let pairs = [("b", "1"), ("a", "2"), ("", "ü"), ("b", "3"), ("c", "")];
        let (packed, apart) = (Metadata::packed(pairs), pairs.into_iter().collect::<Metadata>());
        assert_eq!(packed, apart);
        assert_eq!(packed.iter().collect::<Vec<_>>(), [("", "ü"), ("a", "2"), ("b", "3"), ("c", "")]);
        assert_eq!((packed.get("b"), packed.get("x")), (Some("3"), None));
        assert_eq!(packed.clone().into_iter().collect::<Vec<_>>(), apart.into_iter().collect::<Vec<_>>());
        let mut changed = packed.clone();
        assert_eq!(changed.insert("b", "4"), Some("3".to_owned()));
        assert_eq!(changed.remove("a"), Some("2".to_owned()));
        assert_eq!((packed.get("b"), changed.len()), (Some("3"), 3));
        assert!(Metadata::packed::<&str, &str>([]).is_empty());
    }

    #[test]
    fn values_that_are_no_text_are_noticed_wherever_they_stand() {
        let pairs = [("b", "ü".as_bytes()), ("a", b""), ("b", b"3")];
        let packed = Metadata::packed_utf8(pairs).unwrap();
        assert_eq!(packed, [("a", ""), ("b", "3")].into_iter().collect());
        assert!(Metadata::packed_utf8([]).unwrap().is_empty());
        let [first, second] = [&"ü".as_bytes()[..1], &"ü".as_bytes()[1..]];
        assert_eq!(Metadata::packed_utf8([("a", &b"\xff"[..])]), None);
        assert_eq!(Metadata::packed_utf8([("", first), ("", second)]), None, "together they are text");
        assert_eq!(Metadata::packed_utf8([("a", first)]), None);
        let many = |last| (0..20).map(|_| ("a", &b"1"[..])).chain([("b", last)]);
        assert_eq!(Metadata::packed_utf8(many(b"2")).unwrap().get("b"), Some("2"));
        assert_eq!(Metadata::packed_utf8(many(first)), None);
        let long = [b'x'; 20_000];
        assert_eq!(Metadata::packed_utf8([("a", first), ("b", &long)]), None);
    }

    #[test]
    fn more_entries_than_are_packed_are_kept_as_well() {
        let pairs = (0..100).map(|n| (format!("{:02}", n % 50), n.to_string()));
        let packed = Metadata::packed(pairs.clone());
        assert_eq!(packed, pairs.collect());
        assert_eq!((packed.len(), packed.get("07")), (50, Some("57")));
        let long = "ü".repeat(10_000);
        let packed = Metadata::packed([("b", long.as_str()), ("a", "")]);
        assert_eq!((packed.get("a"), packed.get("b")), (Some(""), Some(long.as_str())));
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
