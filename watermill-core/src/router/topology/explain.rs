//! A handler in sentences.

use std::fmt::{self, Display, Formatter};

use super::{AtOnce, Destination, FinalStep, HandlerDescription};
use crate::subscriber::{DeliveryGuarantee, Ordering};

/// What [`HandlerDescription::explain`] prints.
pub(super) struct Explained<'h>(pub(super) &'h HandlerDescription);

impl Display for Explained<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let handler = self.0;
        writeln!(f, "{}", handler.name)?;
        line(f, "takes", &self.source())?;
        line(f, "at once", &self.at_once())?;
        line(f, "through", &self.layers())?;
        line(f, "publishes", &self.outputs())?;
        line(f, "fails", &self.failing())?;
        line(f, "in the end", &self.ending())
    }
}

impl Explained<'_> {
    fn source(&self) -> String {
        let handler = self.0;
        let payloads = match &*handler.consumes {
            [] => String::new(),
            names => format!("{} from ", names.join(" or ")),
        };
        let group = match (&handler.group, handler.subscriber.groups) {
            (Some(group), _) => format!(" for the group {group:?}"),
            (None, true) => " for its subscriber's group".to_owned(),
            (None, false) => String::new(),
        };
        let delivery = match handler.delivery {
            DeliveryGuarantee::AtLeastOnce => "at least once",
            DeliveryGuarantee::AtMostOnce => "at most once",
        };
        let ordering = match handler.ordering {
            Ordering::Total => "in the order of the topic",
            Ordering::Scoped => "in the order of each of its scopes, a partition or a key",
            Ordering::None => "in no order",
        };
        format!("{payloads}{}{group}, {delivery}, {ordering}", handler.source)
    }

    fn at_once(&self) -> String {
        let running = &self.0.running;
        let which = match (running.at_once, running.max) {
            (AtOnce::Batch, max) => format!("a batch of up to {max}, one batch after another"),
            (_, 1) => "one message".to_owned(),
            (AtOnce::OneOfEachScope, max) => format!("one message of each scope, of up to {max} scopes"),
            (AtOnce::OneOfEachKey, max) => format!("one message of each key, up to {max}"),
            (AtOnce::Any, max) => format!("up to {max} messages, in any order"),
        };
        format!("{which}; up to {} are handed out and not settled", running.outstanding_max)
    }

    fn layers(&self) -> String {
        match &*self.0.layers {
            [] => "no layers".to_owned(),
            names => format!("{}, the first outside of the others", names.join(", ")),
        }
    }

    fn outputs(&self) -> String {
        let payloads = match &*self.0.produces {
            [] => "what it returns".to_owned(),
            names => names.join(" and "),
        };
        let (to, published_by_layer) = match &self.0.destination {
            Destination::Nowhere => return "nothing".to_owned(),
            Destination::Topic(place) => (format!("{payloads} to {place}"), place.backend.is_none()),
            Destination::NamedByMessages { backend } => {
                (format!("{payloads} to the topics of {backend} that they name"), false)
            }
        };
        match (published_by_layer, self.0.running.pipeline) {
            (true, _) => format!("{to}, by one of its layers"),
            (false, 0) => format!("{to}, accepted before the message is acked"),
            (false, n) => {
                format!(
                    "{to}, accepted before the message is acked; up to {n} later ones are handled meanwhile"
                )
            }
        }
    }

    fn failing(&self) -> String {
        let policy = &self.0.on_failure;
        let mut steps = Vec::new();
        match policy.retries {
            0 => {}
            retries => steps.push(format!(
                "tried again in place {retries} times, after {}; what comes behind it in its scope waits",
                policy.backoff
            )),
        }
        if policy.max_deliveries > 1 {
            steps.push(format!(
                "given back until it was delivered {} times, to come again after {}",
                policy.max_deliveries, policy.nack_backoff
            ));
        }
        match &*steps {
            [] => "it is not tried again in place".to_owned(),
            steps => {
                format!("it is {}; an error that trying again cannot mend skips this", steps.join(", then "))
            }
        }
    }

    fn ending(&self) -> String {
        let policy = &self.0.on_failure;
        match &policy.then {
            FinalStep::Nack => format!("it is nacked, and comes again after {}", policy.nack_backoff),
            FinalStep::DeadLetter(place) => {
                format!("it is published to {place} with the reason, and acked when that is accepted")
            }
            FinalStep::RetryFrom(place) => {
                format!(
                    "it is published to {place}, to be handled again later, and acked when that is accepted"
                )
            }
            FinalStep::Reject if self.0.subscriber.dead_letters => {
                "it is kept with the dead letters of its backend".to_owned()
            }
            FinalStep::Reject => {
                "it is acked and its error logged, for its backend keeps no dead letters".to_owned()
            }
            FinalStep::Drop => "it is acked and its error logged".to_owned(),
        }
    }
}

fn line(f: &mut Formatter<'_>, what: &str, text: &str) -> fmt::Result {
    writeln!(f, "  {what:<11}{text}")
}
