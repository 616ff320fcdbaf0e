//! The statuses of the ABI, and what is told of a failure.

use icp::{Code, Error, ErrorKind, Violation};
use serde::{Deserialize, Serialize};

macro_rules! statuses {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal;)+) => {
        /// How a call or an operation ended. A number never changes its meaning.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[repr(i32)]
        pub enum Status { $($(#[doc = $doc])+ $name = $number,)+ }

        impl Status {
            /// Every status, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The name, as in `NOT_FOUND`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// What it means, for headers and pages.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }
        }
    };
}

statuses! {
    /// It worked.
    Ok = 0, "OK";
    /// The input is not acceptable as it is, or not allowed.
    Invalid = 1, "INVALID";
    /// There is no such thing.
    NotFound = 2, "NOT_FOUND";
    /// What is stored differs from what the caller expected.
    Conflict = 3, "CONFLICT";
    /// The engine is not started, or is shut down.
    Closed = 4, "CLOSED";
    /// The operation was called off, by its caller or because the engine stops.
    Cancelled = 5, "CANCELLED";
    /// The time was over; whether the operation takes effect is not known.
    Timeout = 6, "TIMEOUT";
    /// Too much is under way; try again.
    Busy = 7, "BUSY";
    /// The store or something else that is needed does not answer.
    Store = 8, "STORE";
    /// A handler of the host failed.
    Handler = 9, "HANDLER";
    /// This build or this store cannot do it.
    Unsupported = 10, "UNSUPPORTED";
    /// The caller was compiled for another version of the ABI.
    Abi = 11, "ABI";
    /// The object belongs to the process this one was forked from.
    Forked = 12, "FORKED";
    /// No request of this id waits for an answer.
    UnknownRequest = 13, "UNKNOWN_REQUEST";
    /// Nothing under way of this tag can be called off.
    NotCancellable = 14, "NOT_CANCELLABLE";
    /// The call would wait for the thread it is made on.
    WrongThread = 15, "WRONG_THREAD";
    /// A defect of this library: it panicked.
    Panic = 98, "PANIC";
    /// A defect of this library.
    Internal = 99, "INTERNAL";
}

impl Status {
    /// The number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self as i32
    }

    fn of(code: Code) -> Self {
        match code {
            Code::Overloaded | Code::RateLimited | Code::TestsLimited => Self::Busy,
            _ => Self::of_kind(code.kind()),
        }
    }

    fn of_kind(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Conflict | ErrorKind::LeaseLost => Self::Conflict,
            ErrorKind::Forbidden
            | ErrorKind::Invalid
            | ErrorKind::TooLarge
            | ErrorKind::Unauthenticated => Self::Invalid,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::Timeout => Self::Timeout,
            ErrorKind::Corrupt | ErrorKind::Unavailable => Self::Store,
            ErrorKind::Unsupported => Self::Unsupported,
            // `Internal`, and kinds this version does not know.
            _ => Self::Internal,
        }
    }
}

/// Why something failed, as callers read it: `{"code", "name", "message", "retryable", "cause"?,
/// "path"?, "violations"?}`. Holds no secret and no address of a store with its password.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    code: i32,
    name: &'static str,
    message: String,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<Violation>,
}

impl Failure {
    /// A failure that this crate finds by itself.
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Self {
            code: status.number(),
            name: status.name(),
            message: message.into(),
            retryable: matches!(status, Status::Busy | Status::Timeout | Status::Store),
            cause: None,
            path: None,
            violations: Vec::new(),
        }
    }

    /// A fault of the input at `path`, an RFC 6901 pointer.
    pub fn at(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: Some(path.into()), ..Self::new(Status::Invalid, message) }
    }

    /// The failure that a problem document of the HTTP API tells of.
    #[must_use]
    pub fn of_problem(problem: &[u8]) -> Self {
        let Ok(problem) = serde_json::from_slice::<Problem>(problem) else {
            return Self::new(Status::Internal, "the answer is no problem document");
        };
        let code = Code::ALL.iter().find(|code| code.as_str() == problem.code);
        let code = code.copied().unwrap_or(Code::Internal);
        Self::told(code, problem.detail, problem.violations)
    }

    fn told(code: Code, message: String, violations: Vec<Violation>) -> Self {
        let path = violations.first().map(|violation| violation.pointer.clone());
        let retryable = matches!(Error::new(code, "").fault(), icp::error::Fault::Transient);
        let known = Self::new(Status::of(code), message);
        Self { retryable, cause: Some(code.as_str().to_owned()), path, violations, ..known }
    }

    /// The number of its status.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.code
    }

    /// What went wrong, and what to do.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// RFC 6901 pointer to what is at fault in the input.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// The code of the engine, where the engine found it.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// The document.
    #[must_use]
    pub fn json(&self) -> Vec<u8> {
        // Texts and numbers always have a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::told(error.code(), error.to_string(), error.list().to_vec())
    }
}

/// What is read of a problem document.
#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: String,
    #[serde(default)]
    violations: Vec<Violation>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_frozen() {
        let known = [
            (0, "OK"),
            (1, "INVALID"),
            (2, "NOT_FOUND"),
            (3, "CONFLICT"),
            (4, "CLOSED"),
            (5, "CANCELLED"),
            (6, "TIMEOUT"),
            (7, "BUSY"),
            (8, "STORE"),
            (9, "HANDLER"),
            (10, "UNSUPPORTED"),
            (11, "ABI"),
            (12, "FORKED"),
            (13, "UNKNOWN_REQUEST"),
            (14, "NOT_CANCELLABLE"),
            (15, "WRONG_THREAD"),
            (98, "PANIC"),
            (99, "INTERNAL"),
        ];
        let all: Vec<_> = Status::ALL.iter().map(|s| (s.number(), s.name())).collect();
        assert_eq!(all, known);
    }

    #[test]
    fn every_code_has_a_status_and_keeps_its_name() {
        for code in Code::ALL {
            let failure = Failure::from(Error::new(*code, "x"));
            assert_ne!(failure.number(), 0, "{code}");
            assert_eq!(failure.cause(), Some(code.as_str()));
        }
        let of = |code| Status::of_kind(Code::kind(code));
        assert_eq!(of(Code::DeliveryNotFound), Status::NotFound);
        assert_eq!(Status::of(Code::Overloaded), Status::Busy);
        assert_eq!(Status::of(Code::StoreLocked), Status::Store);
        assert_eq!(Status::of(Code::AddressDenied), Status::Invalid);
    }

    #[test]
    fn a_problem_keeps_its_pointers() {
        let violation = Violation::new("/spec/target/url", "malformed", "is no url");
        let problem = serde_json::json!({
            "code": "resource_invalid", "detail": "see", "violations": [violation], "status": 400,
        });
        let failure = Failure::of_problem(problem.to_string().as_bytes());
        let shown: serde_json::Value = serde_json::from_slice(&failure.json()).unwrap();
        assert_eq!(shown["name"], "INVALID");
        assert_eq!(shown["path"], "/spec/target/url");
        assert_eq!(shown["violations"][0]["code"], "malformed");
        assert_eq!(shown["retryable"], false);
        assert_eq!(Failure::of_problem(b"x").number(), 99);
    }
}
