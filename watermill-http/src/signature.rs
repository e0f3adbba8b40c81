//! [`Secret`], and the signatures of Standard Webhooks, without I/O and without a clock.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac};
use http::HeaderMap;
use sha2::Sha256;

pub(crate) const ID: &str = "webhook-id";
pub(crate) const TIMESTAMP: &str = "webhook-timestamp";
pub(crate) const SIGNATURE: &str = "webhook-signature";

/// Says what the rest of the text is.
const PREFIX: &str = "whsec_";

/// The version of symmetric signatures.
const VERSION: &str = "v1,";

/// How many signatures of a request are looked at. Each costs a comparison for each secret, and no look at the body.
const SIGNATURES_MAX: usize = 16;

/// How long a signature is by HMAC-SHA256.
const SIGNATURE_BYTES: usize = 32;

/// A secret that sender and receiver of webhooks share: `whsec_` and 24 to 64 bytes in base64, as
/// [Standard Webhooks](https://www.standardwebhooks.com) has it. `Debug` does not show it.
///
/// ```
/// use watermill_http::Secret;
///
/// let secret: Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse()?;
/// assert_eq!(format!("{secret:?}"), "Secret(..)");
/// assert!("whsec_c2hvcnQ=".parse::<Secret>().is_err());
/// # Ok::<(), watermill_http::SecretError>(())
/// ```
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

/// What a request says of its signature, which may be true. To look at it takes no secret and no body, so that whoever sends
/// without a signature is refused before anything is done for it.
#[derive(Debug)]
pub(crate) struct Claim<'h> {
    id: &'h str,
    timestamp: &'h str,
    signatures: Vec<Vec<u8>>,
}

/// What is no [`Secret`]. It does not say what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretError {
    /// It is not in base64.
    NotBase64,
    /// It has fewer than 24 bytes, or more than 64.
    Length,
}

impl FromStr for Secret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(PREFIX).unwrap_or(text);
        let key = BASE64_STANDARD.decode(encoded).map_err(|_| SecretError::NotBase64)?;
        match key.len() {
            24..=64 => Hmac::new_from_slice(&key).map(Self).map_err(|_| SecretError::Length),
            _ => Err(SecretError::Length),
        }
    }
}

impl Secret {
    fn mac(&self, id: &[u8], timestamp: &[u8], body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in [id, b".", timestamp, b".", body] {
            mac.update(part);
        }
        mac
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotBase64 => "read the secret of a webhook: it is not base64",
            Self::Length => "read the secret of a webhook: it does not have 24 to 64 bytes",
        })
    }
}

impl std::error::Error for SecretError {}

/// Why a message of this id cannot be signed: the dot divides what is signed, and an id with one could be taken for
/// another id and the beginning of another body.
pub(crate) fn check_id(id: &str) -> Result<(), String> {
    match id.is_empty() || id.contains('.') {
        true => Err(format!("the id {id:?} cannot be signed: it is empty, or has a dot")),
        false => Ok(()),
    }
}

