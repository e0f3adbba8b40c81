//! [`Packed`]: a few entries in one piece of text.

/// More entries than this are not packed.
const ENTRIES_MAX: usize = 8;

/// Room for a usual entry, so that the text seldom has to move.
const ENTRY_BYTES: usize = 32;

/// Names and values one after the other, and where each begins and ends.
#[derive(Clone, Default)]
pub(super) struct Packed {
    text: String,
    places: [Place; ENTRIES_MAX],
    pub(super) len: usize,
}

/// Where an entry is in the text: its name up to `middle`, then its value.
#[derive(Clone, Copy, Default)]
pub(super) struct Place {
    start: u32,
    middle: u32,
    end: u32,
}

impl Packed {
    /// Adds an entry after the others; false when there is no room for it.
    pub(super) fn push(&mut self, name: &str, value: &str) -> bool {
        let (Some(slot), Ok(start)) = (self.places.get_mut(self.len), u32::try_from(self.text.len())) else {
            return false;
        };
        let (Ok(middle), Ok(end)) = (
            u32::try_from(self.text.len() + name.len()),
            u32::try_from(self.text.len() + name.len() + value.len()),
        ) else {
            return false;
        };
        if self.len == 0 {
            self.text.reserve(ENTRY_BYTES * ENTRIES_MAX / 2);
        }
        self.text.push_str(name);
        self.text.push_str(value);
        *slot = Place { start, middle, end };
        self.len += 1;
        true
    }

    /// In the order of the names, of each the one that was added last.
    pub(super) fn sorted(mut self) -> Self {
        let Self { text, places, len } = &mut self;
        let name = |place: &Place| &text[place.start as usize..place.middle as usize];
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
        self
    }

    pub(super) fn places(&self) -> &[Place] {
        &self.places[..self.len]
    }

    pub(super) fn name(&self, place: Place) -> &str {
        &self.text[place.start as usize..place.middle as usize]
    }

    pub(super) fn entry(&self, place: Place) -> (&str, &str) {
        (self.name(place), &self.text[place.middle as usize..place.end as usize])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.places().iter().map(|place| self.entry(*place))
    }
}
