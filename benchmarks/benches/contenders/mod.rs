//! [`Contender`]: a workload of ours or of the rival's.

pub(crate) mod rival;

use tracing::subscriber::DefaultGuard;
use watermill_benchmarks::Workload;

/// A workload, and whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    Ours(Workload),
    Rival(rival::Workload),
}

impl Contender {
    /// Every workload: the floor, the rival's, ours.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let (floor, ours) = Workload::ALL.split_first().expect("there are some");
        let rival = rival::Workload::ALL.into_iter().map(Self::Rival);
        [Self::Ours(*floor)].into_iter().chain(rival).chain(ours.iter().copied().map(Self::Ours))
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ours(workload) => workload.name(),
            Self::Rival(workload) => workload.name(),
        }
    }

    /// The log that the workload runs with, until the guard is dropped; to be called once on a thread.
    pub(crate) fn log(self) -> Option<DefaultGuard> {
        match self {
            Self::Ours(workload) => workload.log(),
            Self::Rival(_) => None,
        }
    }

    /// Sets everything up; the returned [`Running`] moves messages.
    pub(crate) async fn start(self) -> Running {
        match self {
            Self::Ours(workload) => Running::Ours(workload.start().await),
            Self::Rival(workload) => Running::Rival(workload.start().await),
        }
    }
}

/// A workload that is set up.
pub(crate) enum Running {
    Ours(watermill_benchmarks::Running),
    Rival(rival::Running),
}

impl Running {
    /// Moves `messages` messages and waits until the last is handled.
    pub(crate) async fn move_messages(&self, messages: u64) {
        match self {
            Self::Ours(running) => running.move_messages(messages).await,
            Self::Rival(running) => running.move_messages(messages).await,
        }
    }

    /// Ends it.
    pub(crate) async fn stop(self) {
        match self {
            Self::Ours(running) => running.stop(),
            Self::Rival(running) => running.stop().await,
        }
    }
}
