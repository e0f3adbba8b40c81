//! What errors mean, by their documented classes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.

use sqlx::{error::DatabaseError, postgres::PgDatabaseError};

use crate::error::Trouble;

/// What to do about an error; `None` for what is not known here.
pub(super) fn trouble(error: &dyn DatabaseError) -> Option<Trouble> {
    let code = error.code().unwrap_or_default();
    let file = error.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::file);
    of_code(&code, file.unwrap_or_default())
}

/// `file` is that of the server's source which has raised it: the only thing that tells what is full.
fn of_code(code: &str, file: &str) -> Option<Trouble> {
    let class = code.get(..2)?;
    Some(match (class, code) {
        // A queue of notifications that nobody empties is no fault of a message.
        (_, "54000") if file == "async.c" => Trouble::Unavailable,
        // read_only_sql_transaction is what a client hears that is still connected to what was the primary.
        (_, "25006") => Trouble::Unavailable,
        // duplicate_prepared_statement, which a pooler brings about.
        (_, "42P05") => Trouble::Unavailable,
        // insufficient_privilege.
        (_, "42501") => Trouble::Refused,
        // not_null_violation: the table has a column that is not ours.
        (_, "23502") => Trouble::Mismatch,
        // Transactions that were rolled back, or are in a state in which nothing goes on, and cursors and
        // savepoints of such.
        ("25" | "2D" | "3B" | "40", _) => Trouble::Conflict,
        // Syntax, names, types: the table is not as expected. The same for a prepared statement that is not there.
        ("42" | "21", _) => Trouble::Mismatch,
        // Data, and limits of the program.
        ("22" | "54", _) => Trouble::Message,
        // Connections, resources, prerequisites that are not there now, operators, the system, locks, features that
        // a cached statement asks for, internal errors.
        ("08" | "0A" | "26" | "34" | "53" | "55" | "57" | "58" | "72" | "F0" | "HV" | "XX", _) => {
            Trouble::Unavailable
        }
        // Constraints and checks of the application's own, what its triggers and functions raise, accounts, roles,
        // catalogues, schemas: somebody must change something.
        ("09" | "23" | "27" | "2F" | "38" | "39" | "44" | "P0", _) => Trouble::Refused,
        ("28" | "0L" | "0P" | "2B" | "3D" | "3F", _) => Trouble::Refused,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_means_what_the_sender_should_do() {
        for (code, meaning) in [
            ("0A000", Trouble::Unavailable),
            ("57014", Trouble::Unavailable),
            ("55P03", Trouble::Unavailable),
            ("53300", Trouble::Unavailable),
            ("25006", Trouble::Unavailable),
            ("26000", Trouble::Unavailable),
            ("42P05", Trouble::Unavailable),
            ("XX000", Trouble::Unavailable),
            ("40001", Trouble::Conflict),
            ("25P02", Trouble::Conflict),
            ("25P03", Trouble::Conflict),
            ("22P02", Trouble::Message),
            ("23505", Trouble::Refused),
            ("P0001", Trouble::Refused),
            ("54000", Trouble::Message),
            ("42P01", Trouble::Mismatch),
            ("42703", Trouble::Mismatch),
            ("23502", Trouble::Mismatch),
            ("42501", Trouble::Refused),
            ("28P01", Trouble::Refused),
            ("3D000", Trouble::Refused),
        ] {
            assert_eq!(of_code(code, ""), Some(meaning), "{code}");
        }
    }

    #[test]
    fn a_full_queue_of_notifications_is_no_fault_of_a_message() {
        assert_eq!(of_code("54000", "async.c"), Some(Trouble::Unavailable));
    }

    #[test]
    fn what_is_in_no_class_is_not_known() {
        for code in ["", "Z", "ZZ999", "?"] {
            assert_eq!(of_code(code, ""), None, "{code}");
        }
    }
}
