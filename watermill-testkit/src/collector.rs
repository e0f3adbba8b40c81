//! [`Collector`]: remembers every message that came, and says what is wrong with them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use bytes::Bytes;
use watermill_core::{Message, MessageId, subscriber::Ordering};

/// Every message that was received, in order, those that came again included: a collector that hides
/// duplicates would let a backend pass that delivers everything ten times.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    seen: Vec<Message>,
    ids: HashSet<MessageId>,
}

/// How what was seen differs from what was expected, by message ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Differences {
    /// Expected, and not seen as often as it was expected.
    pub missing: Vec<String>,
    /// Seen more often than expected, once for each time.
    pub duplicated: Vec<String>,
    /// Seen and not expected at all.
    pub unexpected: Vec<String>,
    /// Seen with another key, metadata or payload.
    pub changed: Vec<String>,
    /// Seen after another that was published later in the same ordering scope.
    pub out_of_order: Vec<String>,
}

impl Collector {
    /// A collector that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers a message.
    pub fn record(&mut self, message: &Message) {
        self.ids.insert(message.id().clone());
        self.seen.push(message.clone().without_context());
    }

    /// Everything that was seen, in order.
    pub fn seen(&self) -> &[Message] {
        &self.seen
    }

    /// The ids of everything that was seen, in order.
    pub fn ids(&self) -> Vec<&str> {
        self.seen.iter().map(|message| message.id().as_str()).collect()
    }

    /// How many messages were seen, each id once.
    pub fn distinct(&self) -> usize {
        self.ids.len()
    }

    /// Compares what was seen with what was published, in the order it was published. Order is
    /// looked at as far as `ordering` promises it: over everything, or within each key.
    pub fn compare(&self, expected: &[Message], ordering: Ordering) -> Differences {
        let mut differences = Differences::default();
        let mut open: BTreeMap<&str, Vec<(usize, &Message)>> = BTreeMap::new();
        for (place, message) in expected.iter().enumerate() {
            open.entry(message.id()).or_default().push((place, message));
        }
        let known = open.clone();
        let mut last_places: HashMap<Option<&Bytes>, usize> = HashMap::new();
        for message in &self.seen {
            let id = message.id().as_str();
            let Some(copies) = open.get_mut(id) else {
                differences.unexpected.push(id.to_owned());
                continue;
            };
            let same = copies.iter().position(|(_, copy)| *copy == message);
            match same.or((!copies.is_empty()).then_some(0)) {
                Some(at) => {
                    let (place, _) = copies.remove(at);
                    if same.is_none() {
                        differences.changed.push(id.to_owned());
                    }
                    let scope = match ordering {
                        Ordering::Total => None,
                        Ordering::Scoped if message.key().is_some() => message.key(),
                        _ => continue,
                    };
                    let last = last_places.entry(scope).or_insert(place);
                    if place < *last {
                        differences.out_of_order.push(id.to_owned());
                    }
                    *last = place;
                }
                None => {
                    differences.duplicated.push(id.to_owned());
                    if known[id].iter().all(|(_, copy)| *copy != message) {
                        differences.changed.push(id.to_owned());
                    }
                }
            }
        }
        let missing = open.iter().flat_map(|(id, copies)| vec![(*id).to_owned(); copies.len()]);
        differences.missing.extend(missing);
        differences
    }

    /// Asserts that every expected message was seen as often as expected, unchanged and in order,
    /// and nothing else.
    ///
    /// # Panics
    ///
    /// When it was not; the text names the first few ids of each fault.
    #[track_caller]
    pub fn assert_exactly(&self, expected: &[Message], ordering: Ordering) {
        self.assert_with_duplicates(expected, ordering, 0);
    }

    /// The same, when up to `duplicates` may have come again: out of their order then.
    ///
    /// # Panics
    ///
    /// As [`assert_exactly`](Self::assert_exactly).
    #[track_caller]
    pub fn assert_with_duplicates(&self, expected: &[Message], ordering: Ordering, duplicates: usize) {
        if let Err(differences) = self.check(expected, ordering, duplicates) {
            panic!("{differences}");
        }
    }

    /// The differences in words, if there are more than `duplicates` that came again.
    pub(crate) fn check(
        &self,
        expected: &[Message],
        ordering: Ordering,
        duplicates: usize,
    ) -> Result<(), String> {
        let mut differences = self.compare(expected, ordering);
        if differences.duplicated.len() <= duplicates {
            differences.duplicated.clear();
        }
        if differences == Differences::default() {
            return Ok(());
        }
        Err(format!("of {} messages {} were seen: {differences}", expected.len(), self.seen.len()))
    }
}

impl<'a> FromIterator<&'a Message> for Collector {
    fn from_iter<I: IntoIterator<Item = &'a Message>>(messages: I) -> Self {
        let mut collector = Self::new();
        messages.into_iter().for_each(|message| collector.record(message));
        collector
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        let faults = [
            ("missing", &self.missing),
            ("duplicated", &self.duplicated),
            ("unexpected", &self.unexpected),
            ("changed", &self.changed),
            ("out of order", &self.out_of_order),
        ];
        let mut separator = "";
        for (fault, ids) in faults.into_iter().filter(|(_, ids)| !ids.is_empty()) {
            let shown = ids[..ids.len().min(SHOWN)].join(" ");
            let more = if ids.len() > SHOWN { " ..." } else { "" };
            write!(f, "{separator}{} {fault} ({shown}{more})", ids.len())?;
            separator = ", ";
        }
        if separator.is_empty() { f.write_str("no differences") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, key: &'static str) -> Message {
        Message::with_id(id, "x").with_key(key)
    }

    #[test]
    fn each_fault_is_named() {
        let expected = [message("1", "a"), message("2", "a"), message("3", "a"), message("4", "a")];
        let seen =
            [message("2", "a"), message("1", "a"), message("3", "b"), message("3", "a"), message("9", "a")];
        let differences = Collector::from_iter(&seen).compare(&expected, Ordering::Total);
        assert_eq!(
            differences.to_string(),
            "1 missing (4), 1 duplicated (3), 1 unexpected (9), 1 changed (3), 1 out of order (1)"
        );
    }

    #[test]
    fn order_counts_as_far_as_it_is_promised() {
        let expected = [message("1", "a"), message("2", "b"), message("3", "a")];
        let seen = Collector::from_iter([&expected[1], &expected[0], &expected[2]]);
        assert_eq!(seen.compare(&expected, Ordering::Total).out_of_order, ["1"]);
        assert_eq!(seen.compare(&expected, Ordering::Scoped), Differences::default());
        let swapped = Collector::from_iter([&expected[2], &expected[1], &expected[0]]);
        assert_eq!(swapped.compare(&expected, Ordering::Scoped).out_of_order, ["1"]);
        assert_eq!(swapped.compare(&expected, Ordering::None), Differences::default());
    }

    #[test]
    fn two_messages_with_one_id_are_two_messages() {
        let expected = [message("", "a"), message("", "b")];
        Collector::from_iter(&expected).assert_exactly(&expected, Ordering::Total);
        let twice = Collector::from_iter([&expected[0], &expected[0]]);
        assert_eq!(twice.compare(&expected, Ordering::None).changed, [""]);
        let once = Collector::from_iter([&expected[1]]);
        assert_eq!(once.compare(&expected, Ordering::None).missing, [""]);
    }
}
