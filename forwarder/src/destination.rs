//! [`DestinationFrom`]: the topic of messages that are no envelopes.

use std::{fmt, sync::Arc};

use watermill_core::Message;

/// Where a message is to go that is no envelope: a row of an outbox table that somebody has already, say.
///
/// ```
/// use watermill_core::Message;
/// use watermill_forwarder::{DestinationFrom, ForwarderConfig};
///
/// let of_a_column = DestinationFrom::metadata("topic");
/// let as_debezium_has_it = DestinationFrom::template("outbox.event.${aggregatetype}");
/// let by_hand = DestinationFrom::function(|message: &Message| {
///     let kind = message.metadata().get("type")?;
///     Some(if kind.starts_with("Order") { "orders" } else { "others" })
/// });
/// for destination in [of_a_column, as_debezium_has_it, by_hand] {
///     assert!(ForwarderConfig::default().destination_from(destination).validate().is_ok());
/// }
/// ```
#[derive(Clone)]
pub struct DestinationFrom(Kind);

#[derive(Clone)]
enum Kind {
    Template(String),
    Function(Arc<Derive>),
}

type Derive = dyn Fn(&Message) -> Option<String> + Send + Sync;

impl DestinationFrom {
    /// The value of a metadata entry.
    pub fn metadata(name: impl AsRef<str>) -> Self {
        Self::template(format!("${{{}}}", name.as_ref()))
    }

    /// A text in which each `${name}` stands for the value of a metadata entry. A message that lacks one, or
    /// in which one is empty, has no destination.
    pub fn template(template: impl Into<String>) -> Self {
        Self(Kind::Template(template.into()))
    }

    /// What a function says. It is called once for each delivery of a message, and must say the same of it
    /// every time: order is kept by destination and key.
    pub fn function<T: Into<String>>(derive: impl Fn(&Message) -> Option<T> + Send + Sync + 'static) -> Self {
        Self(Kind::Function(Arc::new(move |message| derive(message).map(Into::into))))
    }

    /// The destination of a message, if it has one.
    pub(crate) fn of(&self, message: &Message) -> Option<String> {
        match &self.0 {
            Kind::Template(template) => fill(template, |name| message.metadata().get(name)),
            Kind::Function(derive) => derive(message),
        }
        .filter(|destination| !destination.is_empty())
    }

    /// What is wrong with it, if anything is.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        match &self.0 {
            Kind::Template(template) if template.is_empty() => {
                Some("destination_from: the template is empty")
            }
            Kind::Template(template)
                if fill(template, |name| (!name.is_empty()).then_some("x")).is_none() =>
            {
                Some("destination_from: a `${` has no end or names nothing")
            }
            _ => None,
        }
    }
}

/// Fills the places of a template; `None` where one cannot be filled.
fn fill<'v>(template: &str, value: impl Fn(&str) -> Option<&'v str>) -> Option<String> {
    let (mut filled, mut rest) = (String::with_capacity(template.len()), template);
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}')?;
        filled.push_str(before);
        filled.push_str(value(name).filter(|value| !value.is_empty())?);
        rest = after;
    }
    filled.push_str(rest);
    Some(filled)
}

/// Two functions are equal when one is a clone of the other.
impl PartialEq for DestinationFrom {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::Template(one), Kind::Template(other)) => one == other,
            (Kind::Function(one), Kind::Function(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl fmt::Debug for DestinationFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Template(template) => f.debug_tuple("Template").field(template).finish(),
            Kind::Function(_) => f.write_str("Function"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_from_metadata() {
        let message =
            Message::new("x").with_metadata("a", "orders").with_metadata("b", "").with_metadata("c", "${a}");
        for (template, destination) in [
            ("outbox.event.${a}", Some("outbox.event.orders")),
            ("${a}-${a}", Some("orders-orders")),
            ("plain", Some("plain")),
            ("$a}", Some("$a}")),
            ("${c}", Some("${a}")),
            ("${b}", None),
            ("${nobody}", None),
        ] {
            assert_eq!(
                DestinationFrom::template(template).of(&message).as_deref(),
                destination,
                "{template}"
            );
        }
        assert_eq!(DestinationFrom::metadata("a").of(&message).unwrap(), "orders");
        assert_eq!(DestinationFrom::function(|_: &Message| Some("")).of(&message), None);
    }

    #[test]
    fn what_cannot_work_is_named() {
        for template in ["", "${a", "${}"] {
            assert!(DestinationFrom::template(template).problem().is_some(), "{template}");
        }
        assert!(DestinationFrom::template("a${b}c").problem().is_none());
    }
}
