//! Requests to handlers of the host, and its answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::queue::Queue;
use crate::status::{Failure, Status};

/// What a handler does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HandlerKind {
    /// Shapes payloads, as a `host` step of a transformation.
    Transformer,
    /// Says whether a payload goes on, as a `host_filter` step of a transformation.
    Filter,
    /// Delivers, as a target of the kind `host`.
    Target,
    /// Makes the header fields that authenticate a request, as an `auth` of the type `host`.
    Signer,
    /// Gives events, as what an event source of this `type` is pulled from.
    EventSource,
}

/// A handler of the host.
#[derive(Debug)]
pub(crate) struct Handler {
    kind: HandlerKind,
    name: String,
    queue: Weak<Queue>,
    room: Semaphore,
    timeout: Duration,
    removed: CancellationToken,
}

/// Why there is no answer of the host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Unanswered {
    /// No such handler is registered here.
    NoHandler,
    /// The time was over.
    Timeout(Duration),
    /// The host took the handler away, or drains its queue no more.
    Gone,
    /// The host says that it failed, in these words.
    Failed(String),
}

impl Unanswered {
    /// The class of the failure, and what is shown of it.
    pub(crate) fn told(&self, name: &str) -> (&'static str, String) {
        match self {
            Self::NoHandler => ("no_handler", format!("no handler `{name}` is registered here")),
            Self::Timeout(most) => {
                let most = most.as_millis();
                ("timeout", format!("the handler `{name}` did not answer within {most} ms"))
            }
            Self::Gone => ("handler_gone", format!("the handler `{name}` went away")),
            Self::Failed(words) => ("handler", format!("the handler `{name}` failed: {words}")),
        }
    }
}

/// What the host says: a status, and a document or the reason of the failure.
type Reply = (i32, Vec<u8>);

/// The handlers that are registered, and what they are asked.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    next: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    handlers: HashMap<(HandlerKind, String), Arc<Handler>>,
    waiting: HashMap<u64, oneshot::Sender<Reply>>,
}

/// A request that waits for its answer; called off when it is dropped.
struct Waiting<'a> {
    requests: &'a Requests,
    queue: Arc<Queue>,
    id: u64,
}

impl Handler {
    pub(crate) fn new(
        kind: HandlerKind,
        name: String,
        queue: Weak<Queue>,
        concurrency: usize,
        timeout: Duration,
    ) -> Self {
        let (room, removed) = (Semaphore::new(concurrency), CancellationToken::new());
        Self { kind, name, queue, room, timeout, removed }
    }
}

impl Requests {
    pub(crate) fn register(&self, handler: Handler) -> Result<(), Failure> {
        let key = (handler.kind, handler.name.clone());
        let mut state = self.lock();
        if state.handlers.contains_key(&key) {
            let message = format!("a handler `{}` of this kind is registered; remove it", key.1);
            return Err(Failure::new(Status::Conflict, message));
        }
        state.handlers.insert(key, Arc::new(handler));
        Ok(())
    }

    pub(crate) fn remove(&self, kind: HandlerKind, name: &str) -> Result<(), Failure> {
        let handler = self.lock().handlers.remove(&(kind, name.to_owned()));
        let Some(handler) = handler else {
            let message = format!("no handler `{name}` of this kind is registered");
            return Err(Failure::new(Status::NotFound, message));
        };
        handler.removed.cancel();
        Ok(())
    }

    /// Whether a handler is registered whose requests somebody could answer.
    pub(crate) fn has(&self, kind: HandlerKind, name: &str) -> bool {
        let state = self.lock();
        let handler = state.handlers.get(&(kind, name.to_owned()));
        handler.is_some_and(|handler| handler.queue.strong_count() > 0)
    }

    /// Takes the answer of the host; an unknown, late or second one is refused and harmless.
    pub(crate) fn respond(&self, id: u64, status: i32, body: &[u8]) -> Result<(), Failure> {
        let waiting = self.lock().waiting.remove(&id);
        let answered = waiting.is_some_and(|waiting| waiting.send((status, body.to_vec())).is_ok());
        if answered {
            return Ok(());
        }
        let message = format!("no request {id} waits for an answer");
        Err(Failure::new(Status::UnknownRequest, message))
    }

    /// Asks a handler with what `body` makes of its id and its time in milliseconds.
    pub(crate) async fn ask(
        &self,
        kind: HandlerKind,
        name: &str,
        body: impl FnOnce(u64) -> Vec<u8> + Send,
    ) -> Result<Vec<u8>, Unanswered> {
        let handler = self.lock().handlers.get(&(kind, name.to_owned())).cloned();
        let handler = handler.ok_or(Unanswered::NoHandler)?;
        let asked = tokio::time::timeout(handler.timeout, self.answer(&handler, body));
        tokio::select! {
            answered = asked => answered.unwrap_or(Err(Unanswered::Timeout(handler.timeout))),
            () = handler.removed.cancelled() => Err(Unanswered::Gone),
        }
    }

    async fn answer(
        &self,
        handler: &Handler,
        body: impl FnOnce(u64) -> Vec<u8> + Send,
    ) -> Result<Vec<u8>, Unanswered> {
        let _room = handler.room.acquire().await.map_err(|_| Unanswered::Gone)?;
        let queue = handler.queue.upgrade().ok_or(Unanswered::Gone)?;
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, receiver) = oneshot::channel();
        self.lock().waiting.insert(id, sender);
        let waiting = Waiting { requests: self, queue, id };
        let most = u64::try_from(handler.timeout.as_millis()).unwrap_or(u64::MAX);
        if !waiting.queue.request(id, body(most)) {
            return Err(Unanswered::Gone);
        }
        match receiver.await {
            Ok((0, body)) => Ok(body),
            Ok((_, body)) => Err(Unanswered::Failed(words(&body))),
            Err(_) => Err(Unanswered::Gone),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // One that was answered is not there any more.
        if self.requests.lock().waiting.remove(&self.id).is_some() {
            self.queue.call_off(self.id);
        }
    }
}

/// What the host says of its failure: `{"message": ..}`, or plain text.
fn words(body: &[u8]) -> String {
    const MOST: usize = 1_024;
    #[derive(Deserialize)]
    struct Told {
        message: String,
    }
    let text = match serde_json::from_slice::<Told>(body) {
        Ok(told) => told.message,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let text = text.get(..text.floor_char_boundary(MOST)).unwrap_or_default().to_owned();
    if text.is_empty() { "the handler failed".to_owned() } else { text }
}

#[cfg(test)]
mod tests;
