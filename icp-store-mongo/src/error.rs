use icp_core::error::{Code, Error, Result};
use mongodb::bson;
use mongodb::error::{ErrorKind, WriteFailure};

/// Either the server or the way to it failed, or a rule of the store was broken.
#[derive(Debug)]
pub(crate) enum Failure {
    Server(Box<mongodb::error::Error>),
    Rule(Error),
}

impl Failure {
    /// Whether the server may have done what it was asked for, or may do it the next time.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Server(fault) => {
                matches!(&*fault.kind, ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. })
                    || fault.contains_label("RetryableWriteError")
                    || command_code(fault)
                        .is_some_and(|code| by_code(code).0 == Code::StoreUnavailable)
            }
            Self::Rule(_) => false,
        }
    }
}

impl From<mongodb::error::Error> for Failure {
    fn from(error: mongodb::error::Error) -> Self {
        Self::Server(Box::new(error))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Rule(error)
    }
}

impl From<bson::error::Error> for Failure {
    fn from(error: bson::error::Error) -> Self {
        Self::Rule(corrupt("a stored document has another shape").caused_by(error))
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Rule(corrupt("a stored text is not json").caused_by(error))
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Server(error) => classify(*error),
            Failure::Rule(error) => error,
        }
    }
}

/// The outcome of `operation` as the contract names it.
pub(crate) fn told<T>(operation: &'static str, outcome: Result<T, Failure>) -> Result<T> {
    outcome.map_err(|failure| Error::from(failure).during(operation))
}

/// Data that the store cannot have written.
pub(crate) fn corrupt(what: &str) -> Error {
    Error::new(Code::StoreCorrupt, format!("{what}; restore the database from a backup"))
}

/// What another writer was quicker with, again and again.
pub(crate) fn contended() -> Error {
    Error::new(Code::StoreLocked, "other writers were quicker too often; try again")
}

/// The error that tells what to do about `error`.
pub(crate) fn classify(error: mongodb::error::Error) -> Error {
    let (code, message) = meaning(&error);
    Error::new(code, message).caused_by(error)
}

fn meaning(error: &mongodb::error::Error) -> (Code, &'static str) {
    match &*error.kind {
        ErrorKind::Authentication { .. } => by_code(REFUSED),
        ErrorKind::ServerSelection { message, .. } => {
            (Code::StoreUnavailable, unreachable(message))
        }
        ErrorKind::DnsResolve { .. } => (
            Code::StoreUnavailable,
            "the name of the server does not resolve; check the host in the address",
        ),
        ErrorKind::InvalidTlsConfig { .. } => {
            (Code::StoreUnavailable, "tls cannot be set up; check the tls options of the address")
        }
        ErrorKind::InvalidArgument { .. } => (
            Code::ConfigInvalid,
            "the address is not one of mongodb; use mongodb://host:27017/database?replicaSet=name",
        ),
        ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. } => (
            Code::StoreUnavailable,
            "the connection to the server broke; check that it runs and is reached",
        ),
        ErrorKind::Shutdown => (Code::StoreUnavailable, "the client is shut down; connect again"),
        ErrorKind::IncompatibleServer { .. } | ErrorKind::SessionsNotSupported => {
            (Code::Unsupported, "the server is too old; use mongodb 5 or newer")
        }
        ErrorKind::BsonDeserialization(_) | ErrorKind::Bson(_) => (
            Code::StoreCorrupt,
            "a stored document has another shape; restore the database from a backup",
        ),
        _ => command_code(error).map_or(INTERNAL, by_code),
    }
}

/// The server's number of the failure, where it gave one.
fn command_code(error: &mongodb::error::Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(fault) => Some(fault.code),
        ErrorKind::Write(WriteFailure::WriteError(fault)) => Some(fault.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(fault)) => Some(fault.code),
        ErrorKind::InsertMany(fault) => {
            let first = fault.write_errors.as_ref().and_then(|errors| errors.first());
            let concern = fault.write_concern_error.as_ref().map(|fault| fault.code);
            first.map(|fault| fault.code).or(concern)
        }
        _ => None,
    }
}

/// The driver tells in words only which servers it knows, and what is wrong with them.
fn unreachable(message: &str) -> &'static str {
    let refused = ["SCRAM failure", "Authentication failed", "AuthenticationFailed"];
    if refused.iter().any(|text| message.contains(text)) {
        by_code(REFUSED).1
    } else if message.contains("RsSecondary")
        || message.contains("RsOther")
        || message.contains("RsGhost")
    {
        "the replica set has no primary; start enough of its members for an election"
    } else {
        "no server answered in time; check that one runs at the address, and the name of its \
         replica set"
    }
}

pub(crate) const DUPLICATE_KEY: i32 = 11_000;
/// A conversion failed, by which [`lane::statement`](super::lane::statement) breaks off.
pub(crate) const GONE: i32 = 241;
const REFUSED: i32 = 18;
const INTERNAL: (Code, &str) = (Code::Internal, "mongodb refused a command; report this defect");

/// By MongoDB's error code.
pub(crate) fn by_code(code: i32) -> (Code, &'static str) {
    match code {
        11 | REFUSED => (
            Code::StoreUnavailable,
            "the server refused the login; check user, password and `authSource` of the address",
        ),
        13 => {
            (Code::StoreReadOnly, "the user may not do this; grant it `readWrite` on the database")
        }
        6 | 7 | 89 | 91 | 189 | 9001 | 10107 | 11600 | 11602 | 13435 | 13436 | 100 => (
            Code::StoreUnavailable,
            "the replica set has no primary that takes writes; check its members, or wait for \
             the election",
        ),
        64 | 50 | 262 => (
            Code::StoreUnavailable,
            "the server did not answer in time, or not enough members took the write; check the \
             members of the replica set",
        ),
        24 | 112 | 251 | 263 => (
            Code::StoreLocked,
            "a transaction of somebody else is in the way; end it, and try again",
        ),
        14031 | 39 => (Code::StoreFull, "the disk of the server is full; free some space"),
        10334 | 17280 | 17419 | 17420 => (
            Code::BodyTooLarge,
            "the record is larger than the 16 MiB a document holds; use a smaller body",
        ),
        85 | 86 => (
            Code::StoreForeign,
            "there is an index of this name that is another; drop it, or choose another prefix or \
             database",
        ),
        _ => INTERNAL,
    }
}

/// A failed write of one statement, as an error of the contract.
pub(crate) fn refused(code: i32, message: &str) -> Error {
    let (code, meaning) = by_code(code);
    Error::new(code, meaning).caused_by(std::io::Error::other(message.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_codes_have_a_meaning() {
        for (result, code) in [
            (18, Code::StoreUnavailable),
            (13, Code::StoreReadOnly),
            (10107, Code::StoreUnavailable),
            (91, Code::StoreUnavailable),
            (64, Code::StoreUnavailable),
            (112, Code::StoreLocked),
            (14031, Code::StoreFull),
            (10334, Code::BodyTooLarge),
            (2, Code::Internal),
        ] {
            assert_eq!(by_code(result).0, code, "{result}");
        }
    }

    #[test]
    fn what_is_known_of_the_servers_tells_the_remedy() {
        assert!(unreachable("Topology: { Type: Unknown }").contains("no server answered"));
        assert!(unreachable("{ Address: a:1, Type: RsSecondary }").contains("no primary"));
        assert!(unreachable("SCRAM failure: Authentication failed.").contains("login"));
    }
}
