//! The only mapping from native errors to what they mean.

use std::time::Duration;

use lapin::{
    Error, ErrorKind,
    protocol::{AMQPErrorKind, AMQPHardError as Hard, AMQPSoftError as Soft},
};
use watermill_core::backend::{Failure, Trouble};

/// What connecting and calls fail with.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The client's own error.
    Native(Error),
    /// No answer in time.
    Silent { to: &'static str, after: Duration },
    /// No confirm in time, because the server has blocked who publishes.
    Blocked(String),
    /// No confirm in time, while the server has confirmed others.
    Unconfirmed { after: Duration },
    /// The channel has ended while something was on its way, and not for that.
    CutOff(Error),
    /// What it was to go through was given up.
    GivenUp,
    /// Found out before anything was sent.
    Found(Trouble, String),
    /// Of a call, these messages were not accepted.
    Partly { positions: Vec<usize>, why: Box<Fault> },
}

impl Fault {
    /// Whether the channel it came on is gone.
    pub(crate) fn ends_channel(&self) -> bool {
        match self {
            Self::Native(_) | Self::CutOff(_) | Self::Silent { .. } | Self::GivenUp => true,
            Self::Found(..) | Self::Blocked(_) | Self::Unconfirmed { .. } => false,
            Self::Partly { why, .. } => why.ends_channel(),
        }
    }

    /// Whether the connection is gone, and not a channel alone.
    pub(crate) fn ends_connection(&self) -> bool {
        match self {
            Self::Native(error) | Self::CutOff(error) => {
                !error.is_amqp_soft_error() && !matches!(error.kind(), ErrorKind::ChannelsLimitReached)
            }
            Self::Silent { .. } | Self::GivenUp => true,
            Self::Found(..) | Self::Blocked(_) | Self::Unconfirmed { .. } => false,
            Self::Partly { why, .. } => why.ends_connection(),
        }
    }

    /// The same, as it is for one message of those that were on their way when the channel ended: the server ends it for
    /// one of them and all fail with its words, for good only what those speak of.
    pub(crate) fn of(self, sent: &OnItsWay<'_>) -> Self {
        match self {
            Self::Native(error) if !meaning(&error).is_passing() && !sent.is_meant_by(&error) => {
                Self::CutOff(error)
            }
            fault => fault,
        }
    }

    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Native(error) => meaning(error).is_passing(),
            Self::CutOff(_)
            | Self::Silent { .. }
            | Self::GivenUp
            | Self::Blocked(_)
            | Self::Unconfirmed { .. } => true,
            Self::Found(trouble, _) => trouble.is_passing(),
            Self::Partly { why, .. } => why.is_passing(),
        }
    }
}

/// A message that was on its way when the channel ended.
pub(crate) struct OnItsWay<'m> {
    pub(crate) exchange: &'m str,
    pub(crate) routing_key: &'m str,
    pub(crate) payload_bytes: usize,
    /// Whether there was no other.
    pub(crate) is_alone: bool,
}

impl OnItsWay<'_> {
    /// Whether it is what the server speaks of. An exchange that is missing is made by the next call, or found to be
    /// missing by it: then it has gone after this call has begun.
    fn is_meant_by(&self, error: &Error) -> bool {
        let ErrorKind::ProtocolError(answer) = error.kind() else { return self.is_alone };
        let text = answer.get_message().as_str();
        match answer.kind() {
            AMQPErrorKind::Soft(Soft::NOTFOUND) => false,
            AMQPErrorKind::Soft(Soft::ACCESSREFUSED) => {
                let of_key = text.contains("access to topic '");
                text.contains(&format!("exchange '{}'", self.exchange))
                    && (!of_key || text.contains(&format!("topic '{}'", self.routing_key)))
            }
            AMQPErrorKind::Soft(Soft::PRECONDITIONFAILED) => {
                message_size_max(text).map_or(self.is_alone, |max| self.payload_bytes > max)
            }
            _ => self.is_alone,
        }
    }
}

