//! [`Client`]: sends a request and has the answer, within bounds.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::Client as Pooled,
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::timeout;
use watermill_core::{
    backend::{Failure, Trouble},
    error::Delayed,
};

use crate::{
    HttpPublisherConfig,
    connector::Connector,
    error::{classify, retry_after, trouble_of},
};

/// How much of an answer's body is read, so that its connection can be used again: of a larger one it is closed.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// How long the rest of an answer is waited for, whose status is known already.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);
/// How much of it is shown in an error.
const SHOWN_CHARS: usize = 200;

/// A pool of connections. Nothing connects before the first request.
#[derive(Debug)]
pub(crate) struct Client {
    pool: Pooled<Connector, Full<Bytes>>,
    timeout: Duration,
}

/// What a receiver has said.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    /// The beginning of the body, of an answer that is not well.
    text: String,
}

impl Client {
    pub(crate) fn new(config: &HttpPublisherConfig) -> Result<Self, String> {
        let pool = Pooled::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(config.idle_timeout)
            .pool_max_idle_per_host(config.concurrency)
            .build(Connector::new(config)?);
        Ok(Self { pool, timeout: config.timeout })
    }

    /// Sends a request. Redirects are not followed.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        let answered = timeout(self.timeout, self.pool.request(request)).await;
        let no_word = |_| Failure::because(Trouble::Timeout, format!("no answer within {:?}", self.timeout));
        let (head, mut body) = answered.map_err(no_word)?.map_err(classify)?.into_parts();
        let retry_after = retry_after(head.status, &head.headers, SystemTime::now());
        // The status is the answer. Whatever becomes of the body, it takes nothing back.
        let is_well = trouble_of(head.status).is_none();
        let (mut read, mut text) = (0, Vec::new());
        let reading = async {
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(data) = frame.into_data() else { continue };
                read += data.len();
                if !is_well && text.len() < 4 * SHOWN_CHARS {
                    text.extend_from_slice(&data[..data.len().min(4 * SHOWN_CHARS)]);
                }
                if read > BODY_BYTES_MAX {
                    break;
                }
            }
        };
        // Whether it was read to its end only decides about the connection.
        let _ = timeout(BODY_TIMEOUT, reading).await;
        Ok(Answer { status: head.status, retry_after, text: shown(&text) })
    }
}

impl Answer {
    /// For how long nobody should send anything to this host, if the answer is not about its message alone.
    pub(crate) fn leave_host_alone(&self) -> Option<Duration> {
        let is_of_host =
            matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        self.retry_after.filter(|_| is_of_host)
    }

    /// Whether the message was accepted. Where not, the error says as [`Delayed`] when to try again, but no later
    /// than after `at_most`.
    pub(crate) fn accepted(self, at_most: Duration) -> Result<(), Failure> {
        let Some(trouble) = trouble_of(self.status) else { return Ok(()) };
        let (status, text) = (self.status, self.text);
        let detail = match text.is_empty() {
            true => format!("the receiver answered {status}"),
            false => format!("the receiver answered {status}: {text}"),
        };
        Err(match self.retry_after {
            Some(delay) => Failure::new(trouble, Delayed::new(detail, delay.min(at_most))),
            None => Failure::because(trouble, detail),
        })
    }
}

/// A URL that messages can be posted to, or why there is none. It is not repeated, for it may have a secret.
pub(crate) fn check_url(url: &str) -> Result<Uri, String> {
    let uri: Uri = url.parse().map_err(|error| format!("no URL: {error}"))?;
    let authority = uri.authority().ok_or("no URL: it begins with http:// and a host")?;
    match uri.scheme_str() {
        _ if authority.host().is_empty() => return Err("no URL: it has no host".to_owned()),
        _ if authority.as_str().contains('@') => {
            return Err("a URL with a password: set the header `authorization` instead".to_owned());
        }
        _ if !is_port(authority.as_str().strip_prefix(authority.host()).unwrap_or(":")) => {
            return Err("no URL: behind its host is something that is no port".to_owned());
        }
        Some("http") => {}
        Some("https") if cfg!(feature = "tls") => {}
        Some("https") => return Err("a URL for TLS: build watermill-http with its feature `tls`".to_owned()),
        _ => return Err("no URL: it begins with http:// or https://".to_owned()),
    }
    Ok(uri)
}

/// Whether that is a port, or none. A parser of URLs that takes what it cannot read for none would lead messages to the
/// default port, where somebody else may listen.
fn is_port(behind_host: &str) -> bool {
    match behind_host.strip_prefix(':') {
        None => behind_host.is_empty(),
        Some(port) => {
            port.bytes().all(|byte| byte.is_ascii_digit()) && (port.is_empty() || port.parse::<u16>().is_ok())
        }
    }
}

/// The beginning of a text from elsewhere, on one line.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let characters = text.chars().map(|character| if character.is_control() { ' ' } else { character });
    characters.take(SHOWN_CHARS).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_one_that_can_be_posted_to() {
        for url in [
            "http://localhost",
            "http://localhost:80/hooks?a=b",
            "http://[::1]:8080/",
            "HTTP://a/",
            "http://[::1]/",
        ] {
            assert!(check_url(url).is_ok(), "{url}");
        }
        for url in
            ["", "orders", "/hooks", "localhost:8080", "ftp://a/", "http://", "http://a b/", "http://u:pw@a/"]
        {
            let problem = check_url(url).unwrap_err();
            assert!(!problem.contains("pw"), "{problem}");
        }
        assert_eq!(check_url("https://localhost").is_ok(), cfg!(feature = "tls"));
    }

    #[test]
    fn what_is_no_port_does_not_lead_to_another_one() {
        for (port, expected) in
            [("", None), (":", None), (":80", Some(80)), (":8080", Some(8080)), (":65535", Some(65535))]
        {
            for host in ["hooks.internal", "10.0.0.1", "[::1]"] {
                let url = check_url(&format!("http://{host}{port}/hooks")).unwrap();
                assert_eq!(url.port_u16(), expected, "{url}");
            }
        }
        for port in [":80800", ":65536", ":8O80", ":+80", ":-1", ":80:80", ":80a", "a", "::1"] {
            let url = format!("http://[::1]{port}/");
            assert!(check_url(&url).is_err(), "{url}");
        }
        for url in
            ["http://hooks.internal:80800/", "http://hooks.internal:8O80/", "http://a:/:80/", "http://a:80:/"]
        {
            let port = url.parse::<Uri>().ok().and_then(|url| url.port_u16());
            assert_eq!((check_url(url).is_ok(), port), (url == "http://a:/:80/", None), "{url}");
        }
    }

    #[test]
    fn what_a_receiver_says_is_shown_on_one_short_line() {
        assert_eq!(shown(b" no\nsuch\0thing "), "no such thing");
        assert_eq!(shown(&[0xff; 1000]).chars().count(), SHOWN_CHARS);
    }
}
