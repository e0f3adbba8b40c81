//! The only mapping from native errors to classes of trouble, which say what is retryable.

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};
use watermill_core::{
    backend::{Failure, Trouble},
    error::BoxError,
};

/// What a native error means.
pub(crate) fn classify(error: KafkaError) -> Failure {
    match &error {
        KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) | KafkaError::Nul(_) => {
            Failure::new(Trouble::Config, error)
        }
        KafkaError::MessageConsumptionFatal(_) => Failure::new(Trouble::Refused, error),
        error => match code(error) {
            Some(code) => explained(code, error.clone()),
            None => Failure::new(Trouble::Unavailable, error.clone()),
        },
    }
}

/// The code of an error, that of a refused request of an administrator too, which the client leaves out.
fn code(error: &KafkaError) -> Option<Code> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        error => error.rdkafka_error_code(),
    }
}

/// What the code of an error means.
pub(crate) fn classify_code(code: Code) -> Failure {
    explained(code, code)
}

/// What a native error means for a subscription that is running, and goes on by itself: all passes but what somebody must
/// change, or what ends the client.
pub(crate) fn while_reading(error: KafkaError) -> Failure {
    let failure = classify(error.clone());
    match (failure.trouble(), code(&error)) {
        (Trouble::Topic, _) => failure
            .with_trouble(Trouble::Unavailable)
            .explained("a topic is missing; reading goes on when it is there"),
        // A connection that ends while it is being made, of a broker that stops for one, is told in these words too; the
        // client tries again.
        (Trouble::Refused, Some(Code::SSL | Code::Authentication))
        | (Trouble::Config, Some(Code::InvalidArgument)) => failure.with_trouble(Trouble::Unavailable),
        _ => failure,
    }
}