/// What the server says that a message may have, in bytes, where it says so.
fn message_size_max(text: &str) -> Option<usize> {
    let (_, size) = text.split_once("message size ")?.1.split_once("max size ")?;
    size.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Native(error)
    }
}

/// Waits for an answer, for a bounded time.
pub(crate) async fn within<T, E>(
    at_most: Duration,
    to: &'static str,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, Fault>
where
    Fault: From<E>,
{
    match tokio::time::timeout(at_most, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Fault::Silent { to, after: at_most }),
    }
}

pub(crate) fn classify(fault: Fault) -> Failure {
    match fault {
        Fault::Native(error) => Failure::new(meaning(&error), error),
        Fault::Silent { to, after } => {
            Failure::because(Trouble::Timeout, format!("the server did not answer within {after:?} to {to}"))
        }
        Fault::Blocked(reason) => {
            let why = format!(
                "the server has blocked who publishes ({reason}); what was sent waits for it to go on"
            );
            Failure::because(Trouble::Timeout, why)
        }
        Fault::Unconfirmed { after } => {
            let why = format!("the server did not confirm it within {after:?}; it may have arrived");
            Failure::because(Trouble::Timeout, why)
        }
        Fault::CutOff(error) => Failure::new(Trouble::Unavailable, error).explained(
            "the channel ended for another message while this was on its way; it may have arrived",
        ),
        Fault::GivenUp => Failure::because(Trouble::Unavailable, "the connection was given up"),
        Fault::Found(trouble, why) => Failure::because(trouble, why),
        Fault::Partly { why, .. } => classify(*why),
    }
}

fn meaning(error: &Error) -> Trouble {
    match error.kind() {
        ErrorKind::ProtocolError(error) => answered(error.kind(), error.get_message().as_str()),
        ErrorKind::SerialisationError(_) => Trouble::Message,
        ErrorKind::InvalidProtocolVersion(_)
        | ErrorKind::AuthProviderError(_)
        | ErrorKind::NoDefaultRuntime => Trouble::Config,
        // Connections and channels that are gone, or more channels than the server allows just now.
        _ => Trouble::Unavailable,
    }
}

