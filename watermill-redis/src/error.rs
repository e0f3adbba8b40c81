//! The only mapping from native errors to what they mean.

use redis::{ErrorKind, RedisError};
use watermill_core::backend::{Failure, Trouble};

/// What an answer begins with, or contains where a script has passed it on.
const CODES: &[(&str, Trouble)] = &[
    // The group, or the stream with it, was removed.
    ("NOGROUP", Trouble::Mismatch),
    // There is something else under the name of the topic.
    ("WRONGTYPE", Trouble::Topic),
    ("NOAUTH", Trouble::Refused),
    ("WRONGPASS", Trouble::Refused),
    ("NOPERM", Trouble::Refused),
    // Over its memory, cannot store, has too few replicas, is in a script, starts, follows another.
    ("OOM", Trouble::Unavailable),
    ("MISCONF", Trouble::Unavailable),
    ("NOREPLICAS", Trouble::Unavailable),
    ("BUSY", Trouble::Unavailable),
    ("LOADING", Trouble::Unavailable),
    ("READONLY", Trouble::Unavailable),
    ("MASTERDOWN", Trouble::Unavailable),
    ("CLUSTERDOWN", Trouble::Unavailable),
    ("TRYAGAIN", Trouble::Unavailable),
];

pub(crate) fn classify(error: RedisError) -> Failure {
    let trouble = match error.kind() {
        ErrorKind::Io if error.is_timeout() => Trouble::Timeout,
        ErrorKind::Io => Trouble::Unavailable,
        ErrorKind::InvalidClientConfig => Trouble::Config,
        _ => answered(&error).unwrap_or(Trouble::Refused),
    };
    Failure::new(trouble, error)
}

/// What the server's answer means; of a transaction, the first answer to one of its commands that is an error.
fn answered(error: &RedisError) -> Option<Trouble> {
    let answers = error.clone().into_server_errors()?;
    let (_, answer) = answers.first()?;
    let details = answer.details().unwrap_or_default();
    // Servers before 7 pass on what a command in a script has met in the text alone.
    let in_text = |code: &str| answer.code() == "ERR" && details.contains(code);
    let means = |(code, _): &&(&str, Trouble)| answer.code() == *code || in_text(code);
    CODES.iter().find(means).map(|(_, trouble)| *trouble)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_means_what_its_code_says() {
        let answer = |code: &str| redis::make_extension_error(code.to_owned(), Some("no".to_owned()));
        for (code, trouble) in CODES {
            assert_eq!(classify(answer(code)).trouble(), *trouble, "{code}");
        }
        assert_eq!(classify(answer("UNHEARD")).trouble(), Trouble::Refused);
        let from_script = answer_of_script();
        assert_eq!(classify(from_script).trouble(), Trouble::Mismatch);
    }

    fn answer_of_script() -> RedisError {
        let text = "Error running script: @user_script:3: NOGROUP No such key 't'";
        redis::make_extension_error("ERR".to_owned(), Some(text.to_owned()))
    }
}
