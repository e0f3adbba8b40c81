//! What subjects are, and the names that are made of them.

use watermill_core::backend::{Failure, Trouble};

/// What a stream or consumer cannot have in its name, beside spaces and control characters.
const NOT_IN_NAMES: [char; 5] = ['.', '*', '>', '/', '\\'];

/// Whether messages can be published to a topic: it is a subject without wildcards.
pub(crate) fn check(topic: &str) -> Result<(), Failure> {
    check_filter(topic)?;
    match topic.split('.').find(|token| is_wildcard(token)) {
        Some(wildcard) => {
            Err(refused(topic, format!("{wildcard:?} is a wildcard, which is only subscribed to")))
        }
        None => Ok(()),
    }
}

/// Whether a topic can be subscribed to: `*` stands for one token, and `>` at the end for the rest.
pub(crate) fn check_filter(topic: &str) -> Result<(), Failure> {
    if topic.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(refused(topic, "a subject has no spaces and no control characters"));
    }
    let mut tokens = topic.split('.').peekable();
    while let Some(token) = tokens.next() {
        if token.is_empty() {
            return Err(refused(topic, "a token of a subject is empty"));
        }
        if token == ">" && tokens.peek().is_some() {
            return Err(refused(topic, "\">\" stands only at the end of a subject"));
        }
    }
    Ok(())
}

/// The name of a stream or consumer, from what may not be one: `orders.placed` becomes `orders_placed`.
pub(crate) fn name(text: &str) -> String {
    let cannot = |c: char| c.is_whitespace() || c.is_control() || NOT_IN_NAMES.contains(&c);
    text.chars().map(|c| if cannot(c) { '_' } else { c }).collect()
}

fn is_wildcard(token: &str) -> bool {
    token == "*" || token == ">"
}

fn refused(topic: &str, why: impl std::fmt::Display) -> Failure {
    Failure::because(Trouble::Topic, format!("{topic:?} is no subject: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_a_subject_and_only_subscriptions_have_wildcards() {
        for topic in ["a", "orders.placed", "größe.*x", "$a"] {
            assert!(check(topic).is_ok() && check_filter(topic).is_ok(), "{topic}");
        }
        for topic in ["orders.*", "orders.>", ">", "*.placed"] {
            assert!(check(topic).is_err() && check_filter(topic).is_ok(), "{topic}");
        }
        for topic in ["", ".", ".a", "a.", "a..b", "a b", "a\tb", "a\r\nb", ">.a"] {
            assert!(check(topic).is_err() && check_filter(topic).is_err(), "{topic:?}");
        }
    }

    #[test]
    fn a_name_is_the_topic_where_that_can_be_one() {
        assert_eq!(name("orders-2_x"), "orders-2_x");
        assert_eq!(name("orders.placed.>"), "orders_placed__");
    }
}
