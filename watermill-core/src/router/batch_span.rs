//! [`BatchSpan`]: the one span that the messages of a batch are handled in.

use std::sync::Arc;

use tracing::Span;

use super::{
    Outputs,
    batch::{BatchInterrupted, Outcomes},
};
use crate::{HandlerInfo, Message, message::spans::MadeIn};

/// The span of a batch, where somebody else makes the spans. One that is dropped before the batch has ended has failed.
pub(super) struct BatchSpan(Option<(Arc<HandlerInfo>, Span)>);

impl BatchSpan {
    pub(super) fn of(messages: &[Message]) -> Self {
        let handler = messages.first().and_then(Message::handler_shared);
        Self(handler.and_then(|handler| {
            let span = handler.wanted_spans()?.process(handler, messages);
            Some((handler.clone(), span))
        }))
    }

    /// The span, which is none where nobody listens.
    pub(super) fn get(&self) -> Span {
        self.0.as_ref().map_or_else(Span::none, |(_, span)| span.clone())
    }

    /// Says that it has failed if a message of it has, and lets what was made of the others be published in it.
    pub(super) fn ended(mut self, outcomes: &mut Outcomes) {
        let Some((handler, span)) = self.0.take() else { return };
        let error = outcomes.iter().find_map(|outcome| outcome.as_ref().err());
        let has_failed = error.is_some();
        if let (Some(error), Some(spans)) = (error, handler.spans()) {
            spans.failed(&span, &**error);
        }
        for message in outcomes.iter_mut().flatten().flat_map(Outputs::iter_mut) {
            message.extensions_mut().insert(MadeIn { span: span.clone(), has_failed });
        }
    }
}

impl Drop for BatchSpan {
    fn drop(&mut self) {
        if let Some((handler, span)) = &self.0
            && let Some(spans) = handler.spans()
        {
            spans.failed(span, &BatchInterrupted(()));
        }
    }
}
