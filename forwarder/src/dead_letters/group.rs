//! [`Group`]: letters that failed alike, and [`Filter`]: letters that are meant.

use std::time::SystemTime;

use super::Letter;

/// Letters of one destination that failed for the same cause.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Group {
    /// Where they were to go; `None` for what is no envelope.
    pub destination: Option<String>,
    /// The kind of the error, as [`Letter::kind`].
    pub kind: &'static str,
    /// What tells the cause from others: of the reason without numbers and ids.
    pub fingerprint: String,
    /// The reason of the example.
    pub reason: String,
    /// How many there are.
    pub count: u64,
    /// How many of them had been sent again before.
    pub failed_again: u64,
    /// When the first of them failed for the first time.
    pub first_seen: Option<SystemTime>,
    /// When the last of them failed.
    pub last_seen: Option<SystemTime>,
    /// The oldest of them.
    pub example: Letter,
}

/// Which letters are meant: all that are as every part of it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    destination: Option<String>,
    kind: Option<String>,
    fingerprint: Option<String>,
    id: Option<String>,
    key: Option<String>,
}

pub(super) type GroupKey = (Option<String>, &'static str, String);

impl Filter {
    /// Those for a destination.
    #[must_use]
    pub fn destination(mut self, destination: impl Into<String>) -> Self {
        self.destination = Some(destination.into());
        self
    }

    /// Those of a kind.
    #[must_use]
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// Those of a group. The beginning of its fingerprint will do.
    #[must_use]
    pub fn fingerprint(mut self, fingerprint: impl Into<String>) -> Self {
        self.fingerprint = Some(fingerprint.into());
        self
    }

    /// The one with this id.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Those of a key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Whether it says nothing, and means all.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a letter is meant.
    pub fn matches(&self, letter: &Letter) -> bool {
        let is =
            |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
        let key = letter.message.key().map(|key| String::from_utf8_lossy(key));
        is(&self.destination, letter.destination.as_deref())
            && is(&self.kind, Some(letter.kind))
            && is(&self.id, Some(&letter.id))
            && is(&self.key, key.as_deref())
            && self.fingerprint.as_ref().is_none_or(|wanted| letter.fingerprint().starts_with(&**wanted))
    }
}

impl Group {
    pub(super) fn of(letter: Letter) -> Self {
        let mut group = Self {
            destination: letter.destination.clone(),
            kind: letter.kind,
            fingerprint: letter.fingerprint(),
            reason: letter.reason.clone(),
            count: 0,
            failed_again: 0,
            first_seen: None,
            last_seen: None,
            example: letter.clone(),
        };
        group.add(letter);
        group
    }

    pub(super) fn add(&mut self, letter: Letter) {
        self.count += 1;
        self.failed_again += u64::from(letter.redriven > 0);
        self.first_seen = earliest(self.first_seen, letter.first_failed_at);
        self.last_seen = self.last_seen.max(letter.failed_at);
    }
}

impl Letter {
    pub(super) fn group_key(&self) -> GroupKey {
        (self.destination.clone(), self.kind, self.fingerprint())
    }
}

fn earliest(one: Option<SystemTime>, other: Option<SystemTime>) -> Option<SystemTime> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Sixteen hexadecimal digits of a reason. Words with a digit in them do not count, for they are numbers, times or ids.
pub(super) fn fingerprint(reason: &str) -> String {
    // FNV-1a: the same on every machine and in every version, which the standard library's hashes are not.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '-' || letter == '_';
    for word in reason.split(|letter| !is_word(letter)).filter(|word| !word.is_empty()) {
        if word.contains(|letter: char| letter.is_ascii_digit()) {
            continue;
        }
        for byte in word.bytes().chain([b' ']) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_differ_in_numbers_and_ids_are_alike() {
        let one = "publish to \"orders\": a message of 1048600 bytes is larger than 1048576 (id 0192ab-cd01)";
        let other = "publish to \"orders\": a message of 2000000 bytes is larger than 1048576 (id 7f001-2)";
        assert_eq!(fingerprint(one), fingerprint(other));
        assert_ne!(fingerprint(one), fingerprint("publish to \"orders\": not allowed"));
        assert_eq!(fingerprint(""), "cbf29ce484222325");
    }
}
