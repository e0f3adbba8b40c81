//! Commits that nobody waits for to their end.

use std::{future::poll_fn, pin::pin, task::Poll};

use watermill_core::{error::PublishError, fenced::FencedPublisher as _};

use crate::{outgoing, publisher, server::Server, texts};

const BATCHES: usize = 60;
const SIZE: usize = 7;

pub(crate) async fn commits_that_are_dropped_anywhere_happen_whole_or_not_at_all<S: Server>() {
    let server = S::default();
    let pool = server.connect().await;
    let publisher = publisher::<S>(&pool);
    let mut term = publisher.begin("relay").await.unwrap();
    let (mut done, mut dropped, mut polls) = (0, 0, 0);
    while done < BATCHES {
        let batch = vec![outgoing("t", done * SIZE..(done + 1) * SIZE)];
        // One poll more each time, up to more than it takes; a poll is what becomes of one answer of the server.
        polls = (polls + 1) % 24;
        if committed_within(polls, term.commit(batch, done.to_string().into())).await {
            done += 1;
            continue;
        }
        dropped += 1;
        term = publisher.begin("relay").await.unwrap();
        let last = term.checkpoint().map(|checkpoint| String::from_utf8(checkpoint.to_vec()).unwrap());
        if last == Some(done.to_string()) {
            done += 1;
        }
    }
    assert!(dropped > 10, "{dropped} commits were dropped");
    let expected: Vec<String> = (0..BATCHES * SIZE).map(|number| number.to_string()).collect();
    assert_eq!(texts::<S>(&pool, "t").await, expected);
}

/// Whether a commit succeeds within so many polls.
async fn committed_within(mut polls: usize, commit: impl Future<Output = Result<(), PublishError>>) -> bool {
    let mut commit = pin!(commit);
    let end = poll_fn(|context| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= 1;
        commit.as_mut().poll(context).map(Some)
    });
    matches!(end.await, Some(Ok(())))
}
