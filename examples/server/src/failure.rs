//! How a command ends that does not do what it was asked to.

use std::fmt;
use std::process::ExitCode;

use icp::{Error, Violation};
use serde::Deserialize;

use crate::output::plain;

/// What a command answers.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a command failed; each kind has an exit code of its own.
#[derive(Debug)]
pub(crate) enum Failure {
    /// This machine, its settings or its store: 1.
    Local(Error),
    /// What was handed in, a file or an argument: 2.
    Input(String),
    /// No server answered: 3.
    Unreachable(String),
    /// The server refused: 4 where it does not know or trust the key, 5 where there is nothing of
    /// that name, else 1.
    Refused(Refusal),
    /// Some of it was done and some was not; the report says which: 6.
    Unfinished(String),
    /// Something was looked at and found wanting: 1.
    Wanting(String),
}

/// A problem that the server answered.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The stable name of the failure.
    pub(crate) code: String,
    /// What went wrong, and what to do.
    pub(crate) detail: String,
    /// Every broken rule of the input.
    pub(crate) violations: Vec<Violation>,
}

/// What is read of a problem document.
#[derive(Deserialize)]
struct Problem {
    code: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    violations: Vec<Violation>,
}

impl Failure {
    /// The exit code, as docs/guides/command-line.md lists them.
    pub(crate) fn exit(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Local(_) | Self::Wanting(_) => 1,
            Self::Input(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Refused(refusal) => match refusal.status {
                401 | 403 => 4,
                404 => 5,
                _ => 1,
            },
            Self::Unfinished(_) => 6,
        })
    }
}

impl Refusal {
    /// Reads the body of an answer that is no success; something before the server may have
    /// written it.
    pub(crate) fn read(status: u16, body: &[u8]) -> Self {
        match serde_json::from_slice::<Problem>(body) {
            Ok(Problem { code, detail, violations }) => Self { status, code, detail, violations },
            Err(_) => Self {
                status,
                code: format!("status_{status}"),
                detail: "the answer is not one of icp; check the url, and what stands between"
                    .to_owned(),
                violations: Vec::new(),
            },
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Local(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(error) => {
                write!(f, "{error} [{}]", error.code())?;
                let causes = std::iter::successors(std::error::Error::source(error), |&cause| {
                    cause.source()
                });
                for cause in causes {
                    write!(f, "\n  caused by: {cause}")?;
                }
                Ok(())
            }
            Self::Input(text)
            | Self::Unreachable(text)
            | Self::Unfinished(text)
            | Self::Wanting(text) => f.write_str(text),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", plain(&self.detail), plain(&self.code))?;
        for Violation { pointer, code, message, .. } in &self.violations {
            let at = if pointer.is_empty() { "the document" } else { pointer };
            write!(f, "\n  {}: {} [{}]", plain(at), plain(message), plain(code))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_shows_code_and_every_violation() {
        let body = br#"{"type":"urn:x","title":"t","status":400,"code":"resource_invalid",
            "detail":"2 rules are broken","violations":[
            {"pointer":"/spec/url","code":"scheme","message":"use https"},
            {"pointer":"","code":"size","message":"it is too large"}]}"#;
        let refusal = Refusal::read(400, body);
        assert_eq!(
            refusal.to_string(),
            "2 rules are broken [resource_invalid]\n  /spec/url: use https [scheme]\n  the \
             document: it is too large [size]"
        );
    }

    #[test]
    fn an_answer_of_something_else_is_no_problem_of_icp() {
        for body in [&b"<html>bad gateway</html>"[..], b"", b"{}", b"[1]"] {
            let refusal = Refusal::read(502, body);
            assert_eq!(refusal.code, "status_502");
            assert!(refusal.to_string().contains("check the url"));
        }
    }
}
