//! What PostgreSQL's SQLSTATEs mean.

use icp_core::error::{Code, Error};
use sqlx::error::DatabaseError;

/// What to do about `fault`.
pub(crate) fn judge(fault: &dyn DatabaseError) -> (Code, &'static str) {
    fault.code().map_or(INTERNAL, |state| by_state(&state))
}

/// Whether the transaction was undone because it met another: it can be run again.
pub(crate) fn is_passing(fault: &dyn DatabaseError) -> bool {
    matches!(fault.code().as_deref(), Some("40001" | "40P01"))
}

/// The error that tells what to do where a connection could not be made.
pub(super) fn refused(error: sqlx::Error) -> Error {
    let (code, message) = match &error {
        sqlx::Error::Configuration(_) => (
            Code::ConfigInvalid,
            "the address of the database is not of the form \
             postgres://user:password@host:5432/database; correct it",
        ),
        sqlx::Error::Tls(_) => (
            Code::StoreUnavailable,
            "no TLS connection to the database could be made; check `sslmode` and `sslrootcert` \
             of its address, and the server's certificate",
        ),
        sqlx::Error::Io(_) => (
            Code::StoreUnavailable,
            "no database server answers; check host and port of its address, and that it runs",
        ),
        sqlx::Error::Protocol(_) => (
            Code::StoreUnavailable,
            "what answers is no PostgreSQL server; check host and port of its address",
        ),
        _ => return crate::error::classify(error),
    };
    Error::new(code, message).caused_by(error)
}

const INTERNAL: (Code, &str) = (Code::Internal, "postgres refused a statement; report this defect");

/// By SQLSTATE, as in appendix A of PostgreSQL's manual: the first two signs are the class.
fn by_state(state: &str) -> (Code, &'static str) {
    match state {
        "40003" | "08007" => (
            Code::StoreUnavailable,
            "the connection broke during a commit, so that it may have happened or not; try again",
        ),
        "42501" => (
            Code::StoreDenied,
            "the database role lacks a privilege, or row-level security refused a row; grant it what \
             the guide on PostgreSQL lists",
        ),
        "3D000" => (Code::StoreUnavailable, "there is no such database; create it first"),
        "3F000" => (Code::StoreUnavailable, "there is no such schema; create it first"),
        "42P01" => (
            Code::StoreUnavailable,
            "a table is missing; open the store with the schema and prefix it was made with",
        ),
        "25006" => (
            Code::StoreReadOnly,
            "the server takes no writes; connect to the primary, or end its read-only mode",
        ),
        "57014" => (
            Code::StoreLocked,
            "a statement was ended because it took too long; look for locks held by others, or \
             raise `statement_timeout`",
        ),
        "55P03" => (Code::StoreLocked, "another transaction holds a lock for too long; end it"),
        "25P03" | "57P05" => {
            (Code::StoreUnavailable, "the server ended a connection that idled; try again")
        }
        "53300" => (
            Code::StoreUnavailable,
            "the server has no free connection; raise its `max_connections`, or lower that of \
             the stores",
        ),
        "53100" => (Code::StoreFull, "the disk of the database is full; free some space"),
        "53200" => (Code::StoreUnavailable, "the server is out of memory; try again later"),
        "57P01" | "57P02" | "57P03" => {
            (Code::StoreUnavailable, "the server is stopping or starting; try again")
        }
        "54000" | "54001" => (Code::Internal, "a statement is too large; report this defect"),
        _ => by_class(state.get(..2).unwrap_or_default()),
    }
}

fn by_class(class: &str) -> (Code, &'static str) {
    match class {
        "08" => (Code::StoreUnavailable, "the connection to the database broke; try again"),
        "28" => (
            Code::StoreDenied,
            "the database refuses the login; check user, password and `pg_hba.conf`",
        ),
        "40" => (Code::StoreLocked, "the transaction was undone in favour of another; try again"),
        "53" => (Code::StoreUnavailable, "the server is short of resources; try again later"),
        "58" => (Code::StoreUnavailable, "the disk of the database failed; check it"),
        "XX" => (
            Code::StoreCorrupt,
            "the server found damaged data or a defect of its own; read its log",
        ),
        _ => INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use icp_core::error::Fault;

    use super::*;

    #[test]
    fn states_have_a_meaning() {
        for (state, code) in [
            ("40001", Code::StoreLocked),
            ("40P01", Code::StoreLocked),
            ("40003", Code::StoreUnavailable),
            ("08006", Code::StoreUnavailable),
            ("28P01", Code::StoreDenied),
            ("28000", Code::StoreDenied),
            ("42501", Code::StoreDenied),
            ("3D000", Code::StoreUnavailable),
            ("25006", Code::StoreReadOnly),
            ("57014", Code::StoreLocked),
            ("57P01", Code::StoreUnavailable),
            ("57P03", Code::StoreUnavailable),
            ("53100", Code::StoreFull),
            ("53300", Code::StoreUnavailable),
            ("58030", Code::StoreUnavailable),
            ("XX001", Code::StoreCorrupt),
            ("42601", Code::Internal),
            ("", Code::Internal),
        ] {
            assert_eq!(by_state(state).0, code, "{state}");
        }
    }

    #[test]
    fn what_passes_is_worth_another_try() {
        for state in ["40001", "40003", "08006", "53100", "53300", "57P01", "57P03", "25006"] {
            let (code, message) = by_state(state);
            assert_eq!(Error::new(code, message).fault(), Fault::Transient, "{state}");
        }
    }
}