/// The value of `webhook-signature`: a signature by each secret.
pub(crate) fn sign(secrets: &[Secret], id: &str, timestamp: &str, body: &[u8]) -> String {
    let signatures = secrets.iter().map(|secret| {
        let mac = secret.mac(id.as_bytes(), timestamp.as_bytes(), body);
        format!("{VERSION}{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    });
    signatures.collect::<Vec<_>>().join(" ")
}

impl<'h> Claim<'h> {
    /// What the headers claim, if that can be true at `now`; the reason why not is for the log.
    pub(crate) fn of(
        headers: &'h HeaderMap,
        now: SystemTime,
        tolerance: Duration,
    ) -> Result<Self, &'static str> {
        let header = |name| headers.get(name).and_then(|value| str::from_utf8(value.as_bytes()).ok());
        let (Some(id), Some(timestamp), Some(signatures)) =
            (header(ID), header(TIMESTAMP), header(SIGNATURE))
        else {
            return Err("it is not signed");
        };
        check_id(id).map_err(|_| "its id is empty, or has a dot")?;
        let signed_at =
            timestamp.parse().ok().filter(|_| timestamp.bytes().all(|byte| byte.is_ascii_digit()));
        let signed_at = signed_at.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
        let signed_at = signed_at.ok_or("its time is none")?;
        let ago = now.duration_since(signed_at).unwrap_or_else(|ahead| ahead.duration());
        if ago > tolerance {
            return Err("it was signed too long ago, or by a clock that is ahead");
        }
        let signatures = signatures.split(' ').take(SIGNATURES_MAX);
        let signatures = signatures.filter_map(|one| BASE64_STANDARD.decode(one.strip_prefix(VERSION)?).ok());
        let signatures: Vec<_> = signatures.filter(|signature| signature.len() == SIGNATURE_BYTES).collect();
        match signatures.is_empty() {
            true => Err("none of its signatures is of a kind that is known"),
            false => Ok(Self { id, timestamp, signatures }),
        }
    }

    /// Whether one of the secrets has signed it with this body; the reason why not is for the log.
    pub(crate) fn verify(&self, secrets: &[Secret], body: &[u8]) -> Result<(), &'static str> {
        let (id, timestamp) = (self.id.as_bytes(), self.timestamp.as_bytes());
        match self.is_one_of(secrets.iter().map(|secret| secret.mac(id, timestamp, body))) {
            true => Ok(()),
            false => Err("none of its signatures is by a secret that is known"),
        }
    }

    /// The body goes into each once, and not again for every signature.
    fn is_one_of(&self, mut expected: impl Iterator<Item = Hmac<Sha256>>) -> bool {
        // The comparison takes as long whatever the bytes are.
        let is_equal = |mac: &Hmac<Sha256>, signature: &[u8]| mac.clone().verify_slice(signature).is_ok();
        expected.any(|mac| self.signatures.iter().any(|signature| is_equal(&mac, signature)))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const TOLERANCE: Duration = Duration::from_secs(300);

    fn verify(
        secrets: &[Secret],
        headers: &HeaderMap,
        body: &[u8],
        now: SystemTime,
        tolerance: Duration,
    ) -> Result<(), &'static str> {
        Claim::of(headers, now, tolerance)?.verify(secrets, body)
    }

    fn secret(text: &str) -> Secret {
        text.parse().unwrap()
    }

    fn signed(id: &str, timestamp: &str, signatures: &str) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).unwrap();
        let entries = [(ID, value(id)), (TIMESTAMP, value(timestamp)), (SIGNATURE, value(signatures))];
        entries.into_iter().map(|(name, value)| (http::HeaderName::from_static(name), value)).collect()
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_example_of_the_standard_is_signed_as_it_says() {
        let secret = secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let (id, time, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        let signature = sign(std::slice::from_ref(&secret), id, time, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(verify(&[secret], &signed(id, time, &signature), body, at(1614265330), TOLERANCE), Ok(()));
    }

    #[test]
    fn while_secrets_are_exchanged_either_is_enough() {
        let [old, new] = [secret(&BASE64_STANDARD.encode([1; 24])), secret(&BASE64_STANDARD.encode([2; 64]))];
        let both = sign(&[old.clone(), new.clone()], "1", "1000", b"x");
        let request = signed("1", "1000", &format!("v1a,unknown {both}"));
        for receiver in [vec![old.clone()], vec![new.clone()], vec![new.clone(), old.clone()]] {
            assert_eq!(verify(&receiver, &request, b"x", at(1000), TOLERANCE), Ok(()));
        }
        let by_old = signed("1", "1000", &sign(std::slice::from_ref(&old), "1", "1000", b"x"));
        assert_eq!(verify(&[new.clone(), old], &by_old, b"x", at(1000), TOLERANCE), Ok(()));
        assert!(verify(&[new], &by_old, b"x", at(1000), TOLERANCE).is_err());
    }

    #[test]
    fn the_body_is_looked_at_once_for_each_secret_however_many_signatures_there_are() {
        let secrets = [1, 2, 3].map(|byte| secret(&BASE64_STANDARD.encode([byte; 24])));
        let forged = format!("v1,{}", BASE64_STANDARD.encode([0; SIGNATURE_BYTES]));
        let signatures = |forgeries: usize| {
            let good = sign(&secrets[2..], "1", "1000", b"x");
            signed("1", "1000", &format!("{}{good}", format!("{forged} ").repeat(forgeries)))
        };
        let looked = std::cell::Cell::new(0);
        let is_signed = |headers: &HeaderMap| {
            looked.set(0);
            let macs = secrets.iter().map(|secret| {
                looked.set(looked.get() + 1);
                secret.mac(b"1", b"1000", b"x")
            });
            Claim::of(headers, at(1000), TOLERANCE).unwrap().is_one_of(macs)
        };
        assert!(is_signed(&signatures(SIGNATURES_MAX - 1)));
        assert_eq!(looked.get(), 3);
        assert!(!is_signed(&signatures(SIGNATURES_MAX)));
        assert_eq!(looked.get(), 3);
    }

    #[test]
    fn whatever_is_changed_the_request_is_refused() {
        let secrets = [secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")];
        let signature = sign(&secrets, "1", "1000", b"2000.x");
        let refused = |headers: &HeaderMap, body: &[u8], now| {
            assert!(verify(&secrets, headers, body, at(now), TOLERANCE).is_err(), "{headers:?}");
        };
        let good = signed("1", "1000", &signature);
        for now in [700, 1000, 1300] {
            assert_eq!(verify(&secrets, &good, b"2000.x", at(now), TOLERANCE), Ok(()));
        }
        refused(&good, b"2000.x", 699);
        refused(&good, b"2000.x", 1301);
        refused(&good, b"2000.y", 1000);
        refused(&signed("2", "1000", &signature), b"2000.x", 1000);
        refused(&signed("1", "1001", &signature), b"2000.x", 1000);
        // The same bytes, divided in another place.
        refused(&signed("1.1000", "2000", &signature), b"x", 2000);
        for timestamp in ["", "+1000", "-1", "1e3", "99999999999999999999", "18446744073709551615"] {
            refused(&signed("1", timestamp, &sign(&secrets, "1", timestamp, b"2000.x")), b"2000.x", 1000);
        }
        for signature in ["", "v1,", "v1", "v2,AA==", &signature[3..], &signature[..20]] {
            refused(&signed("1", "1000", signature), b"2000.x", 1000);
        }
        for name in [ID, TIMESTAMP, SIGNATURE] {
            let mut headers = good.clone();
            headers.remove(name);
            refused(&headers, b"2000.x", 1000);
        }
    }
}
