//! What SQLite's result codes mean.

use icp_core::error::Code;
use sqlx::error::DatabaseError;

/// What to do about `fault`.
pub(crate) fn judge(fault: &dyn DatabaseError) -> (Code, &'static str) {
    fault.code().and_then(|code| code.parse().ok()).map_or(INTERNAL, by_code)
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
