//! What a program asks of its host while it runs, and what it is answered.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// A question of a program. Its body is the key of a lookup as JSON, or the body of a request.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Question {
    Lookup(Lookup),
    Http(HttpRequest),
}

/// Which entry of which table.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Lookup {
    pub(crate) table: String,
    /// The path in the values that is searched; none to search the keys.
    pub(crate) reverse: Option<String>,
    /// Whether the program says itself what stands for what is not found.
    pub(crate) fallback: bool,
}

/// A request without its body.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct HttpRequest {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) timeout_ms: Option<u32>,
}

/// What a host answers.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// The body is the value, as JSON.
    Value,
    /// There is no entry, and the program has a fallback.
    Absent,
    /// The body is that of the response.
    Response(HttpResponse),
    /// No.
    Refused(Refusal),
}

/// A response without its body.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) truncated: bool,
}

/// Why a question is not answered: one of the codes that a plan can fail with, and words.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}

/// The way from a runner to its host.
pub(crate) trait Host: fmt::Debug + Send + Sync {
    /// Says that the program of this number in the plan begins.
    fn begins(&self, number: u64, program: usize);

    /// Asks, and waits for the answer.
    fn ask(&self, number: u64, question: Question, body: Vec<u8>) -> io::Result<(Reply, Vec<u8>)>;
}
