//! [`PubSubPublisherConfig`] and [`PubSubSubscriberConfig`]: plain data, checked as a whole.

mod publisher;
mod subscriber;
mod subscription;

pub use publisher::{OrderingKeys, PubSubPublisherConfig};
pub use subscriber::PubSubSubscriberConfig;
pub use subscription::NewSubscription;

use std::time::Duration;

/// The service's bounds for the names of topics and subscriptions.
const NAME_BYTES_MIN: usize = 3;
const NAME_BYTES_MAX: usize = 255;

/// Says what keeps a text from being the name of a topic or a subscription. See
/// <https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names>.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if !(NAME_BYTES_MIN..=NAME_BYTES_MAX).contains(&name.len()) {
        return Err(format!(
            "the name has {} bytes, and Pub/Sub wants {NAME_BYTES_MIN} to {NAME_BYTES_MAX}",
            name.len()
        ));
    }
    if !name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return Err("the name does not begin with a letter".to_owned());
    }
    if name.starts_with("goog") {
        return Err("names that begin with \"goog\" are Pub/Sub's own".to_owned());
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.~+%".contains(c);
    match name.chars().find(|&c| !fits(c)) {
        Some(c) => Err(format!("the name contains {c:?}; letters, digits and -_.~+% can be in it")),
        None => Ok(()),
    }
}

fn within(duration: Duration, seconds: std::ops::RangeInclusive<u64>) -> bool {
    (Duration::from_secs(*seconds.start())..=Duration::from_secs(*seconds.end())).contains(&duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_pubsub_would_refuse_is_refused() {
        for name in ["abc", "orders.placed", "a-_.~+%9"] {
            assert_eq!(check_name(name), Ok(()));
        }
        let long = "t".repeat(256);
        for name in ["", "ab", "1abc", "google", "a b", "a/b", "größe", &long] {
            check_name(name).expect_err(name);
        }
    }
}
