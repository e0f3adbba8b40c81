//! [`Marks`]: what a watch has seen of its topics, and when it looks again. No I/O.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use super::dialect::Watched;

/// The shortest pause between two looks.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(4);
/// A topic is looked at again after this part of the time for which it has been quiet.
const PART_OF_QUIET: u32 = 200;
/// A look that takes long is followed by a pause of so many times as long.
const TIMES_A_LOOK: u32 = 4;

/// What was seen of one topic.
#[derive(Debug)]
struct Seen {
    mark: i64,
    changed_at: Instant,
    /// The version of the database at that look.
    version: Option<i64>,
}

/// What was seen of the topics over one connection. Those that were quiet for short are looked at often and the others
/// together at the watch's interval, so that the first message after a silence waits for a two-hundredth of it at
/// most, or for that interval.
#[derive(Debug)]
pub(super) struct Marks {
    interval: Duration,
    seen: HashMap<Watched, Seen>,
    /// When to look at all topics.
    all_at: Instant,
    /// When to look at those that are not quiet.
    lively_at: Instant,
}

impl Marks {
    pub(super) fn new(now: Instant) -> Self {
        Self { interval: PAUSE_MIN, seen: HashMap::new(), all_at: now, lively_at: now }
    }

    /// Sets the longest pause between two looks at a topic.
    pub(super) fn set_interval(&mut self, interval: Duration) {
        self.interval = interval.max(PAUSE_MIN);
    }

    /// Which of the topics to look at now.
    pub(super) fn to_look_at(&self, topics: &[Watched], now: Instant) -> Vec<Watched> {
        let is_wanted = |watched: &&Watched| {
            let pause = self.pause(watched, now);
            now >= self.all_at || (now >= self.lively_at && pause < self.interval)
        };
        topics.iter().filter(is_wanted).cloned().collect()
    }

    /// Which of those may be another than when they were looked at last, at this version of the database.
    pub(super) fn may_have_changed(&self, watched: &Watched, version: Option<i64>) -> bool {
        version.is_none() || self.seen.get(watched).is_none_or(|seen| seen.version != version)
    }

    /// Takes note of a mark; true when it is another one than before.
    pub(super) fn note(&mut self, watched: &Watched, mark: i64, version: Option<i64>, now: Instant) -> bool {
        match self.seen.get_mut(watched) {
            Some(seen) if seen.mark == mark => {
                seen.version = version;
                false
            }
            _ => {
                self.seen.insert(watched.clone(), Seen { mark, changed_at: now, version });
                true
            }
        }
    }

    /// A look at these has ended, which took so long.
    pub(super) fn looked_at(&mut self, topics: &[Watched], took: Duration, now: Instant) {
        let rest = took * TIMES_A_LOOK;
        if now >= self.all_at {
            self.all_at = now + self.interval.max(rest);
        }
        let pause = topics.iter().map(|watched| self.pause(watched, now)).min().unwrap_or(self.interval);
        self.lively_at = now + pause.max(rest);
    }

    /// Forgets the topics that nobody reads any more.
    pub(super) fn keep_only(&mut self, topics: &HashSet<&Watched>) {
        self.seen.retain(|watched, _| topics.contains(watched));
    }

    /// When to look again, of these topics.
    pub(super) fn look_at(&self, topics: &[Watched], now: Instant) -> Instant {
        match topics.iter().any(|watched| self.pause(watched, now) < self.interval) {
            true => self.lively_at.min(self.all_at),
            false => self.all_at,
        }
    }

    /// The pause between two looks at a topic.
    fn pause(&self, watched: &Watched, now: Instant) -> Duration {
        let Some(seen) = self.seen.get(watched) else { return self.interval };
        let quiet = now.saturating_duration_since(seen.changed_at);
        (quiet / PART_OF_QUIET).max(PAUSE_MIN).min(self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(16);
    const NO_TIME: Duration = Duration::ZERO;

    fn watched(name: &str) -> Watched {
        Watched { messages: name.to_owned(), numbers: name.to_owned() }
    }

    fn new_marks(now: Instant) -> Marks {
        let mut marks = Marks::new(now);
        marks.set_interval(INTERVAL);
        marks
    }

    /// Looks at what is to be looked at, where the marks are these, for so long; how often it looked at the first.
    fn looks(marks: &mut Marks, topics: &[Watched], mark: i64, from: Instant, duration: Duration) -> usize {
        let (mut now, mut looks) = (from, 0);
        while now < from + duration {
            let wanted = marks.to_look_at(topics, now);
            for watched in &wanted {
                marks.note(watched, mark, None, now);
            }
            marks.looked_at(&wanted, NO_TIME, now);
            looks += usize::from(wanted.contains(&topics[0]));
            now = marks.look_at(topics, now).max(now + Duration::from_millis(1));
        }
        looks
    }

    #[test]
    fn what_is_quiet_is_looked_at_at_the_interval_and_what_is_lively_more_often() {
        let (topics, start) = ([watched("a")], Instant::now());
        let mut marks = new_marks(start);
        let second = Duration::from_secs(1);
        let lively = looks(&mut marks, &topics, 1, start, second);
        assert!((200..=250).contains(&lively), "{lively} looks");
        let quiet = looks(&mut marks, &topics, 1, start + 10 * second, second);
        assert!((62..=63).contains(&quiet), "{quiet} looks");
    }

    #[test]
    fn one_lively_topic_does_not_have_the_others_looked_at_more_often() {
        let (topics, start) = ([watched("quiet"), watched("lively")], Instant::now());
        let mut marks = new_marks(start);
        looks(&mut marks, &topics, 1, start, Duration::from_secs(10));
        let now = start + Duration::from_secs(10);
        marks.note(&topics[1], 2, None, now);
        let (mut at, mut seen) = (now, 0);
        while at < now + Duration::from_secs(1) {
            let wanted = marks.to_look_at(&topics, at);
            seen += usize::from(wanted.contains(&topics[0]));
            marks.looked_at(&wanted, NO_TIME, at);
            at = marks.look_at(&topics, at).max(at + Duration::from_millis(1));
        }
        assert!(seen <= 63, "{seen} looks");
    }

    #[test]
    fn a_look_that_takes_long_makes_the_pause_longer() {
        let (topics, start) = ([watched("a")], Instant::now());
        let mut marks = new_marks(start);
        marks.note(&topics[0], 1, None, start);
        let took = Duration::from_millis(100);
        marks.looked_at(&topics, took, start + took);
        assert_eq!(marks.look_at(&topics, start + took), start + took + took * TIMES_A_LOOK);
    }

    #[test]
    fn the_first_mark_is_news_and_the_same_again_is_not() {
        let mut marks = new_marks(Instant::now());
        let now = Instant::now();
        assert!(marks.note(&watched("a"), 0, None, now));
        assert!(!marks.note(&watched("a"), 0, None, now));
        // Also one that is lower: the counter has begun anew.
        assert!(marks.note(&watched("a"), 7, None, now));
        assert!(marks.note(&watched("a"), 1, None, now));
    }

    #[test]
    fn nothing_is_asked_about_a_topic_while_the_database_is_the_same() {
        let mut marks = new_marks(Instant::now());
        assert!(marks.may_have_changed(&watched("a"), Some(1)));
        marks.note(&watched("a"), 0, Some(1), Instant::now());
        assert!(!marks.may_have_changed(&watched("a"), Some(1)));
        assert!(marks.may_have_changed(&watched("a"), Some(2)));
        assert!(marks.may_have_changed(&watched("a"), None));
    }
}
