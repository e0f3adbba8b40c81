//! The only mapping from answers and native errors to what they mean.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use hyper_util::client::legacy::Error;
use watermill_core::backend::{Failure, Trouble};

/// What an answer means; `None` is that the message was accepted.
///
/// | status | trouble |
/// |---|---|
/// | 2xx | none |
/// | 408, 429, 5xx | `Unavailable` |
/// | 400, 413, 414, 415, 422, 431 | `Message` |
/// | other 4xx, 3xx | `Refused` |
pub(crate) fn trouble_of(status: StatusCode) -> Option<Trouble> {
    match status.as_u16() {
        200..=299 => None,
        408 | 429 | 500.. => Some(Trouble::Unavailable),
        400 | 413 | 414 | 415 | 422 | 431 => Some(Trouble::Message),
        // A redirect would lead the message, and what authorizes it, to where nobody has sent it.
        _ => Some(Trouble::Refused),
    }
}

/// What kept a request from being answered.
pub(crate) fn classify(error: Error) -> Failure {
    let is_sent = !error.is_connect();
    let failure = Failure::new(Trouble::Unavailable, error);
    match is_sent {
        true => failure.explained("the connection broke before the answer, the message may have arrived"),
        false => failure,
    }
}

/// How long the receiver asks to be left alone: whole seconds, or a date.
pub(crate) fn retry_after(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    if trouble_of(status) != Some(Trouble::Unavailable) {
        return None;
    }
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than can be counted is long enough.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_status_means_what_the_table_says() {
        let trouble = |status| trouble_of(StatusCode::from_u16(status).unwrap());
        for (statuses, expected) in [
            (&[200, 201, 202, 204, 299][..], None),
            (&[408, 429, 500, 502, 503, 504, 599, 999], Some(Trouble::Unavailable)),
            (&[400, 413, 414, 415, 422, 431], Some(Trouble::Message)),
            (&[301, 302, 307, 308, 401, 403, 404, 405, 409, 410, 451, 499], Some(Trouble::Refused)),
        ] {
            for status in statuses {
                assert_eq!(trouble(*status), expected, "{status}");
            }
        }
    }

    #[test]
    fn seconds_and_dates_say_how_long_to_wait() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let asked = |status, value: &str| {
            let headers = [(RETRY_AFTER, HeaderValue::from_str(value).unwrap())].into_iter().collect();
            retry_after(status, &headers, now)
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::INTERNAL_SERVER_ERROR] {
            assert_eq!(asked(status, "120"), seconds(120));
            assert_eq!(asked(status, " 0 "), seconds(0));
            assert_eq!(asked(status, "99999999999999999999999"), seconds(u64::MAX));
            assert_eq!(asked(status, "Sun, 06 Nov 1994 08:50:07 GMT"), seconds(30));
            assert_eq!(asked(status, "Sun, 06 Nov 1994 08:49:07 GMT"), seconds(0));
            for nothing in ["", "-1", "1.5", "soon", "Sun, 99 Nov 1994 08:50:07 GMT"] {
                assert_eq!(asked(status, nothing), None, "{nothing}");
            }
        }
        for status in [StatusCode::OK, StatusCode::FOUND, StatusCode::FORBIDDEN] {
            assert_eq!(asked(status, "120"), None);
        }
    }
}
