//! The only mapping from native errors to those of the core, with what is retryable.

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};
use watermill_core::error::{BoxError, PublishError, PublishErrorKind, SubscribeError, SubscribeErrorKind};

/// What is wrong, in terms of what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nobody home, or busy: try again.
    Unavailable,
    /// No word in time: a message may have been written.
    Timeout,
    /// The topic is missing, or cannot be one.
    Topic,
    /// A message is too large.
    Message,
    /// The configuration cannot work.
    Config,
    /// Somebody else of the same name has begun.
    Fenced,
    /// For good, until somebody has changed something.
    Refused,
}

/// A native error, or a finding of our own, and what is wrong.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) trouble: Trouble,
    detail: Option<String>,
    source: Option<BoxError>,
}

impl Failure {
    /// What a native error means.
    pub(crate) fn of(error: KafkaError) -> Self {
        let trouble = match &error {
            KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) | KafkaError::Nul(_) => {
                Trouble::Config
            }
            KafkaError::MessageConsumptionFatal(_) => Trouble::Refused,
            error => error.rdkafka_error_code().map_or(Trouble::Unavailable, trouble),
        };
        Self { trouble, detail: None, source: Some(error.into()) }
    }

    /// What a native error means for a subscription that is running, and goes on by itself.
    pub(crate) fn while_reading(error: KafkaError) -> Self {
        let failure = Self::of(error);
        if failure.trouble != Trouble::Topic {
            return failure;
        }
        Self { trouble: Trouble::Unavailable, ..failure }
            .explained("a topic is missing; reading goes on when it is there")
    }

    /// What the code of an error means.
    pub(crate) fn of_code(code: Code) -> Self {
        Self { trouble: trouble(code), detail: None, source: Some(code.into()) }
    }

    /// Whether a message failed because its client had failed for good before, and not for itself.
    pub(crate) fn is_of_dead_client(&self) -> bool {
        let codes = [Code::Fatal, Code::PurgeQueue, Code::PurgeInflight];
        let of_client =
            |error: &KafkaError| error.rdkafka_error_code().is_some_and(|code| codes.contains(&code));
        self.source.as_ref().and_then(|source| source.downcast_ref()).is_some_and(of_client)
    }

    /// A finding of our own.
    pub(crate) fn because(trouble: Trouble, detail: impl Into<String>) -> Self {
        Self { trouble, detail: Some(detail.into()), source: None }
    }

    /// Says what exactly was wrong and what to do about it.
    pub(crate) fn explained(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// As the failure of a call to publish. Nothing of the call was accepted.
    pub(crate) fn publishing(self, topic: &str) -> PublishError {
        let kind = match self.trouble {
            Trouble::Unavailable => PublishErrorKind::Unavailable,
            Trouble::Timeout => PublishErrorKind::Timeout,
            Trouble::Topic => PublishErrorKind::Topic,
            Trouble::Message => PublishErrorKind::Message,
            Trouble::Fenced => PublishErrorKind::Fenced,
            Trouble::Config | Trouble::Refused => PublishErrorKind::Refused,
        };
        let mut error = PublishError::new(kind, topic);
        if let Some(detail) = self.detail {
            error = error.because(detail);
        }
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }

    /// As the failure of a subscription.
    pub(crate) fn subscribing(self, topic: &str) -> SubscribeError {
        let kind = match self.trouble {
            Trouble::Unavailable | Trouble::Timeout => SubscribeErrorKind::Unavailable,
            Trouble::Topic => SubscribeErrorKind::Topic,
            Trouble::Config => SubscribeErrorKind::Config,
            Trouble::Message | Trouble::Fenced | Trouble::Refused => SubscribeErrorKind::Refused,
        };
        let mut error = SubscribeError::new(kind, topic);
        if let Some(detail) = self.detail {
            error = error.because(detail);
        }
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

fn trouble(code: Code) -> Trouble {
    match code {
        Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition | Code::InvalidTopic => {
            Trouble::Topic
        }
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge => Trouble::Message,
        Code::MessageTimedOut => Trouble::Timeout,
        Code::Fenced | Code::InvalidProducerEpoch | Code::ProducerFenced => Trouble::Fenced,
        Code::InvalidArgument
        | Code::UnknownProtocol
        | Code::NotConfigured
        | Code::InconsistentGroupProtocol => Trouble::Config,
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::Authentication
        | Code::SSL
        | Code::PolicyViolation
        | Code::UnsupportedVersion
        | Code::FencedInstanceId
        | Code::Fatal => Trouble::Refused,
        _ => Trouble::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mends_itself_is_retryable_and_what_somebody_must_change_is_not() {
        let retryable = |code| Failure::of_code(code).subscribing("t").is_retryable();
        assert!(retryable(Code::AllBrokersDown));
        assert!(retryable(Code::BrokerTransportFailure));
        assert!(!retryable(Code::UnknownTopicOrPartition));
        assert!(!retryable(Code::GroupAuthorizationFailed));
        let missing = KafkaError::MessageConsumption(Code::UnknownTopicOrPartition);
        assert!(Failure::while_reading(missing).subscribing("t").is_retryable(), "it may come back");
    }
}
