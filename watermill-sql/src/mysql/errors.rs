//! What errors mean, by the class of their SQLSTATE, and by number where that is the class for everything:
//! <https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html>,
//! <https://mariadb.com/kb/en/mariadb-error-codes/>.

use sqlx::{error::DatabaseError, mysql::MySqlDatabaseError};

use crate::error::Trouble;

/// What to do about an error; `None` for what is not known here.
pub(super) fn trouble(error: &dyn DatabaseError) -> Option<Trouble> {
    let number = error.try_downcast_ref::<MySqlDatabaseError>().map_or(0, MySqlDatabaseError::number);
    of_number(number).or_else(|| of_state(&error.code().unwrap_or_default()))
}

/// Those that their state says too little of, or another thing.
fn of_number(number: u16) -> Option<Trouble> {
    Some(match number {
        // Larger than the packet, and that of a result; a row that is too long for its table; data that were cut
        // or that a column or its character set does not hold; not JSON.
        1153 | 1301 | 1118 | 1139 | 1265 | 1366 | 1406 | 3140 | 4025 => Trouble::Message,
        // A column of the table that is not ours has no value.
        1364 | 1048 => Trouble::Mismatch,
        // Two were in each other's way, and all of the transaction has been rolled back.
        1213 | 1637 => Trouble::Conflict,
        // Connections, and what an account may use of them; access that was denied to what passes: a server that
        // is read-only after a switch of primaries.
        1040 | 1203 | 1226 | 1290 | 1836 | 1792 | 3032 => Trouble::Unavailable,
        // A statement's time, a lock that was not to be waited for, and tables and disks that are full.
        1205 | 1206 | 1317 | 1969 | 3024 | 3572 | 1021 | 1037 | 1038 | 1041 | 1114 => Trouble::Unavailable,
        // Denied to the account.
        1044 | 1045 | 1142 | 1143 | 1227 | 1370 | 1410 | 1698 | 1820 => Trouble::Refused,
        _ => return None,
    })
}

fn of_state(state: &str) -> Option<Trouble> {
    Some(match state.get(..2)? {
        // Transactions that were rolled back, of two phases too, or in a state in which nothing goes on.
        "25" | "40" | "XA" => Trouble::Conflict,
        // Syntax, names, numbers of columns, prepared statements.
        "42" | "21" | "26" => Trouble::Mismatch,
        "22" => Trouble::Message,
        // Connections, features, interruptions, and the time that a statement may take.
        "08" | "0A" | "70" => Trouble::Unavailable,
        // Constraints of the application's own, what its triggers raise, accounts, databases: somebody must change
        // something.
        "23" | "44" | "45" | "28" | "3D" | "0L" | "0P" => Trouble::Refused,
        _ => return None,
    })
}

/// Whether somebody else has a lock. MariaDB says that the wait was too long, MySQL that there was none.
pub(super) fn is_locked(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>())
        .is_some_and(|error| matches!(error.number(), 1205 | 3572))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_means_what_the_sender_should_do() {
        for (number, state, meaning) in [
            (1969, "70100", Some(Trouble::Unavailable)),
            (3024, "HY000", Some(Trouble::Unavailable)),
            (1205, "HY000", Some(Trouble::Unavailable)),
            (1927, "70100", Some(Trouble::Unavailable)),
            (1053, "08S01", Some(Trouble::Unavailable)),
            (1203, "42000", Some(Trouble::Unavailable)),
            (1792, "25006", Some(Trouble::Unavailable)),
            (1213, "40001", Some(Trouble::Conflict)),
            (1613, "XA106", Some(Trouble::Conflict)),
            (1153, "08S01", Some(Trouble::Message)),
            (1062, "23000", Some(Trouble::Refused)),
            (1644, "45000", Some(Trouble::Refused)),
            (1264, "22003", Some(Trouble::Message)),
            (1146, "42S02", Some(Trouble::Mismatch)),
            (1054, "42S22", Some(Trouble::Mismatch)),
            (1142, "42000", Some(Trouble::Refused)),
            (1045, "28000", Some(Trouble::Refused)),
            (4999, "HY000", None),
        ] {
            assert_eq!(of_number(number).or_else(|| of_state(state)), meaning, "{number} {state}");
        }
    }
}
