//! Where the programs of a runner turn to for what only the host has.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use icp_core::transform::{Limits, TransformError};
use serde_json::Value;

use crate::call::known;
use crate::host::{Host, HttpRequest, HttpResponse, Lookup, Question, Refusal, Reply};

/// Asks the host for the programs of one call after the other.
#[derive(Debug)]
pub(crate) struct Desk {
    host: Arc<dyn Host>,
    number: AtomicU64,
    refused: Mutex<Option<Refusal>>,
}

impl Desk {
    pub(crate) fn new(host: Arc<dyn Host>) -> Self {
        Self { host, number: AtomicU64::new(0), refused: Mutex::default() }
    }

    /// Begins the call of this number.
    pub(crate) fn begin(&self, number: u64) {
        self.number.store(number, Ordering::Relaxed);
        self.set_refused(None);
    }

    /// Says that the program of this number in the plan begins.
    pub(crate) fn begins(&self, program: usize) {
        self.host.begins(self.number(), program);
    }

    /// What the host finds; none where there is nothing, and the program has a fallback.
    pub(crate) fn look_up(&self, lookup: Lookup, key: &Value) -> Result<Option<Value>, Refusal> {
        let key = serde_json::to_vec(key).unwrap_or_default();
        match self.ask(Question::Lookup(lookup), key)? {
            (Reply::Value, body) => match serde_json::from_slice(&body) {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(self.unanswered()),
            },
            (Reply::Absent, _) => Ok(None),
            _ => Err(self.unanswered()),
        }
    }

    /// The response to a request that the host sends.
    pub(crate) fn send(
        &self,
        request: HttpRequest,
        body: Vec<u8>,
        limits: &Limits,
    ) -> Result<(HttpResponse, Vec<u8>), Refusal> {
        // A longer frame would be taken for the answer of a worker that is broken.
        let most = limits.http_bytes as usize;
        if body.len() > most {
            let message = format!("the body has {} bytes; keep it within {most}", body.len());
            return Err(self.refuse("http_refused", &message));
        }
        match self.ask(Question::Http(request), body)? {
            (Reply::Response(response), body) => Ok((response, body)),
            _ => Err(self.unanswered()),
        }
    }

    /// The failure of a program that ended in the last refusal: its own code says more than that
    /// the program failed.
    pub(crate) fn explain(&self, mut error: TransformError) -> TransformError {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(refusal) = refused.as_ref()
            && error.code == "runtime"
            && error.message.contains(&refusal.message)
            && let Some(code) = known(&refusal.code)
        {
            error.code = code;
        }
        error
    }

    fn ask(&self, question: Question, body: Vec<u8>) -> Result<(Reply, Vec<u8>), Refusal> {
        match self.host.ask(self.number(), question, body) {
            Ok((Reply::Refused(refusal), _)) => {
                self.set_refused(Some(refusal.clone()));
                Err(refusal)
            }
            Ok(answered) => Ok(answered),
            Err(_) => Err(self.unanswered()),
        }
    }

    fn refuse(&self, code: &str, message: &str) -> Refusal {
        let refusal = Refusal::new(code, message);
        self.set_refused(Some(refusal.clone()));
        refusal
    }

    fn unanswered(&self) -> Refusal {
        self.refuse("crashed", "the host did not answer; the question may be too long")
    }

    fn set_refused(&self, refusal: Option<Refusal>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
    }

    fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }
}
