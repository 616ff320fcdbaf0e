use icp_core::error::{Code, Error};

/// Either the database failed, or a rule of the store was broken.
#[derive(Debug)]
pub(crate) enum Failure {
    Sql(sqlx::Error),
    Rule(Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Rule(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Rule(corrupt("a stored document is not json").caused_by(error))
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Sql(error) => classify(error),
            Failure::Rule(error) => error,
        }
    }
}

/// Data that the store cannot have written.
pub(crate) fn corrupt(what: &str) -> Error {
    Error::new(Code::StoreCorrupt, format!("{what}; restore the database from a backup"))
}

/// The error that tells what to do about `error`.
pub(crate) fn classify(error: sqlx::Error) -> Error {
    let (code, message) = match &error {
        sqlx::Error::Database(fault) => {
            fault.code().and_then(|code| code.parse().ok()).map_or(INTERNAL, by_code)
        }
        sqlx::Error::Io(fault) if fault.kind() == std::io::ErrorKind::StorageFull => by_code(FULL),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => by_code(CORRUPT),
        sqlx::Error::PoolTimedOut => {
            (Code::Overloaded, "no reader got free in time; allow more readers, or read less")
        }
        sqlx::Error::Io(_)
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Configuration(_) => {
            (Code::StoreUnavailable, "the database is closed; open the store again")
        }
        _ => INTERNAL,
    };
    Error::new(code, message).caused_by(error)
}

const INTERNAL: (Code, &str) = (Code::Internal, "sqlite refused a statement; report this defect");
const FULL: i32 = 13;
const CORRUPT: i32 = 11;

/// By SQLite's result code; the low byte is the primary code, the rest details it.
fn by_code(code: i32) -> (Code, &'static str) {
    // SQLITE_READONLY_* come as 8, SQLITE_IOERR_* as 10; of those none tells a full disk apart.
    match code & 0xff {
        5 | 6 => (
            Code::StoreLocked,
            "another connection keeps the database locked; end its transaction, or raise \
             `busy_timeout`",
        ),
        FULL => (Code::StoreFull, "the database or its disk is full; free some space"),
        CORRUPT | 26 => (
            Code::StoreCorrupt,
            "the file is damaged or not a database; check the path, or restore a backup",
        ),
        3 | 8 => (
            Code::StoreReadOnly,
            "the database cannot be written; check the owner and mode of file and directory",
        ),
        14 => (
            Code::StoreUnavailable,
            "the database file cannot be opened; check the path and its directory",
        ),
        10 => (
            Code::StoreUnavailable,
            "the disk failed to read or write, or is full; check it and its free space",
        ),
        _ => INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_codes_have_a_meaning() {
        for (result, code) in [
            (5, Code::StoreLocked),
            (517, Code::StoreLocked),
            (6, Code::StoreLocked),
            (13, Code::StoreFull),
            (11, Code::StoreCorrupt),
            (26, Code::StoreCorrupt),
            (8, Code::StoreReadOnly),
            (1032, Code::StoreReadOnly),
            (14, Code::StoreUnavailable),
            (778, Code::StoreUnavailable),
            (1, Code::Internal),
        ] {
            assert_eq!(by_code(result).0, code, "{result}");
        }
    }
}
