//! [`ask`]: one question about many topics.

use std::time::Duration;

use tokio::time::Instant;

use super::dialect::{WatchDialect, Watched};
use crate::{
    connection::within,
    error::{Failure, classify},
};

/// How long the database may take for an answer: the connection may be half open, a table locked.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How many topics one statement is about.
const TOPICS_MAX: usize = 200;
/// For how long nothing is asked about a topic that the database refused to tell of.
const REFUSED: Duration = Duration::from_secs(30);

/// The topics that the database refuses to tell of: a table is gone, or may not be read. They would keep it from
/// telling of the others. Each with the reason, and until when it is not asked about.
#[derive(Debug, Default)]
pub(super) struct Refused(Vec<(Watched, String, Instant)>);

impl Refused {
    /// Those may be asked about again for which it is time.
    pub(super) fn forget(&mut self, now: Instant) {
        self.0.retain(|(.., until)| now < *until);
    }

    /// Why nothing is asked about a topic.
    pub(super) fn reason(&self, watched: &Watched) -> Option<&str> {
        self.0.iter().find(|(refused, ..)| refused == watched).map(|(_, reason, _)| reason.as_str())
    }

    fn add(&mut self, watched: &Watched, why: &Failure) {
        let reason = why.text();
        tracing::warn!(
            table = watched.messages,
            reason,
            "not watching this table for messages; polling goes on"
        );
        self.0.push((watched.clone(), reason, Instant::now() + REFUSED));
    }
}

/// Asks about these topics, and about each alone where the database refuses to answer for all.
pub(super) async fn ask<D: WatchDialect, T>(
    connection: &mut D::Connection,
    watched: &[Watched],
    refused: &mut Refused,
    question: impl AsyncFn(&mut D::Connection, &[Watched]) -> sqlx::Result<Vec<T>>,
) -> Result<Vec<(Watched, T)>, Failure> {
    let mut answers = Vec::with_capacity(watched.len());
    for chunk in watched.chunks(TOPICS_MAX) {
        match answer::<D, T>(connection, chunk, &question).await? {
            Ok(answered) => answers.extend(chunk.iter().cloned().zip(answered)),
            Err(why) if chunk.len() == 1 => refused.add(&chunk[0], &why),
            Err(_) => {
                for watched in chunk {
                    match answer::<D, T>(connection, std::slice::from_ref(watched), &question).await? {
                        Ok(answered) => {
                            answers.extend(answered.into_iter().map(|answer| (watched.clone(), answer)))
                        }
                        Err(why) => refused.add(watched, &why),
                    }
                }
            }
        }
    }
    Ok(answers)
}

/// An answer, or why the database refuses one to that question; a failure that passes is the connection's.
async fn answer<D: WatchDialect, T>(
    connection: &mut D::Connection,
    watched: &[Watched],
    question: &impl AsyncFn(&mut D::Connection, &[Watched]) -> sqlx::Result<Vec<T>>,
) -> Result<Result<Vec<T>, Failure>, Failure> {
    within(ANSWER_MAX, async {
        match question(connection, watched).await.map_err(classify::<D>) {
            Err(failure) if failure.is_passing() => Err(failure),
            answered => Ok(answered),
        }
    })
    .await
}
