//! [`Form`]: the URLs that the topics of a webhook lead to.

use std::fmt::Write as _;

use watermill_core::error::ConfigError;

/// Stands for the topic.
const TOPIC: &str = "{topic}";

/// A URL in whose path or query `{topic}` stands for the topic.
#[derive(Clone, Debug)]
pub(super) struct Form {
    url: String,
    pub(super) scheme: String,
    /// With the port, if there is one.
    pub(super) host: String,
}

impl Form {
    /// What else may be wrong with a URL is for whoever posts to it.
    ///
    /// # Errors
    ///
    /// When `{topic}` stands where it makes no other URL of each topic: in the host, which is looked up before there is a
    /// topic, or behind a `#`, which is not sent.
    pub(super) fn new(url: &str) -> Result<Self, ConfigError> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let fragment = rest.split_once('#').map_or("", |(_, fragment)| fragment);
        if [scheme, host, fragment].iter().any(|part| part.contains(TOPIC)) {
            let problem = format!("url: {TOPIC} stands in the path or in the query, and nowhere else");
            return Err(ConfigError::new("read the URL of a webhook", problem));
        }
        Ok(Self { url: url.to_owned(), scheme: scheme.to_owned(), host: host.to_owned() })
    }

    /// The URL of a topic, whatever is in its name: that is one segment of the path, or one value of the query.
    pub(super) fn of(&self, topic: &str) -> String {
        self.url.replace(TOPIC, &encoded(topic))
    }
}

/// As RFC 3986, section 2, has it: all but its unreserved characters as their bytes.
fn encoded(topic: &str) -> String {
    let mut text = String::with_capacity(topic.len());
    for byte in topic.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topic_has_a_url_of_its_own_whatever_is_in_its_name() {
        let form = Form::new("https://example.com:81/hooks/{topic}/in?of={topic}").unwrap();
        assert_eq!((&*form.scheme, &*form.host), ("https", "example.com:81"));
        for (topic, encoded) in [
            ("orders.placed-1_~", "orders.placed-1_~"),
            ("orders#eu", "orders%23eu"),
            ("a/b?c=d&e", "a%2Fb%3Fc%3Dd%26e"),
            ("50% é+{topic}", "50%25%20%C3%A9%2B%7Btopic%7D"),
        ] {
            let url = format!("https://example.com:81/hooks/{encoded}/in?of={encoded}");
            assert_eq!(form.of(topic), url);
        }
    }

    #[test]
    fn a_topic_stands_in_the_path_or_in_the_query() {
        for url in [
            "https://{topic}.example.com/hooks",
            "https://example.com:{topic}/",
            "https://{topic}",
            "https://{topic}?all",
            "https://example.com#{topic}",
            "https://example.com/hooks?all#a/{topic}",
        ] {
            let problem = Form::new(url).unwrap_err().to_string();
            assert!(problem.contains("{topic}"), "{url}: {problem}");
        }
        Form::new("https://example.com/?{topic}").unwrap();
        Form::new("https://example.com/all").unwrap();
    }
}