fn explained(code: Code, source: impl Into<BoxError>) -> Failure {
    let failure = Failure::new(trouble(code).unwrap_or(Trouble::Unavailable), source);
    match code {
        Code::InconsistentGroupProtocol | Code::UnsupportedAssignor => failure.explained(
            "the members of the group have no assignment strategy in common: ours is cooperative-sticky unless it is set, \
             that of Go's members is range, see partition.assignment.strategy; joining is tried again",
        ),
        _ if trouble(code).is_none() => {
            failure.explained("an error that is not known here, taken for one that passes")
        }
        _ => failure,
    }
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

/// What the sender should do; `None` for codes that are in no list, which are tried again all the same. By Kafka's
/// [table of errors](https://kafka.apache.org/protocol#protocol_error_codes), whose word "retriable" is about the same
/// request: a member that must join again, or a producer that must begin anew, has nothing final to tell.
fn trouble(code: Code) -> Option<Trouble> {
    Some(match code {
        // Choose another topic, or make it.
        Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition | Code::InvalidTopic => {
            Trouble::Topic
        }
        // Send another message.
        code if is_size(code) => Trouble::Message,
        Code::InvalidRecord | Code::InvalidTimestamp => Trouble::Message,
        Code::MessageTimedOut => Trouble::Timeout,
        Code::Fenced | Code::InvalidProducerEpoch | Code::ProducerFenced => Trouble::Fenced,
        // Choose other options.
        Code::InvalidArgument
        | Code::UnknownProtocol
        | Code::NotConfigured
        | Code::InvalidRequiredAcks
        | Code::InvalidGroupId
        | Code::InvalidSessionTimeout
        | Code::InvalidTransactionTimeout
        | Code::InvalidPartitions
        | Code::InvalidReplicaAssignment
        | Code::InvalidConfig
        | Code::UnsupportedCompressionType => Trouble::Config,
        // Ask somebody for permission, or for other brokers.
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::Authentication
        | Code::SSL
        | Code::SecurityDisabled
        | Code::PolicyViolation
        | Code::UnsupportedVersion
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedFeature
        | Code::FencedInstanceId
        | Code::Fatal => Trouble::Refused,
        // Wait: for brokers, leaders, replicas and coordinators.
        Code::AllBrokersDown
        | Code::BrokerTransportFailure
        | Code::BrokerDestroy
        | Code::Resolve
        | Code::OperationTimedOut
        | Code::TimedOutQueue
        | Code::RequestTimedOut
        | Code::NetworkException
        | Code::BrokerNotAvailable
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::ReplicaNotAvailable
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::ISRInsufficient
        | Code::NotController
        | Code::KafkaStorageError
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::WaitingForCoordinator
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::OffsetNotAvailable
        | Code::UnknownTopicId
        | Code::ThrottlingQuotaExceeded
        // A broker that is away counts as missing where there are to be as many as replicas.
        | Code::InvalidReplicationFactor
        // For the group, whose members come and go or are being replaced one after another.
        | Code::RebalanceInProgress
        | Code::IllegalGeneration
        | Code::UnknownMemberId
        | Code::MemberIdRequired
        | Code::AssignmentLost
        | Code::PollExceeded
        | Code::GroupMaxSizeReached
        | Code::FencedMemberEpoch
        | Code::UnreleasedInstanceId
        | Code::InconsistentGroupProtocol
        | Code::UnsupportedAssignor
        // For a producer that begins anew, or a transaction that ends.
        | Code::OutOfOrderSequenceNumber
        | Code::DuplicateSequenceNumber
        | Code::UnknownProducerId
        | Code::InvalidProducerIdMapping
        | Code::InvalidTransactionalState
        | Code::ConcurrentTransactions
        | Code::TransactionCoordinatorFenced
        | Code::UnstableOffsetCommit
        | Code::GaplessGuarantee
        | Code::InvalidDifferentRecord
        | Code::PurgeQueue
        | Code::PurgeInflight
        | Code::QueueFull
        | Code::State
        | Code::Conflict
        | Code::InProgress
        | Code::PreviousInProgress
        | Code::Outdated
        | Code::Retry
        // And where the log is another than it was, or data came damaged.
        | Code::OffsetOutOfRange
        | Code::AutoOffsetReset
        | Code::LogTruncation
        | Code::InvalidMessage
        | Code::BadMessage
        | Code::BadCompression => Trouble::Unavailable,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mends_itself_is_retryable_and_what_somebody_must_change_is_not() {
        let retryable = |code| classify_code(code).subscribing("t").is_retryable();
        assert!(retryable(Code::AllBrokersDown));
        assert!(retryable(Code::BrokerTransportFailure));
        for of_a_rolling_update in
            [Code::InconsistentGroupProtocol, Code::UnsupportedAssignor, Code::GroupMaxSizeReached]
        {
            assert!(retryable(of_a_rolling_update), "{of_a_rolling_update:?}");
        }
        assert!(retryable(Code::InvalidReplicationFactor), "a broker may be starting");
        assert!(!retryable(Code::UnknownTopicOrPartition));
        assert!(!retryable(Code::GroupAuthorizationFailed));
        let missing = KafkaError::MessageConsumption(Code::UnknownTopicOrPartition);
        let connecting = KafkaError::MessageConsumption(Code::SSL);
        assert!(while_reading(connecting).is_passing(), "the client connects again");
        assert!(while_reading(missing).subscribing("t").is_retryable(), "it may come back");
    }

    #[test]
    fn a_request_of_an_administrator_that_is_refused_says_why_as_any_other_does() {
        let refused = classify(KafkaError::AdminOp(Code::ClusterAuthorizationFailed));
        assert_eq!(refused.trouble(), Trouble::Refused);
        assert!(classify(KafkaError::AdminOp(Code::OperationTimedOut)).is_passing());
    }

    #[test]
    fn what_is_not_known_passes_and_says_that_it_is_not_known() {
        let failure = classify_code(Code::FeatureUpdateFailed);
        assert!(failure.is_passing());
        assert!(failure.text().contains("not known"), "{}", failure.text());
        assert!(!classify_code(Code::AllBrokersDown).text().contains("not known"));
    }
}
