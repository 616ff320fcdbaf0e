//! The queue that everything for the host comes out of.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::admission::Permit;
use crate::item::{Item, Kind, record_len, write_record};
use crate::signal::Signal;
use crate::status::{Failure, Status};

/// How many EVENT items, and how many LOG items, wait at most; what is beyond is counted as
/// lagged.
const RING: usize = 1_024;

/// The tag of LAGGED items that tell of LOG items.
const LOGS: u64 = 0;

/// Completions, requests of handlers, events and log lines, in the order they came.
///
/// It knows no engine: it can be drained after the engine is gone.
#[derive(Debug)]
pub struct Queue {
    id: u64,
    state: Mutex<State>,
    ready: Condvar,
    signal: Option<Signal>,
}

#[derive(Debug, Default)]
struct State {
    records: VecDeque<Record>,
    events: usize,
    logs: usize,
    /// How many items of a tag were dropped since a LAGGED item of it was drained.
    lost: HashMap<u64, u64>,
    woken: bool,
    /// Nothing more will come.
    ended: bool,
    /// Nobody will drain.
    freed: bool,
    signalled: bool,
}

#[derive(Debug)]
struct Record {
    kind: Kind,
    tag: u64,
    status: i32,
    body: Vec<u8>,
    /// Of completions: room for another operation once this is drained.
    _permit: Option<Permit>,
}

/// What [`Queue::drain`] did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Drained {
    /// So many bytes were written; 0 when the time was over or the queue was woken.
    Bytes(usize),
    /// The first record has so many bytes, and does not fit.
    TooSmall(usize),
    /// The queue is empty, and nothing more will come.
    Ended,
}