fn answered(kind: &AMQPErrorKind, text: &str) -> Trouble {
    match kind {
        AMQPErrorKind::Soft(Soft::NOTFOUND | Soft::NOROUTE) => Trouble::Topic,
        AMQPErrorKind::Soft(Soft::CONTENTTOOLARGE) => Trouble::Message,
        // The server's word for a message that is larger than its `max_message_size`.
        AMQPErrorKind::Soft(Soft::PRECONDITIONFAILED) if text.contains("message size") => Trouble::Message,
        // A delivery that nobody has settled for its `consumer_timeout`, half an hour; or a tag of an earlier life.
        AMQPErrorKind::Soft(Soft::PRECONDITIONFAILED) if text.contains("delivery") => Trouble::Unavailable,
        AMQPErrorKind::Soft(Soft::PRECONDITIONFAILED) => Trouble::Mismatch,
        // One that begins with `amq.` and is none of those that the server has.
        AMQPErrorKind::Soft(Soft::ACCESSREFUSED) if text.contains("reserved prefix") => Trouble::Topic,
        AMQPErrorKind::Soft(Soft::ACCESSREFUSED) => Trouble::Refused,
        // Somebody else's exclusive queue, or one whose leader moves.
        AMQPErrorKind::Soft(Soft::RESOURCELOCKED | Soft::NOCONSUMERS) => Trouble::Unavailable,
        // A virtual host that is missing or closed to this user.
        AMQPErrorKind::Hard(Hard::INVALIDPATH | Hard::NOTALLOWED) => Trouble::Config,
        AMQPErrorKind::Hard(Hard::NOTIMPLEMENTED) => Trouble::Unsupported,
        AMQPErrorKind::Hard(Hard::SYNTAXERROR | Hard::COMMANDINVALID) => Trouble::Refused,
        // It shuts down, has met a fault of its own, or the frames are out of step: another connection may do.
        AMQPErrorKind::Hard(_) => Trouble::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    #[test]
    fn an_answer_means_what_its_code_says() {
        let answer = |kind: AMQPErrorKind, text: &str| {
            let error = Error::from(ErrorKind::ProtocolError(AMQPError::new(kind, text.into())));
            classify(error.into()).trouble()
        };
        assert_eq!(answer(Soft::NOTFOUND.into(), "NOT_FOUND - no exchange 'x'"), Trouble::Topic);
        assert_eq!(answer(Soft::PRECONDITIONFAILED.into(), "inequivalent arg 'durable'"), Trouble::Mismatch);
        assert_eq!(
            answer(Soft::PRECONDITIONFAILED.into(), "message size 9 is larger than"),
            Trouble::Message
        );
        assert_eq!(answer(Soft::PRECONDITIONFAILED.into(), "unknown delivery tag 7"), Trouble::Unavailable);
        assert_eq!(answer(Hard::CONNECTIONFORCED.into(), "shutdown"), Trouble::Unavailable);
        assert_eq!(answer(Hard::NOTALLOWED.into(), "vhost x not found"), Trouble::Config);
    }

    #[test]
    fn whoever_was_on_the_way_when_the_channel_ended_for_anothers_fault_may_try_again() {
        let told = |exchange: &str, payload_bytes: usize, kind: AMQPErrorKind, text: &str| {
            let error = Error::from(ErrorKind::ProtocolError(AMQPError::new(kind, text.into())));
            let sent = OnItsWay { exchange, routing_key: "k", payload_bytes, is_alone: false };
            let fault = Fault::from(error).of(&sent);
            assert!(fault.ends_channel());
            classify(fault).trouble()
        };
        let refused = "ACCESS_REFUSED - access to exchange 'a' in vhost '/' refused for user 'u'";
        assert_eq!(told("a", 1, Soft::ACCESSREFUSED.into(), refused), Trouble::Refused);
        assert_eq!(told("b", 1, Soft::ACCESSREFUSED.into(), refused), Trouble::Unavailable);
        let refused =
            "ACCESS_REFUSED - access to topic 'other' in exchange 'a' in vhost '/' refused for user 'u'";
        assert_eq!(told("a", 1, Soft::ACCESSREFUSED.into(), refused), Trouble::Unavailable);
        assert_eq!(told("a", 1, Soft::NOTFOUND.into(), "NOT_FOUND - no exchange 'a'"), Trouble::Unavailable);
        let size = "PRECONDITION_FAILED - message size 9 is larger than configured max size 4";
        assert_eq!(told("a", 9, Soft::PRECONDITIONFAILED.into(), size), Trouble::Message);
        assert_eq!(told("a", 4, Soft::PRECONDITIONFAILED.into(), size), Trouble::Unavailable);
        assert_eq!(
            told("a", 1, Hard::SYNTAXERROR.into(), "SYNTAX_ERROR - illegal table"),
            Trouble::Unavailable
        );
    }

    #[test]
    fn the_only_message_on_its_way_is_the_one_that_the_connection_ended_for() {
        let error =
            Error::from(ErrorKind::ProtocolError(AMQPError::new(Hard::SYNTAXERROR.into(), "no".into())));
        let sent = OnItsWay { exchange: "a", routing_key: "k", payload_bytes: 1, is_alone: true };
        assert_eq!(classify(Fault::from(error).of(&sent)).trouble(), Trouble::Refused);
    }

    #[test]
    fn a_channel_that_is_gone_leaves_the_others_of_its_connection() {
        let soft = AMQPError::new(Soft::NOTFOUND.into(), "no".into());
        let fault = Fault::from(Error::from(ErrorKind::ProtocolError(soft)));
        assert!(fault.ends_channel() && !fault.ends_connection());
        assert!(Fault::Silent { to: "connect", after: Duration::ZERO }.ends_connection());
        assert!(!Fault::Found(Trouble::Topic, String::new()).ends_channel());
    }
}
