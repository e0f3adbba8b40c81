//! What nobody is to see.

use std::fmt;

/// A text that is shown as `***`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A URL with `***` for its password, or any other text as it is.
pub(crate) fn without_password(text: &str) -> String {
    match password_span(text) {
        Some((start, end)) => format!("{}***{}", &text[..start], &text[end..]),
        None => text.to_owned(),
    }
}

/// Whether a text is a URL with a password in it.
pub(crate) fn has_password(text: &str) -> bool {
    password_span(text).is_some_and(|(start, end)| start < end)
}

/// Where the password of a URL begins and ends. One that nobody has escaped may hold a slash or an `@`.
fn password_span(text: &str) -> Option<(usize, usize)> {
    let authority = text.find("://")? + 3;
    if let Some(name) = text.find("password=").filter(|at| text[..*at].contains('?')) {
        let start = name + "password=".len();
        return Some((start, text[start..].find('&').map_or(text.len(), |length| start + length)));
    }
    let end = text.rfind('@')?;
    let start = authority + text.get(authority..end)?.find(':')? + 1;
    Some((start, end))
}

/// Whether an option of a client holds what does not belong in a log.
pub(crate) fn is_secret_option(name: &str) -> bool {
    ["password", "secret", "pem", "oauthbearer", "jaas", "token"].iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_found_wherever_a_url_has_it() {
        for (url, shown) in [
            ("postgres://me:pw@h/d", "postgres://me:***@h/d"),
            ("mysql://me:p/w@x@h:3306/d", "mysql://me:***@h:3306/d"),
            ("redis://:pw@h", "redis://:***@h"),
            ("postgres://h/d?user=me&password=pw&x=1", "postgres://h/d?user=me&password=***&x=1"),
        ] {
            assert_eq!(without_password(url), shown);
            assert!(has_password(url), "{url}");
        }
        for text in ["postgres://me@h/d", "kafka://a:9092,b:9092", "sqlite:a.db", "some text"] {
            assert_eq!(without_password(text), text);
            assert!(!has_password(text), "{text}");
        }
    }
}
