use icp_core::error::{Code, Error};

/// Refuses a time limit that everything would exceed.
#[cfg(any(feature = "mysql", feature = "postgres"))]
pub(crate) fn above_zero(field: &str, limit: std::time::Duration) -> icp_core::error::Result<()> {
    if limit.as_millis() > 0 {
        return Ok(());
    }
    let violation =
        icp_core::error::Violation::new(format!("/{field}"), "out_of_range", "use at least 1 ms");
    Err(Error::violations(Code::ConfigInvalid, vec![violation]))
}

/// Either the database failed, or a rule of the store was broken.
#[derive(Debug)]
pub(crate) enum Failure {
    Sql(sqlx::Error),
    Rule(Error),
    /// Another node changed what this transaction had read.
    Raced,
}

impl Failure {
    /// Whether the whole transaction, which is undone, can be run again at once.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Raced => true,
            Self::Sql(sqlx::Error::Database(fault)) => is_passing(&**fault),
            Self::Sql(_) | Self::Rule(_) => false,
        }
    }

    /// Whether what was read cannot be understood.
    pub(crate) fn is_corrupt(&self) -> bool {
        match self {
            Self::Sql(sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => true,
            Self::Rule(error) => error.code() == Code::StoreCorrupt,
            Self::Sql(_) | Self::Raced => false,
        }
    }
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
            Failure::Raced => {
                Error::new(Code::StoreLocked, "other nodes kept changing the same rows; try again")
            }
        }
    }
}

/// Data that the store cannot have written.
pub(crate) fn corrupt(what: &str) -> Error {
    Error::new(Code::StoreCorrupt, format!("{what}; restore the database from a backup"))
}

/// All connections are taken and stay so for too long.
pub(crate) fn overloaded() -> Error {
    Error::new(Code::Overloaded, "no connection got free in time; allow more, or ask for less")
}

/// The error that tells what to do about `error`.
pub(crate) fn classify(error: sqlx::Error) -> Error {
    let (code, message) = judge(&error);
    Error::new(code, message).caused_by(error)
}

fn judge(error: &sqlx::Error) -> (Code, &'static str) {
    match error {
        sqlx::Error::Database(fault) => by_driver(&**fault),
        sqlx::Error::Io(fault) if fault.kind() == std::io::ErrorKind::StorageFull => {
            (Code::StoreFull, "the database or its disk is full; free some space")
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => (
            Code::StoreCorrupt,
            "a stored value cannot be read; restore the database from a backup",
        ),
        sqlx::Error::Io(fault) if fault.kind() == std::io::ErrorKind::TimedOut => (
            Code::StoreUnavailable,
            "the database did not answer in time; check its load and the network, and try again",
        ),
        sqlx::Error::PoolTimedOut => (
            Code::StoreUnavailable,
            "no connection to the database could be had in time; check that it runs, and try again",
        ),
        // Where an answer makes no sense, bytes of it are missing.
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::BeginFailed => (
            Code::StoreUnavailable,
            "the connection to the database broke; check that it runs, and try again",
        ),
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed | sqlx::Error::Configuration(_) => {
            (Code::StoreUnavailable, "the database is closed; open the store again")
        }
        _ => (Code::Internal, "the database driver failed; report this defect"),
    }
}

/// Whether the database undid the transaction for the sake of another.
fn is_passing(fault: &dyn sqlx::error::DatabaseError) -> bool {
    #[cfg(feature = "postgres")]
    if fault.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
        return crate::postgres::error::is_passing(fault);
    }
    #[cfg(feature = "mysql")]
    if fault.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>().is_some() {
        return crate::mysql::error::is_passing(fault);
    }
    let _ = fault;
    false
}

/// As the database that answered says it.
fn by_driver(fault: &dyn sqlx::error::DatabaseError) -> (Code, &'static str) {
    #[cfg(feature = "sqlite")]
    if fault.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
        return crate::sqlite::error::judge(fault);
    }
    #[cfg(feature = "postgres")]
    if fault.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
        return crate::postgres::error::judge(fault);
    }
    #[cfg(feature = "mysql")]
    if fault.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>().is_some() {
        return crate::mysql::error::judge(fault);
    }
    (Code::Internal, "the database refused a statement; report this defect")
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use icp_core::error::Fault;

    use super::*;

    #[test]
    fn what_a_failing_network_does_is_worth_another_try() {
        let broken = |kind: ErrorKind| sqlx::Error::Io(kind.into());
        for error in [
            broken(ErrorKind::ConnectionReset),
            broken(ErrorKind::UnexpectedEof),
            broken(ErrorKind::TimedOut),
            sqlx::Error::Tls("the peer ended it".into()),
            sqlx::Error::Protocol("packet empty".to_owned()),
            sqlx::Error::BeginFailed,
            sqlx::Error::PoolTimedOut,
        ] {
            let error = classify(error);
            assert_eq!(error.code(), Code::StoreUnavailable, "{error:?}");
            assert_eq!(error.fault(), Fault::Transient, "{error:?}");
        }
        assert_eq!(classify(sqlx::Error::RowNotFound).code(), Code::Internal);
        assert_eq!(classify(sqlx::Error::Decode("x".into())).code(), Code::StoreCorrupt);
        assert_eq!(overloaded().fault(), Fault::Transient);
    }
}