impl Queue {
    /// An empty queue.
    ///
    /// # Errors
    ///
    /// Where the process has no descriptor left.
    pub fn new() -> Result<Arc<Self>, Failure> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let signal = Signal::new().map_err(|fault| {
            let message = format!("no descriptor to tell of items by: {fault}; close some");
            Failure::new(Status::Internal, message)
        })?;
        Ok(Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            state: Mutex::default(),
            ready: Condvar::new(),
            signal,
        }))
    }

    /// What no other queue of this process has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The descriptor that is readable while there is something to drain; -1 where the system
    /// has none.
    #[must_use]
    pub fn fd(&self) -> i64 {
        self.signal.as_ref().map_or(-1, Signal::fd)
    }

    /// Puts the end of an operation in.
    pub(crate) fn complete(&self, tag: u64, ended: Result<Vec<u8>, Failure>, permit: Permit) {
        let (status, body) = match ended {
            Ok(body) => (Status::Ok.number(), body),
            Err(failure) => (failure.number(), failure.json()),
        };
        self.push(Record { kind: Kind::Completion, tag, status, body, _permit: Some(permit) });
    }

    /// Asks a handler of the host; false where nobody drains this queue any more.
    pub(crate) fn request(&self, id: u64, body: Vec<u8>) -> bool {
        self.push(Record { kind: Kind::Request, tag: id, status: 0, body, _permit: None })
    }

    /// Takes a request back, or says that it is called off where it was drained before.
    pub(crate) fn call_off(&self, id: u64) {
        let mut state = self.lock();
        let waiting = |record: &Record| record.kind == Kind::Request && record.tag == id;
        if let Some(index) = state.records.iter().position(waiting) {
            state.records.remove(index);
            self.settle(&mut state);
            return;
        }
        drop(state);
        let (kind, body) = (Kind::RequestCancelled, Vec::new());
        self.push(Record { kind, tag: id, status: 0, body, _permit: None });
    }

    /// Tells something of a subscription, or counts it as lost where too much waits.
    pub(crate) fn event(&self, tag: u64, body: Vec<u8>) {
        self.push_bounded(Kind::Event, tag, body);
    }

    /// Tells a line of the log, or counts it as lost where too much waits.
    pub(crate) fn log(&self, body: Vec<u8>) {
        self.push_bounded(Kind::Log, LOGS, body);
    }

    fn push_bounded(&self, kind: Kind, tag: u64, body: Vec<u8>) {
        let mut state = self.lock();
        if state.count(kind).is_none_or(|count| *count < RING) {
            drop(state);
            self.push(Record { kind, tag, status: 0, body, _permit: None });
            return;
        }
        let is_first = !state.lost.contains_key(&tag);
        *state.lost.entry(tag).or_default() += 1;
        drop(state);
        if is_first {
            let body = Vec::new();
            self.push(Record { kind: Kind::Lagged, tag, status: 0, body, _permit: None });
        }
    }

    fn push(&self, record: Record) -> bool {
        let mut state = self.lock();
        if state.freed {
            // Dropped outside of the lock: a permit takes no part in it, but a rule is a rule.
            drop(state);
            return false;
        }
        if let Some(count) = state.count(record.kind) {
            *count += 1;
        }
        state.records.push_back(record);
        self.settle(&mut state);
        drop(state);
        self.ready.notify_one();
        true
    }

    /// Copies as many whole records as fit into `buffer`, and waits for the first one for as long
    /// as `timeout` says; without one, for ever.
    pub fn drain(&self, buffer: &mut [u8], timeout: Option<Duration>) -> Drained {
        self.drain_with(buffer.len(), timeout, |at, part| {
            buffer[at..at + part.len()].copy_from_slice(part);
        })
    }

    /// As [`drain`](Self::drain), into a buffer of `room` bytes that only `put` knows: it is handed
    /// parts with their places, one behind the other and within the room.
    pub(crate) fn drain_with(
        &self,
        room: usize,
        timeout: Option<Duration>,
        mut put: impl FnMut(usize, &[u8]),
    ) -> Drained {
        let mut state = self.waited(timeout);
        state.woken = false;
        let mut written = 0;
        let mut done = Vec::new();
        while let Some(first) = state.records.front() {
            let (kind, tag) = (first.kind, first.tag);
            let lagged = kind == Kind::Lagged;
            let count = if lagged { state.lost.get(&tag).copied().unwrap_or(0) } else { 0 };
            let told = if lagged { format!("{{\"dropped\":{count}}}") } else { String::new() };
            let Some(first) = state.records.front() else { break };
            let body = if lagged { told.as_bytes() } else { &first.body };
            let size = record_len(body.len());
            if written + size > room {
                if written == 0 {
                    self.settle(&mut state);
                    return Drained::TooSmall(size);
                }
                break;
            }
            let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
            let item = Item { tag, kind: kind.number(), status: first.status, len, flags: 0 };
            write_record(&item, body, |at, part| put(written + at, part));
            written += size;
            if lagged {
                state.lost.remove(&tag);
            }
            if let Some(count) = state.count(kind) {
                *count -= 1;
            }
            done.extend(state.records.pop_front());
        }
        let ended = written == 0 && state.ended;
        self.settle(&mut state);
        drop(state);
        if ended { Drained::Ended } else { Drained::Bytes(written) }
    }

    fn waited(&self, timeout: Option<Duration>) -> MutexGuard<'_, State> {
        let idle = |state: &mut State| state.records.is_empty() && !state.woken && !state.ended;
        let state = self.lock();
        match timeout {
            None => self.ready.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner),
            Some(Duration::ZERO) => state,
            Some(timeout) => {
                let waited = self.ready.wait_timeout_while(state, timeout, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Makes a drain that waits return, or the next one.
    pub fn wake(&self) {
        let mut state = self.lock();
        state.woken = true;
        self.settle(&mut state);
        drop(state);
        self.ready.notify_all();
    }

    /// Says that nothing more will come; what is in can still be drained.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        self.settle(&mut state);
        drop(state);
        self.ready.notify_all();
    }

    /// Says that nobody will drain; what is in, and what comes, is dropped.
    pub(crate) fn free(&self) {
        let mut state = self.lock();
        state.freed = true;
        state.lost.clear();
        let dropped = std::mem::take(&mut state.records);
        self.settle(&mut state);
        drop(state);
        drop(dropped);
    }

    /// Keeps the descriptor readable exactly while there is something to drain.
    fn settle(&self, state: &mut State) {
        let Some(signal) = &self.signal else { return };
        let wanted = !state.records.is_empty() || state.woken || state.ended;
        if wanted != state.signalled {
            signal.set(wanted);
            state.signalled = wanted;
        }
    }

    // A record is whole before the lock is taken.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How many items of a bounded kind wait.
    fn count(&mut self, kind: Kind) -> Option<&mut usize> {
        match kind {
            Kind::Event => Some(&mut self.events),
            Kind::Log => Some(&mut self.logs),
            Kind::Completion | Kind::Request | Kind::RequestCancelled | Kind::Lagged => None,
        }
    }
}

#[cfg(test)]
mod tests;
