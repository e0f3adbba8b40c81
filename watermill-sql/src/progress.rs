//! [`Progress`]: what a group has done beyond its position, and how often it has tried what is left.

/// Kept beside the position while acks are not contiguous or rows were nacked, so that neither a
/// hand-over nor a crash repeats what was recorded, and attempts outlive their reader.
///
/// Go does not know it and delivers what is done ahead again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Rows above the position that are done: inclusive ranges of offsets, ascending. Only offsets
    /// that follow one another share a range, because a gap may yet be filled.
    pub(crate) ahead: Vec<(i64, i64)>,
    /// How often rows above the position have been delivered, for those delivered in vain.
    pub(crate) attempts: Vec<(i64, u32)>,
}

impl Progress {
    pub(crate) fn is_empty(&self) -> bool {
        self.ahead.is_empty() && self.attempts.is_empty()
    }

    /// Notes that the row at `offset`, above all that were noted before, is done.
    pub(crate) fn push_done(&mut self, offset: i64) {
        match self.ahead.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(offset) => *last = offset,
            _ => self.ahead.push((offset, offset)),
        }
    }

    pub(crate) fn is_done(&self, offset: i64) -> bool {
        self.ahead.iter().any(|(first, last)| (*first..=*last).contains(&offset))
    }

    pub(crate) fn attempts(&self, offset: i64) -> u32 {
        self.attempts.iter().find(|(at, _)| *at == offset).map_or(0, |(_, attempts)| *attempts)
    }

    /// Forgets everything up to `offset`.
    pub(crate) fn forget_up_to(&mut self, offset: i64) {
        self.ahead.retain_mut(|(first, last)| {
            *first = (*first).max(offset.saturating_add(1));
            first <= last
        });
        self.attempts.retain(|(at, _)| *at > offset);
    }

    /// As text, together with the position that it goes with. Empty when there is nothing to keep.
    pub(crate) fn encode(&self, position: i64) -> String {
        if self.is_empty() {
            return String::new();
        }
        // Numbers always serialise.
        serde_json::to_string(&(position, &self.ahead, &self.attempts)).unwrap_or_default()
    }

    /// Reads what [`encode`](Self::encode) wrote. It counts only for a group that has not gone back
    /// since: whoever sets a position back by hand wants everything again.
    pub(crate) fn decode(text: &str, position: i64) -> Self {
        type Parts = (i64, Vec<(i64, i64)>, Vec<(i64, u32)>);
        if text.is_empty() {
            return Self::default();
        }
        match serde_json::from_str::<Parts>(text) {
            Ok((written_at, ahead, attempts)) if written_at <= position => {
                let mut progress = Self { ahead, attempts };
                progress.forget_up_to(position);
                progress
            }
            Ok(_) => Self::default(),
            Err(error) => {
                tracing::warn!(%error, "a group's progress is unreadable, some messages may come again");
                Self::default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> Progress {
        let mut progress = Progress { attempts: vec![(11, 3)], ..Progress::default() };
        for offset in [12, 13, 15] {
            progress.push_done(offset);
        }
        progress
    }

    #[test]
    fn only_neighbours_share_a_range() {
        assert_eq!(progress().ahead, [(12, 13), (15, 15)]);
        assert!(!progress().is_done(14));
        assert_eq!(progress().attempts(11), 3);
    }

    #[test]
    fn it_is_read_back_without_what_the_position_has_passed() {
        let text = progress().encode(10);
        assert_eq!(Progress::decode(&text, 10), progress());
        let later = Progress::decode(&text, 12);
        assert_eq!(later, Progress { ahead: vec![(13, 13), (15, 15)], attempts: vec![] });
    }

    #[test]
    fn it_does_not_count_after_the_position_was_set_back() {
        assert!(Progress::decode(&progress().encode(10), 9).is_empty());
        assert!(Progress::decode("nonsense", 10).is_empty());
    }
}
