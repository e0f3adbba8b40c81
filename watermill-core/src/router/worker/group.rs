//! [`Groups`]: the outputs of a batch, published together.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tracing::{Instrument, Span, instrument::Instrumented};

use crate::{
    Outputs,
    error::BoxError,
    handling::while_handling,
    message::{Spans, spans::MadeIn},
    panic::catch,
    router::{shared_error::SharedError, sink::Sink},
};

/// Outputs of messages that were handled together, by the slots of their lanes. One group is on its way at a
/// time, so that the order of batches is kept with any publisher.
#[derive(Default)]
pub(super) struct Groups<'w> {
    /// What waits to be published: the number of the delivery, for the order, and the slot.
    next: Vec<(u64, usize)>,
    /// What is being published, and the call.
    current: Option<(Vec<Member>, Instrumented<Call<'w>>)>,
    /// Slots whose outputs are not to be published after all.
    dropped: Vec<usize>,
}

/// The slot of outputs, and the span that they were made in.
type Member = (usize, Option<MadeIn>);

type Call<'w> = BoxFuture<'w, Vec<Result<(), BoxError>>>;

impl<'w> Groups<'w> {
    pub(super) fn add(&mut self, number: u64, slot: usize) {
        self.next.push((number, slot));
    }

    pub(super) fn is_idle(&self) -> bool {
        self.current.is_none()
    }

    /// Begins to publish what waits. `take` returns the outputs of a slot and the span that they
    /// were made in, unless they are not to be published.
    pub(super) fn begin(
        &mut self,
        sink: &'w Sink,
        mut take: impl FnMut(usize) -> Option<(Outputs, Option<MadeIn>)>,
    ) {
        let mut next = std::mem::take(&mut self.next);
        next.sort_unstable();
        let mut members = Vec::with_capacity(next.len());
        let mut outputs = Vec::with_capacity(next.len());
        for (_, slot) in next {
            match take(slot) {
                Some((taken, made_in)) => {
                    members.push((slot, made_in));
                    outputs.push(taken);
                }
                None => self.dropped.push(slot),
            }
        }
        if !members.is_empty() {
            let call: Call<'w> = Box::pin(sink.publish_together(outputs));
            let span =
                members.iter().find_map(|(_, made_in)| made_in.as_ref()).map(|made_in| made_in.span.clone());
            self.current = Some((members, call.instrument(span.unwrap_or_else(Span::none))));
        }
    }

    /// What became of the outputs of each slot, once it is known of all. Whoever makes the spans is told of what was
    /// refused.
    pub(super) fn poll(
        &mut self,
        spans: Option<&dyn Spans>,
        cx: &mut Context<'_>,
    ) -> Option<Vec<(usize, Result<(), BoxError>)>> {
        let (members, call) = self.current.as_mut()?;
        let results = match catch(|| while_handling(|| Pin::new(&mut *call).poll(cx))) {
            Ok(Poll::Pending) => return None,
            Ok(Poll::Ready(results)) => results,
            Err(panicked) => {
                let shared = SharedError::new("publish the outputs of the batch", panicked);
                members.iter().map(|_| Err(shared.clone().into())).collect()
            }
        };
        let members = std::mem::take(members);
        self.current = None;
        if let Some(spans) = spans {
            refused(spans, &members, &results);
        }
        Some(members.into_iter().map(|(slot, _)| slot).zip(results).collect())
    }

    pub(super) fn take_dropped(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.dropped)
    }
}

/// Tells each span once that outputs which were made in it were refused, unless it has failed for another reason.
fn refused(spans: &dyn Spans, members: &[Member], results: &[Result<(), BoxError>]) {
    let mut told = Vec::new();
    for ((_, made_in), result) in members.iter().zip(results) {
        if let (Some(MadeIn { span, has_failed: false }), Err(error)) = (made_in, result)
            && !told.contains(&span.id())
        {
            spans.failed(span, &**error);
            told.push(span.id());
        }
    }
}
