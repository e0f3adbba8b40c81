//! [`Progress`]: what a group has done beyond its position, and how often it has tried what is left.

use crate::position::Position;

/// Kept beside the position while acks are not contiguous or rows were nacked, so that neither a
/// hand-over nor a crash repeats what was recorded, and attempts outlive their reader.
///
/// Go does not know it and delivers what is done ahead again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Rows above the position that are done: inclusive ranges, ascending. Only rows that nothing can
    /// come between share a range, because a gap may yet be filled.
    pub(crate) ahead: Vec<(Position, Position)>,
    /// How often rows above the position have been delivered, for those delivered in vain.
    pub(crate) attempts: Vec<(Position, u32)>,
}

impl Progress {
    pub(crate) fn is_empty(&self) -> bool {
        self.ahead.is_empty() && self.attempts.is_empty()
    }

    /// Notes that the row at `position`, above all that were noted before, is done.
    pub(crate) fn push_done(&mut self, position: Position) {
        match self.ahead.last_mut() {
            Some((_, last)) if last.is_followed_by(position) => *last = position,
            _ => self.ahead.push((position, position)),
        }
    }

    pub(crate) fn is_done(&self, position: Position) -> bool {
        self.ahead.iter().any(|(first, last)| (*first..=*last).contains(&position))
    }

    pub(crate) fn attempts(&self, position: Position) -> u32 {
        self.attempts.iter().find(|(at, _)| *at == position).map_or(0, |(_, attempts)| *attempts)
    }

    /// Forgets everything up to `position`.
    pub(crate) fn forget_up_to(&mut self, position: Position) {
        self.ahead.retain_mut(|(first, last)| {
            *first = (*first).max(position.next());
            first <= last
        });
        self.attempts.retain(|(at, _)| *at > position);
    }

    /// As text, together with the position that it goes with. Empty when there is nothing to keep.
    pub(crate) fn encode(&self, position: Position) -> String {
        if self.is_empty() {
            return String::new();
        }
        // Numbers always serialise.
        serde_json::to_string(&(position, &self.ahead, &self.attempts)).unwrap_or_default()
    }

    /// Reads what [`encode`](Self::encode) wrote. It counts only for a group that has not gone back
    /// since: whoever sets a position back by hand wants everything again.
    pub(crate) fn decode(text: &str, position: Position) -> Self {
        type Parts = (Position, Vec<(Position, Position)>, Vec<(Position, u32)>);
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
        let mut progress = Progress { attempts: vec![(11.into(), 3)], ..Progress::default() };
        for offset in [12, 13, 15] {
            progress.push_done(offset.into());
        }
        progress
    }

    #[test]
    fn only_neighbours_share_a_range() {
        assert_eq!(progress().ahead, [(12.into(), 13.into()), (15.into(), 15.into())]);
        assert!(!progress().is_done(14.into()));
        assert_eq!(progress().attempts(11.into()), 3);
    }

    #[test]
    fn it_is_read_back_without_what_the_position_has_passed() {
        let text = progress().encode(10.into());
        assert_eq!(Progress::decode(&text, 10.into()), progress());
        let later = Progress::decode(&text, 12.into());
        assert_eq!(
            later,
            Progress { ahead: vec![(13.into(), 13.into()), (15.into(), 15.into())], attempts: vec![] }
        );
    }

    #[test]
    fn it_does_not_count_after_the_position_was_set_back() {
        assert!(Progress::decode(&progress().encode(10.into()), 9.into()).is_empty());
        assert!(Progress::decode("nonsense", 10.into()).is_empty());
    }
}
