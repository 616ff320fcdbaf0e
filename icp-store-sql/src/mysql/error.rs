//! What the server's error numbers mean.

use icp_core::error::{Code, Error};
use sqlx::error::DatabaseError;
use sqlx::mysql::MySqlDatabaseError;

const DUPLICATE: u16 = 1062;

/// What to do about `fault`.
pub(crate) fn judge(fault: &dyn DatabaseError) -> (Code, &'static str) {
    number(fault).map_or(INTERNAL, by_number)
}

/// Whether the transaction was undone because it met another: it can be run again.
///
/// Not where it waited for a lock until its time was over: it may be the same the next time.
pub(crate) fn is_passing(fault: &dyn DatabaseError) -> bool {
    number(fault).is_some_and(is_collision)
}

/// The error that tells what to do where a connection could not be made.
pub(super) fn refused(error: sqlx::Error) -> Error {
    let message = match &error {
        sqlx::Error::Tls(_) => {
            "no TLS connection to the database could be made; check `ssl-mode` and `ssl-ca` of its \
             address, and the server's certificate"
        }
        sqlx::Error::Io(_) => {
            "no database server answers; check host and port of its address, and that it runs"
        }
        sqlx::Error::Protocol(_) => {
            "what answers is no MySQL server; check host and port of its address"
        }
        _ => return crate::error::classify(error),
    };
    Error::new(Code::StoreUnavailable, message).caused_by(error)
}

/// Whether a row with the same key is there.
pub(super) fn is_duplicate(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(number) == Some(DUPLICATE)
}

fn number(fault: &dyn DatabaseError) -> Option<u16> {
    fault.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
}

/// Deadlocks, and rows that changed since they were read.
fn is_collision(number: u16) -> bool {
    matches!(number, 1020 | 1213)
}

const INTERNAL: (Code, &str) =
    (Code::Internal, "the server refused a statement; report this defect");

/// By the number of MySQL and MariaDB.
fn by_number(number: u16) -> (Code, &'static str) {
    match number {
        1020 | 1205 | 1213 | 3572 => (
            Code::StoreLocked,
            "other transactions keep rows locked; try again, and end those that last long",
        ),
        1045 | 1698 | 3118 | 4151 => (
            Code::StoreDenied,
            "the server refuses the login; check user and password, and unlock the account",
        ),
        1044 => {
            (Code::StoreDenied, "the user may not use the database; grant it all privileges on it")
        }
        1146 => (
            Code::StoreUnavailable,
            "a table is missing; open the store with the prefix it was made with",
        ),
        1049 => (Code::StoreUnavailable, "there is no such database; create it, or check its name"),
        1142 | 1143 | 1227 | 1370 => (
            Code::StoreDenied,
            "the user lacks a privilege; grant it what the guide on MySQL lists",
        ),
        1290 | 1792 | 1836 | 3100 => (
            Code::StoreReadOnly,
            "the server takes no writes; connect to the primary, or switch `read_only` off",
        ),
        1021 | 1041 | 1114 | 1534 | 3675 => {
            (Code::StoreFull, "the database or its disk is full; free some space")
        }
        1040 | 1203 | 1226 => (
            Code::StoreUnavailable,
            "the server has too many connections; raise `max_connections`, or use fewer",
        ),
        1053 | 1077 | 1079 | 1152 | 1159 | 1161 | 1184 | 1317 | 1927 => {
            (Code::StoreUnavailable, "the server ends the connection; check that it runs")
        }
        1153 => (
            Code::StoreUnavailable,
            "the server takes no statement as large; raise its `max_allowed_packet`",
        ),
        1034 | 1194 | 1712 => {
            (Code::StoreCorrupt, "a table is damaged; check it, or restore a backup")
        }
        _ => INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_meaning() {
        for (number, code) in [
            (1213, Code::StoreLocked),
            (1205, Code::StoreLocked),
            (1045, Code::StoreDenied),
            (1044, Code::StoreDenied),
            (1049, Code::StoreUnavailable),
            (1142, Code::StoreDenied),
            (1227, Code::StoreDenied),
            (1290, Code::StoreReadOnly),
            (1836, Code::StoreReadOnly),
            (1021, Code::StoreFull),
            (1114, Code::StoreFull),
            (1040, Code::StoreUnavailable),
            (1053, Code::StoreUnavailable),
            (1153, Code::StoreUnavailable),
            (1064, Code::Internal),
        ] {
            assert_eq!(by_number(number).0, code, "{number}");
        }
    }

    #[test]
    fn only_collisions_are_tried_again() {
        assert!([1020, 1213].into_iter().all(is_collision));
        assert!(![1062, 1045, 1114, 1205].into_iter().any(is_collision));
    }
}
