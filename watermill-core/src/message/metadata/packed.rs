//! [`Packed`]: a few entries in one piece of text.

use std::cmp::Ordering;

/// More entries than this are not packed.
const ENTRIES_MAX: usize = 8;

/// Room for usual entries, so that the text seldom has to move.
const ROOM_BYTES: usize = 160;

/// Names and values one after the other, then the [`Place`] of each entry, then their number. All of it
/// is text, numbers too (seven bits to a character), so that an entry is read without being checked again.
#[derive(Clone)]
pub(super) struct Packed(String);

/// Packs entries. What is put together is checked to be text once, at the end: that takes a fraction of checking
/// names and values one by one.
#[derive(Default)]
pub(super) struct Packer {
    text: Vec<u8>,
    places: [Place; ENTRIES_MAX],
    len: usize,
    /// Whether a name did not come after the one before it.
    unsorted: bool,
}

/// Where an entry is in the text: its name up to `middle`, then its value.
#[derive(Clone, Copy, Default)]
struct Place {
    start: u16,
    middle: u16,
    end: u16,
}

impl Packer {
    /// Adds an entry after the others; false when there is no room for it.
    pub(super) fn push(&mut self, name: &[u8], value: &[u8]) -> bool {
        let start = self.text.len();
        let (middle, end) = (start + name.len(), start + name.len() + value.len());
        if self.len == ENTRIES_MAX || end > Place::END_MAX {
            return false;
        }
        if self.len == 0 {
            self.text.reserve(ROOM_BYTES);
        } else {
            let Place { start, middle, .. } = self.places[self.len - 1];
            let before = &self.text[usize::from(start)..usize::from(middle)];
            self.unsorted |= before >= name;
        }
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        self.places[self.len] = Place { start: start as u16, middle: middle as u16, end: end as u16 };
        self.len += 1;
        true
    }

    /// The entries in the order of their names, of each the one that was added last; `None` when something that
    /// was added is not text.
    pub(super) fn finish(mut self) -> Option<Packed> {
        if self.unsorted {
            self.sort();
        }
        // Put together first: to add it to the text in one piece takes a tenth of what single characters take.
        let mut table = [0; ENTRIES_MAX * Place::BYTES + 1];
        for (place, bytes) in self.places[..self.len].iter().zip(table.chunks_exact_mut(Place::BYTES)) {
            bytes.copy_from_slice(&place.to_text());
        }
        let end = self.len * Place::BYTES;
        table[end] = self.len as u8;
        self.text.extend_from_slice(&table[..=end]);
        let text = String::from_utf8(self.text).ok()?;
        // Two pieces that are no text may be text together.
        let is_text = |place: &Place| place.ends().into_iter().all(|at| text.is_char_boundary(at));
        self.places[..self.len].iter().all(is_text).then_some(Packed(text))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entries, as they were added.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.places[..self.len].iter().map(|place| place.bytes_of(&self.text))
    }

    #[cold]
    fn sort(&mut self) {
        let Self { text, places, len, .. } = self;
        let name = |place: &Place| place.bytes_of(text).0;
        // Stable, so that of one name the last stays the last.
        places[..*len].sort_by(|a, b| name(a).cmp(name(b)));
        let mut kept = 0;
        for at in 0..*len {
            if at + 1 == *len || name(&places[at]) != name(&places[at + 1]) {
                places[kept] = places[at];
                kept += 1;
            }
        }
        *len = kept;
    }
}

impl Packed {
    pub(super) fn len(&self) -> usize {
        self.0.as_bytes().last().map_or(0, |len| usize::from(*len))
    }

    pub(super) fn entry(&self, at: usize) -> (&str, &str) {
        let table = self.0.len() - 1 - self.len() * Place::BYTES;
        Place::read(&self.0.as_bytes()[table + at * Place::BYTES..]).of(&self.0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        (0..self.len()).map(|at| self.entry(at))
    }

    /// As [`slice::binary_search`], of the names.
    pub(super) fn position(&self, name: &str) -> Result<usize, usize> {
        // One by one: there are few.
        for at in 0..self.len() {
            match self.entry(at).0.cmp(name) {
                Ordering::Less => {}
                Ordering::Equal => return Ok(at),
                Ordering::Greater => return Err(at),
            }
        }
        Err(self.len())
    }
}

impl Place {
    /// In text.
    const BYTES: usize = 6;

    /// The largest number that two characters hold.
    const END_MAX: usize = (1 << 14) - 1;

    fn ends(self) -> [usize; 3] {
        [self.start, self.middle, self.end].map(usize::from)
    }

    fn of(self, text: &str) -> (&str, &str) {
        let [start, middle, end] = self.ends();
        (&text[start..middle], &text[middle..end])
    }

    fn bytes_of(self, text: &[u8]) -> (&[u8], &[u8]) {
        let [start, middle, end] = self.ends();
        (&text[start..middle], &text[middle..end])
    }

    fn to_text(self) -> [u8; Self::BYTES] {
        let Self { start, middle, end } = self;
        let high = |number: u16| (number >> 7) as u8;
        let low = |number: u16| (number & 0x7f) as u8;
        [high(start), low(start), high(middle), low(middle), high(end), low(end)]
    }

    fn read(text: &[u8]) -> Self {
        let number = |at: usize| u16::from(text[at]) << 7 | u16::from(text[at + 1]);
        Self { start: number(0), middle: number(2), end: number(4) }
    }
}
