//! The only mapping from native errors to classes of trouble, which say what is retryable.

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};
use watermill_core::backend::{Failure, Trouble};

/// What a native error means.
pub(crate) fn classify(error: KafkaError) -> Failure {
    let trouble = match &error {
        KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) | KafkaError::Nul(_) => Trouble::Config,
        KafkaError::MessageConsumptionFatal(_) => Trouble::Refused,
        error => error.rdkafka_error_code().map_or(Trouble::Unavailable, trouble),
    };
    Failure::new(trouble, error)
}

/// What the code of an error means.
pub(crate) fn classify_code(code: Code) -> Failure {
    Failure::new(trouble(code), code)
}

/// What a native error means for a subscription that is running, and goes on by itself.
pub(crate) fn while_reading(error: KafkaError) -> Failure {
    let failure = classify(error);
    if failure.trouble() != Trouble::Topic {
        return failure;
    }
    failure
        .with_trouble(Trouble::Unavailable)
        .explained("a topic is missing; reading goes on when it is there")
}

/// Whether a message failed because its client had failed for good before, or another of its batch, and not for
/// itself.
pub(crate) fn is_of_dead_client(error: &KafkaError) -> bool {
    let codes = [Code::Fatal, Code::PurgeQueue, Code::PurgeInflight, Code::InvalidDifferentRecord];
    error.rdkafka_error_code().is_some_and(|code| codes.contains(&code))
}

/// Whether a message was too large for its broker, or the batch that it was in.
pub(crate) fn is_too_large(error: &KafkaError) -> bool {
    error.rdkafka_error_code().is_some_and(is_size)
}

fn is_size(code: Code) -> bool {
    matches!(code, Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge)
}

fn trouble(code: Code) -> Trouble {
    match code {
        Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition | Code::InvalidTopic => {
            Trouble::Topic
        }
        code if is_size(code) => Trouble::Message,
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
        let retryable = |code| classify_code(code).subscribing("t").is_retryable();
        assert!(retryable(Code::AllBrokersDown));
        assert!(retryable(Code::BrokerTransportFailure));
        assert!(!retryable(Code::UnknownTopicOrPartition));
        assert!(!retryable(Code::GroupAuthorizationFailed));
        let missing = KafkaError::MessageConsumption(Code::UnknownTopicOrPartition);
        assert!(while_reading(missing).subscribing("t").is_retryable(), "it may come back");
    }
}
