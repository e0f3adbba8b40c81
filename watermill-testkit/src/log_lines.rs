//! [`LogLines`]: what is logged, as tests see it.

use std::{
    collections::VecDeque,
    fmt::{self, Write as _},
    sync::{Arc, LazyLock},
};

use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::{DefaultGuard, NoSubscriber},
};

use crate::wait::Watched;

/// How many lines are kept that nobody has taken; beyond, the newest are not.
const KEPT_MAX: usize = 10_000;

/// While there is but one subscriber in the process, an event that another thread, which has none, is the
/// first to come to is switched off for all. So there are two.
static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::new()));

/// Keeps what is logged while it lives, of the level `DEBUG` and above, so that tests can say what an operator is told.
///
/// ```
/// use watermill_testkit::LogLines;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let mut lines = LogLines::of_this_thread("my_service");
/// tracing::warn!(target: "my_service::orders", order = 7, "an order is late");
/// let line = lines.next_about(tracing::Level::WARN, "is late").await;
/// assert_eq!(line.text, "an order is late order=7");
/// # });
/// ```
#[derive(Debug)]
pub struct LogLines {
    kept: Arc<Watched<VecDeque<LogLine>>>,
    _guard: Option<DefaultGuard>,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// The module that has logged it, or what it says instead.
    pub target: String,
    /// The message, and then `name=value` for each field, in their order.
    pub text: String,
}

impl LogLines {
    /// Of the thread it is made on, which is all there are in a test without worker threads, and of the targets that
    /// contain `target`: the name of a crate, for one.
    pub fn of_this_thread(target: &str) -> Self {
        LazyLock::force(&ANOTHER);
        let keeper = Keeper::new(target);
        let kept = keeper.kept.clone();
        Self { kept, _guard: Some(tracing::subscriber::set_default(keeper)) }
    }

    /// Of all threads; for a test that is alone in its process.
    ///
    /// # Panics
    ///
    /// When the process has such a log already.
    pub fn of_the_process(target: &str) -> Self {
        let keeper = Keeper::new(target);
        let kept = keeper.kept.clone();
        tracing::subscriber::set_global_default(keeper).expect("the log of a process is kept once");
        Self { kept, _guard: None }
    }

    /// Takes the lines up to the next one whose text contains `what`, and returns that; waits for it.
    ///
    /// # Panics
    ///
    /// When it is of another level, and after [`patience`](crate::patience).
    ///
    /// # Cancel safety
    ///
    /// Nothing is taken before that line is there.
    pub async fn next_about(&mut self, level: Level, what: &str) -> LogLine {
        let find = |kept: &VecDeque<LogLine>| kept.iter().position(|line| line.text.contains(what));
        let seen = |kept: &VecDeque<LogLine>| format!("{kept:?}");
        let at = self.kept.expect(&format!("a line about {what:?}"), find, seen).await;
        let line = self.kept.change(|kept| kept.drain(..=at).next_back());
        let line = line.expect("nobody else takes lines");
        assert_eq!(line.level, level, "{line:?}");
        line
    }

    /// Takes all lines that there are, of a level and above.
    pub fn take(&mut self, level: Level) -> Vec<LogLine> {
        let taken = self.kept.change(std::mem::take);
        taken.into_iter().filter(|line| line.level <= level).collect()
    }
}

/// The lines' subscriber. Spans do not interest it.
struct Keeper {
    target: String,
    kept: Arc<Watched<VecDeque<LogLine>>>,
}

impl Keeper {
    fn new(target: &str) -> Self {
        Self { target: target.to_owned(), kept: Arc::default() }
    }
}

impl Subscriber for Keeper {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG && metadata.target().contains(&self.target)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        let line = LogLine {
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            text: text.message + &text.fields,
        };
        self.kept.change(|kept| {
            if kept.len() < KEPT_MAX {
                kept.push_back(line);
            }
        });
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
        written.expect("a string takes all");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_of_other_targets_and_details_are_not_kept() {
        let mut lines = LogLines::of_this_thread("testkit");
        tracing::info!(target: "another", "not this");
        tracing::trace!("nor this");
        tracing::debug!(n = 1, name = "a", "first");
        tracing::warn!(error = %"no room", "second");
        assert_eq!(lines.next_about(Level::WARN, "second").await.text, "second error=no room");
        assert_eq!(lines.take(Level::TRACE), [], "what came before was taken");
        tracing::debug!(n = 1, name = "a", "first");
        tracing::error!("third");
        let taken = lines.take(Level::WARN);
        assert_eq!((taken.len(), taken[0].level, &*taken[0].text), (1, Level::ERROR, "third"));
    }

    #[tokio::test]
    async fn what_nobody_takes_is_kept_up_to_a_bound() {
        let mut lines = LogLines::of_this_thread("testkit");
        (0..=KEPT_MAX).for_each(|n| tracing::debug!(n, "one more"));
        assert_eq!(lines.take(Level::DEBUG).len(), KEPT_MAX);
    }
}
