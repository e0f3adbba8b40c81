//! [`Verdict`]: what an error says about its message.

use std::{error::Error, fmt, sync::Arc};

use super::{BoxError, Nack, Permanent, PublishError, PublishErrorKind, find};

/// What an error says about its message: the one decision that policies and layers take from it.
///
/// | verdict | [`FailurePolicy`](crate::FailurePolicy) | [`Retry`](crate::middleware::Retry) | [`PoisonQueue`](crate::middleware::PoisonQueue) | [`CircuitBreaker`](crate::middleware::CircuitBreaker) |
/// |---|---|---|---|---|
/// | `Retry` | tries again in place, then goes where the policy ends | tries again, then passes the error on | dead-letters | counts |
/// | `GiveUp` | goes where the policy ends | passes the error on | dead-letters | does not count |
/// | `Ignore` | acks | succeeds without outputs | succeeds without outputs | does not count |
/// | `Nack` | nacks | passes the error on | passes the error on | does not count |
///
/// Each takes a function that decides, with its `classify`; without one it asks [`Verdict::of`]. An error that
/// is marked with [`Nack`] is not put to such a function, and one that a layer's function says `Nack` of is
/// marked with it on its way out, so that what stands outside keeps to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It may work next time.
    Retry,
    /// It will not: skip the remaining retries.
    GiveUp,
    /// It does not matter: ack the message.
    Ignore,
    /// Not now, and not the message's fault: give it back. No try is counted, and the message is neither
    /// dead-lettered nor dropped.
    Nack,
}

impl Verdict {
    /// What an error says by itself.
    ///
    /// - `Nack`: what is marked with [`Nack`], a duplicate [in progress](crate::middleware::InProgress) for
    ///   instance, or a dead letter that [could not be published](crate::dead_letter::DeadLetterError); and a
    ///   publisher that was closed or fenced, which no message has more luck with.
    /// - `GiveUp`: what is [`Permanent`], and every other [`PublishError`] that is not retryable.
    /// - `Retry`: everything else, an unavailable broker, a timeout, a panic and an interrupted batch included.
    ///   Those may be the message's doing (one that is always too slow, or makes its handler panic), so the
    ///   retries bound them.
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        if Nack::is(error) {
            return Self::Nack;
        }
        if Permanent::is(error) {
            return Self::GiveUp;
        }
        match find::<PublishError>(error).map(PublishError::kind) {
            None | Some(PublishErrorKind::Unavailable | PublishErrorKind::Timeout) => Self::Retry,
            Some(PublishErrorKind::Closed | PublishErrorKind::Fenced) => Self::Nack,
            Some(
                PublishErrorKind::Topic
                | PublishErrorKind::Message
                | PublishErrorKind::Unsupported
                | PublishErrorKind::Refused,
            ) => Self::GiveUp,
        }
    }
}

/// How a policy or a layer decides: by a function of the user's, or by [`Verdict::of`].
#[derive(Clone, Default)]
pub(crate) struct Classifier(Option<Arc<Classify>>);

type Classify = dyn Fn(&(dyn Error + 'static)) -> Verdict + Send + Sync;

impl Classifier {
    pub(crate) fn new(classify: impl Fn(&(dyn Error + 'static)) -> Verdict + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(classify)))
    }

    pub(crate) fn verdict(&self, error: &(dyn Error + 'static)) -> Verdict {
        match &self.0 {
            Some(classify) if !Nack::is(error) => classify(error),
            _ => Verdict::of(error),
        }
    }

    /// The verdict, and the error as it is passed on: marked, if that is the verdict.
    pub(crate) fn judge(&self, error: BoxError) -> (Verdict, BoxError) {
        match self.verdict(&*error) {
            Verdict::Nack if !Nack::is(&*error) => (Verdict::Nack, Nack::new(error).into()),
            verdict => (verdict, error),
        }
    }
}

impl fmt::Debug for Classifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Classifier(custom)" } else { "Classifier(Verdict::of)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;

    fn publishing(kind: PublishErrorKind) -> BoxError {
        PublishError::new(kind, "out").into()
    }

    #[test]
    fn errors_speak_for_themselves() {
        use PublishErrorKind::{Closed, Fenced, Message, Refused, Timeout, Topic, Unavailable, Unsupported};
        let cases = [
            (Verdict::Retry, vec!["boom".into(), publishing(Unavailable), publishing(Timeout)]),
            (Verdict::GiveUp, vec![Permanent::new("never").into()]),
            (Verdict::GiveUp, [Topic, Message, Unsupported, Refused].map(publishing).into()),
            (Verdict::Nack, vec![Nack::new("not now").into(), publishing(Closed), publishing(Fenced)]),
        ];
        for (verdict, errors) in cases {
            for error in errors {
                assert_eq!(Verdict::of(&*error), verdict, "{error}");
            }
        }
    }

    #[test]
    fn not_now_is_stronger_than_never_and_is_seen_behind_other_errors() {
        let errors: [BoxError; 3] = [
            Permanent::new(Nack::new("busy")).into(),
            Nack::new(Permanent::new("busy")).into(),
            PublishError::new(PublishErrorKind::Message, "out").with_source(Nack::new("busy")).into(),
        ];
        for error in errors {
            assert_eq!(Verdict::of(&*error), Verdict::Nack, "{error:?}");
        }
        assert_eq!(chain(&Nack::new("busy")), "busy");
    }

    #[test]
    fn no_function_is_asked_about_what_is_marked_and_what_one_gives_back_is_marked() {
        let harsh = Classifier::new(|_| Verdict::Ignore);
        assert_eq!(harsh.verdict(&Nack::new("busy")), Verdict::Nack);
        assert_eq!(harsh.verdict(&fmt::Error), Verdict::Ignore);

        let patient = Classifier::new(|_| Verdict::Nack);
        let (verdict, error) = patient.judge(fmt::Error.into());
        assert_eq!(verdict, Verdict::Nack);
        assert!(Nack::is(&*error) && find::<fmt::Error>(&*error).is_some());
    }
}
