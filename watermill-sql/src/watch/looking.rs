//! [`Looking`]: the loop of a watch, over a connection of its own, which is not taken from the user's pool: handlers
//! may have all of that.
//!
//! Nothing here fails: what cannot be asked is tried again with growing waits, and readers ask by themselves meanwhile.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sqlx::Connection;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use watermill_core::Backoff;

use super::{
    asking::{ANSWER_MAX, Refused, ask},
    dialect::{WatchDialect, Watched},
    marks::Marks,
    topics::{Seated, Topics},
};
use crate::{
    connection::within,
    error::{Failure, classify},
    wake,
};

/// How long the server is waited for when the connection is closed; it notices anyway.
const CLOSE_MAX: Duration = Duration::from_secs(1);

type Options<D> = Arc<<<D as sqlx::Database>::Connection as Connection>::Options>;

pub(super) struct Looking<D: WatchDialect> {
    options: Options<D>,
    topics: Arc<Topics>,
    retry: Backoff,
}

/// What is known over one connection.
struct Known {
    marks: Marks,
    /// When to ask whether messages are due.
    due_at: Instant,
    refused: Refused,
}

/// Says that nobody looks any more, also when the runtime ends the task.
struct GiveUp(Arc<Topics>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.give_up("whoever watches has ended");
    }
}

impl<D: WatchDialect> Looking<D> {
    pub(super) fn new(options: Options<D>, topics: Arc<Topics>, retry: Backoff) -> Self {
        Self { options, topics, retry }
    }

    /// Looks until there is nobody to look for.
    pub(super) async fn go_on(self, end: CancellationToken) {
        let _ended = GiveUp(self.topics.clone());
        // Without an answer in between.
        let mut failures = 0;
        while let Some(connected) = end.run_until_cancelled(self.connect()).await {
            let failure = match connected {
                Ok(mut connection) => {
                    let looking = self.look_over(&mut connection, &mut failures);
                    let Some(failure) = end.run_until_cancelled(looking).await else {
                        let _ = timeout(CLOSE_MAX, connection.close()).await;
                        return;
                    };
                    failure
                }
                Err(failure) => failure,
            };
            let (reason, wait) = (failure.text(), self.retry.delay(failures));
            self.topics.give_up(&reason);
            if failures == 0 {
                tracing::warn!(reason, ?wait, "not watching for messages, trying again; polling goes on");
            } else {
                tracing::debug!(reason, ?wait, failures, "still not watching for messages");
            }
            failures = failures.saturating_add(1);
            end.run_until_cancelled(sleep(wait)).await;
        }
    }

    async fn connect(&self) -> Result<D::Connection, Failure> {
        let connecting = async { D::Connection::connect_with(&self.options).await.map_err(classify::<D>) };
        within(ANSWER_MAX, connecting).await
    }

    /// Looks over a connection until that fails.
    async fn look_over(&self, connection: &mut D::Connection, failures: &mut u32) -> Failure {
        let now = Instant::now();
        let mut known = Known { marks: Marks::new(now), due_at: now, refused: Refused::default() };
        loop {
            let seated = self.topics.all();
            let resting: Vec<&Seated> =
                seated.iter().map(|seated| &**seated).filter(|seated| seated.rests()).collect();
            if resting.is_empty() {
                // Nobody is to be told of trouble that is over, however long all are busy.
                if *failures > 0
                    && let Err(failure) = ping::<D>(connection).await
                {
                    return failure;
                }
                self.recovered(failures);
                self.topics.at_rest.notified().await;
                continue;
            }
            known.marks.keep_only(&seated.iter().map(|seated| seated.watched()).collect());
            let next = match known.look::<D>(connection, &resting).await {
                Ok(next) => next,
                Err(failure) => return failure,
            };
            self.recovered(failures);
            sleep_until(next).await;
        }
    }

    /// There was an answer.
    fn recovered(&self, failures: &mut u32) {
        if std::mem::take(failures) > 0 {
            tracing::info!("watching for messages again");
            self.topics.recover();
        }
    }
}

