//! The spans of calls, where somebody makes them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tracing::{Span, level_filters::LevelFilter};
use watermill_core::{
    Message,
    error::PublishError,
    message::{Forwarding, Spans},
};

/// The span of one call, and who made it.
pub(crate) struct CallSpan<'a> {
    spans: Option<&'a Arc<dyn Spans>>,
    span: Span,
}

impl<'a> CallSpan<'a> {
    /// None where nobody makes spans, or nobody listens. `source` is the topic that is read, `backend` where it is
    /// published to.
    pub(crate) fn new<'m>(
        spans: Option<&'a Arc<dyn Spans>>,
        (source, backend): (&str, &str),
        destination: Option<&str>,
        messages: impl Iterator<Item = &'m Message>,
    ) -> Self {
        let spans = spans.filter(|spans| LevelFilter::current() != LevelFilter::OFF && spans.are_wanted());
        let span = spans.map_or_else(Span::none, |spans| {
            let messages: Vec<_> = messages.collect();
            spans.forward(&Forwarding::new(source, backend, &messages).to(destination))
        });
        Self { spans, span }
    }

    pub(crate) fn get(&self) -> Span {
        self.span.clone()
    }

    /// Says how it has ended: for how long the oldest had been in the source of what was accepted, and why the rest was not.
    pub(crate) fn ended(&self, oldest: Option<Option<SystemTime>>, error: Option<&PublishError>) {
        let Some(spans) = self.spans else { return };
        if let Some(oldest) = oldest {
            spans.forwarded(&self.span, oldest.map(age));
        }
        if let Some(error) = error {
            spans.failed(&self.span, error);
        }
    }
}

/// How long ago that was, by this machine's clock; nothing where the source's clock is ahead.
pub(crate) fn age(written_at: SystemTime) -> Duration {
    written_at.elapsed().unwrap_or_default()
}
