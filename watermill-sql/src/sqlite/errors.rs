//! What errors mean, by their primary codes: <https://www.sqlite.org/rescode.html>.

use sqlx::error::DatabaseError;

use crate::error::Trouble;

/// What to do about an error; `None` for what is not known here.
pub(super) fn trouble(error: &dyn DatabaseError) -> Option<Trouble> {
    of_code(error.code().and_then(|code| code.parse().ok()).unwrap_or(0))
}

/// The low byte is the primary code.
fn of_code(code: i32) -> Option<Trouble> {
    Some(match (code, code & 0xff) {
        // BUSY_SNAPSHOT: a transaction that began reading cannot write any more.
        (517, _) => Trouble::Conflict,
        // CONSTRAINT_NOTNULL: the table has a column that is not ours.
        (1299, _) => Trouble::Mismatch,
        // ABORT: a statement that another one has rolled back.
        (_, 4) => Trouble::Conflict,
        // ERROR, which is what SQLite calls missing tables and columns.
        (_, 1) => Trouble::Mismatch,
        // BUSY, LOCKED, NOMEM, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL, SCHEMA.
        (_, 5 | 6 | 7 | 9 | 10 | 13 | 14 | 15 | 17) => Trouble::Unavailable,
        // TOOBIG, MISMATCH.
        (_, 18 | 20) => Trouble::Message,
        // CONSTRAINT, of the application's own or raised by its triggers, PERM, READONLY, CORRUPT, NOLFS, AUTH, NOTADB:
        // somebody must change something.
        (_, 3 | 8 | 11 | 19 | 22 | 23 | 26) => Trouble::Refused,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_means_what_the_sender_should_do() {
        for (code, meaning) in [
            (5, Some(Trouble::Unavailable)),
            (261, Some(Trouble::Unavailable)),
            (517, Some(Trouble::Conflict)),
            (516, Some(Trouble::Conflict)),
            (1, Some(Trouble::Mismatch)),
            (2067, Some(Trouble::Refused)),
            (1299, Some(Trouble::Mismatch)),
            (18, Some(Trouble::Message)),
            (8, Some(Trouble::Refused)),
            (11, Some(Trouble::Refused)),
            (21, None),
            (0, None),
        ] {
            assert_eq!(of_code(code), meaning, "{code}");
        }
    }
}
