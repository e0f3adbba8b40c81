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
    panic::catch,
    router::{shared_error::SharedError, sink::Sink},
};

/// Outputs of messages that were handled together, by the slots of their lanes. One group is on its way at a
/// time, so that the order of batches is kept with any publisher.
#[derive(Default)]
pub(super) struct Groups<'w> {
    /// What waits to be published: the number of the delivery, for the order, and the slot.
    next: Vec<(u64, usize)>,
    /// The slots of what is being published, and the call.
    current: Option<(Vec<usize>, Instrumented<Call<'w>>)>,
    /// Slots whose outputs are not to be published after all.
    dropped: Vec<usize>,
}

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
        mut take: impl FnMut(usize) -> Option<(Outputs, Option<Span>)>,
    ) {
        let mut made_in = None;
        let mut members = std::mem::take(&mut self.next);
        members.sort_unstable();
        let mut slots = Vec::with_capacity(members.len());
        let mut outputs = Vec::with_capacity(members.len());
        for (_, slot) in members {
            match take(slot) {
                Some((taken, span)) => {
                    slots.push(slot);
                    made_in = made_in.or(span);
                    outputs.push(taken);
                }
                None => self.dropped.push(slot),
            }
        }
        if !slots.is_empty() {
            let call: Call<'w> = Box::pin(sink.publish_together(outputs));
            let span = made_in.unwrap_or_else(Span::none);
            self.current = Some((slots, call.instrument(span)));
        }
    }

    /// What became of the outputs of each slot, once it is known of all.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Option<Vec<(usize, Result<(), BoxError>)>> {
        let (slots, call) = self.current.as_mut()?;
        let results = match catch(|| while_handling(|| Pin::new(&mut *call).poll(cx))) {
            Ok(Poll::Pending) => return None,
            Ok(Poll::Ready(results)) => results,
            Err(panicked) => {
                let shared = SharedError::new("publish the outputs of the batch", panicked);
                slots.iter().map(|_| Err(shared.clone().into())).collect()
            }
        };
        let slots = std::mem::take(slots);
        self.current = None;
        Some(slots.into_iter().zip(results).collect())
    }

    pub(super) fn take_dropped(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.dropped)
    }
}