async fn ping<D: WatchDialect>(connection: &mut D::Connection) -> Result<(), Failure> {
    within(ANSWER_MAX, async { connection.ping().await.map_err(classify::<D>) }).await
}

impl Known {
    /// Looks at what it is time for, and says when it is time for more.
    async fn look<D: WatchDialect>(
        &mut self,
        connection: &mut D::Connection,
        resting: &[&Seated],
    ) -> Result<Instant, Failure> {
        self.refused.forget(Instant::now());
        let topics = self.distinct(resting.iter().map(|seated| seated.watched()));
        self.look_at_marks::<D>(connection, resting, &topics).await?;
        let marks_at = self.marks.look_at(&topics, Instant::now());
        let due_interval = resting.iter().filter_map(|seated| seated.wanted.due_interval).min();
        let Some(due_interval) = due_interval else { return Ok(marks_at) };
        if self.due_at <= Instant::now() {
            self.ask_whether_due::<D>(connection, resting).await?;
            self.due_at = Instant::now() + due_interval;
        }
        Ok(marks_at.min(self.due_at))
    }

    async fn look_at_marks<D: WatchDialect>(
        &mut self,
        connection: &mut D::Connection,
        resting: &[&Seated],
        topics: &[Watched],
    ) -> Result<(), Failure> {
        let begun = Instant::now();
        self.marks
            .set_interval(resting.iter().map(|seated| seated.wanted.interval).min().unwrap_or_default());
        let wanted = self.marks.to_look_at(topics, begun);
        if wanted.is_empty() {
            return Ok(());
        }
        let version = async { D::version(connection).await.map_err(classify::<D>) };
        let version = within(ANSWER_MAX, version).await?;
        let may_be_new = |watched: &&Watched| self.marks.may_have_changed(watched, version);
        let asked: Vec<Watched> = wanted.iter().filter(may_be_new).cloned().collect();
        let question =
            async |connection: &mut D::Connection, topics: &[Watched]| D::marks(connection, topics).await;
        let marks = ask::<D, i64>(connection, &asked, &mut self.refused, question).await?;
        let now = Instant::now();
        for (watched, mark) in marks {
            if self.marks.note(&watched, mark, version, now) {
                wake_those(resting, &watched);
            }
        }
        for seated in resting {
            let refused = self.refused.reason(seated.watched());
            if refused.is_some() || wanted.contains(seated.watched()) {
                seated.is_watched.store(refused.is_none(), Ordering::Relaxed);
                seated.set_trouble(refused);
            }
        }
        self.marks.looked_at(&wanted, now - begun, now);
        Ok(())
    }

    async fn ask_whether_due<D: WatchDialect>(
        &mut self,
        connection: &mut D::Connection,
        resting: &[&Seated],
    ) -> Result<(), Failure> {
        let queues = resting.iter().filter(|seated| seated.wanted.due_interval.is_some());
        let queues = self.distinct(queues.map(|seated| seated.watched()));
        let question =
            async |connection: &mut D::Connection, queues: &[Watched]| D::due(connection, queues).await;
        for (watched, is_due) in ask::<D, bool>(connection, &queues, &mut self.refused, question).await? {
            if is_due {
                wake_those(resting, &watched);
            }
        }
        Ok(())
    }

    /// Each once, and none that the database refuses to tell of. In an order of their own, so that the same ones make
    /// the same statement.
    fn distinct<'s>(&self, watched: impl Iterator<Item = &'s Watched>) -> Vec<Watched> {
        let distinct: BTreeSet<&Watched> =
            watched.filter(|watched| self.refused.reason(watched).is_none()).collect();
        distinct.into_iter().cloned().collect()
    }
}

fn wake_those(resting: &[&Seated], watched: &Watched) {
    for seated in resting.iter().filter(|seated| seated.watched() == watched) {
        wake::wake(&seated.wanted.topic);
    }
}
