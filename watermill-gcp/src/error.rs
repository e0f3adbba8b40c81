//! The only mapping from native errors to those of the core, with what is retryable.
//!
//! | native | means |
//! |---|---|
//! | `UNAVAILABLE`, `ABORTED`, `INTERNAL`, `UNKNOWN`, `CANCELLED`, broken connections | [`Trouble::Unavailable`] |
//! | `RESOURCE_EXHAUSTED`: a quota, which is refilled every minute | [`Trouble::Unavailable`] |
//! | `DEADLINE_EXCEEDED`, a time limit | [`Trouble::Timeout`] |
//! | `NOT_FOUND` | [`Trouble::Topic`] |
//! | `INVALID_ARGUMENT`, `OUT_OF_RANGE` | [`Trouble::Message`] when publishing, else [`Trouble::Config`] |
//! | `UNIMPLEMENTED` | [`Trouble::Unsupported`] |
//! | everything else: permissions, credentials, `FAILED_PRECONDITION` | [`Trouble::Refused`] |

use std::{fmt, sync::Arc};

use google_cloud_gax::error::{
    Error as Native,
    rpc::{Code, StatusDetails},
};
use google_cloud_pubsub::error::{AckError, PublishError as NativePublishError};
use watermill_core::{
    backend::{Failure, Trouble},
    error::SettleError,
};

/// Of a request that publishes nothing.
pub(crate) fn of_request(error: Native) -> Failure {
    let trouble = match trouble(&error) {
        Trouble::Message => Trouble::Config,
        other => other,
    };
    Failure::new(trouble, error)
}

/// Of a message that was not accepted.
pub(crate) fn of_publish(error: NativePublishError) -> Failure {
    match error {
        NativePublishError::Rpc(error) => Failure::new(trouble(&error), Shared(error)),
        NativePublishError::OrderingKeyPaused => Failure::because(
            Trouble::Unavailable,
            "an earlier message of its ordering key was not accepted, and it must not overtake that",
        ),
        error => Failure::new(Trouble::Unavailable, error),
    }
}

/// Of an ack or a nack that the service was to confirm.
pub(crate) fn of_ack(error: AckError) -> SettleError {
    match &error {
        AckError::LeaseExpired => SettleError::lost(),
        AckError::Rpc { source, .. } if has_lost_the_lease(source) => SettleError::lost(),
        AckError::Rpc { .. } | AckError::ShutdownBeforeAck => SettleError::failed(error),
        _ => SettleError::unknown(),
    }
}

fn trouble(error: &Native) -> Trouble {
    let Some(status) = error.status() else {
        return if error.is_timeout() || error.is_exhausted() {
            Trouble::Timeout
        } else if error.is_authentication() && !error.is_transient_and_before_rpc() {
            Trouble::Refused
        } else if error.is_serialization() || error.is_deserialization() || error.is_binding() {
            Trouble::Config
        } else {
            Trouble::Unavailable
        };
    };
    match status.code {
        Code::Unavailable
        | Code::Aborted
        | Code::Internal
        | Code::Unknown
        | Code::Cancelled
        | Code::ResourceExhausted => Trouble::Unavailable,
        Code::DeadlineExceeded => Trouble::Timeout,
        Code::NotFound => Trouble::Topic,
        Code::InvalidArgument | Code::OutOfRange => Trouble::Message,
        Code::Unimplemented => Trouble::Unsupported,
        _ => Trouble::Refused,
    }
}

/// Exactly-once delivery says so of each ack id, in the details.
fn has_lost_the_lease(error: &Native) -> bool {
    let details = error.status().into_iter().flat_map(|status| &status.details);
    details.into_iter().any(|detail| match detail {
        StatusDetails::ErrorInfo(info) => {
            info.metadata.values().any(|value| value.starts_with("PERMANENT_FAILURE_INVALID_ACK_ID"))
        }
        _ => false,
    })
}

/// An error that several messages of a request have in common.
#[derive(Debug)]
struct Shared(Arc<Native>);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Shared {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests {
    use google_cloud_gax::error::rpc::Status;
    use watermill_core::error::SettleErrorKind;

    use super::*;

    fn with(code: Code) -> Native {
        Native::service(Status::default().set_code(code).set_message("no"))
    }

    #[test]
    fn what_passes_by_itself_is_retryable() {
        for (code, passes) in [
            (Code::Unavailable, true),
            (Code::ResourceExhausted, true),
            (Code::DeadlineExceeded, true),
            (Code::Internal, true),
            (Code::NotFound, false),
            (Code::PermissionDenied, false),
            (Code::Unauthenticated, false),
            (Code::InvalidArgument, false),
            (Code::FailedPrecondition, false),
        ] {
            assert_eq!(of_request(with(code)).is_passing(), passes, "{code}");
            let failure = of_publish(NativePublishError::Rpc(Arc::new(with(code))));
            assert_eq!(failure.is_passing(), passes, "{code}");
        }
        assert!(of_request(Native::io("broken pipe")).is_passing());
        assert!(of_publish(NativePublishError::OrderingKeyPaused).is_passing());
    }

    #[test]
    fn a_refused_message_is_told_from_a_refused_request() {
        let refused = of_publish(NativePublishError::Rpc(Arc::new(with(Code::InvalidArgument))));
        assert_eq!(refused.trouble(), Trouble::Message);
        assert_eq!(of_request(with(Code::InvalidArgument)).trouble(), Trouble::Config);
    }

    #[test]
    fn an_expired_lease_is_lost_and_other_trouble_is_not() {
        assert_eq!(of_ack(AckError::LeaseExpired).kind(), SettleErrorKind::Lost);
        assert_eq!(of_ack(AckError::ShutdownBeforeAck).kind(), SettleErrorKind::Failed);
        assert_eq!(of_ack(AckError::Shutdown("closing".into())).kind(), SettleErrorKind::Unknown);
    }
}
