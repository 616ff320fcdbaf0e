//! Queues.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use super::{EngineHandle, ErrorDocument, guard, null};
use crate::queue::{Drained, Queue};
use crate::status::{Failure, Status};

/// A queue that completions, requests, events and log lines come out of.
#[derive(Debug)]
pub struct QueueHandle {
    pub(super) queue: Arc<Queue>,
    pub(super) process: u32,
}

impl QueueHandle {
    /// The queue behind a pointer, in the process it was made in.
    ///
    /// # Safety
    ///
    /// `pointer` is null or points to a queue that was not freed.
    pub(super) unsafe fn of<'a>(pointer: *const Self) -> Result<&'a Self, Failure> {
        // SAFETY: as the caller vouches.
        let handle = unsafe { pointer.as_ref() }.ok_or_else(|| null("the queue"))?;
        same_process(handle.process)?;
        Ok(handle)
    }
}

/// Refuses a process that was forked from the one that made the object: threads and locks of the
/// engine stayed there.
pub(super) fn same_process(process: u32) -> Result<(), Failure> {
    if process == std::process::id() {
        return Ok(());
    }
    let message = "it belongs to the process this one was forked from; make another one here";
    Err(Failure::new(Status::Forked, message))
}

/// Makes a queue of the engine. `flags` is 0. It outlives its engine and can be drained to its end.
///
/// # Safety
///
/// The engine was not freed; `out` is good for one write, and `err` is so or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icp_queue_new(
    engine: *mut EngineHandle,
    flags: u32,
    out: *mut *mut QueueHandle,
    err: *mut *mut ErrorDocument,
) -> i32 {
    guard(err, || {
        // SAFETY: the caller vouches for the engine.
        let engine = unsafe { EngineHandle::of(engine) }?;
        if out.is_null() {
            return Err(null("`out`"));
        }
        if flags != 0 {
            return Err(Failure::new(Status::Unsupported, "no flag is known; use 0"));
        }
        let queue = engine.queue()?;
        let handle = Box::new(QueueHandle { queue, process: std::process::id() });
        // SAFETY: it is not null, and the caller vouches for one write.
        unsafe { out.write(Box::into_raw(handle)) };
        Ok(())
    })
}

/// A descriptor that is readable while there is something to drain, to be waited on and never
/// read from; -1 where the system has none.
///
/// # Safety
///
/// The queue is NULL or was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icp_queue_fd(queue: *const QueueHandle) -> i64 {
    // SAFETY: the caller vouches for the queue.
    unsafe { QueueHandle::of(queue) }.map_or(-1, |handle| handle.queue.fd())
}

/// Copies whole records into `buf`: a header of 24 bytes (icp_item), the body, and padding to 8.
/// Waits up to `timeout_ms` for the first one; 0 does not wait, a negative number waits for ever.
/// Returns the bytes written; 0 when the time was over, the queue was woken, or not even the
/// first record fits, whose size is in `needed` then (0 otherwise). Negative: -ICP_E_CLOSED where
/// the queue is empty and its engine is gone, or another status.
///
/// # Safety
///
/// The queue was not freed; `buf` is good for `cap` bytes; `needed` is NULL or good for one write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icp_queue_drain(
    queue: *mut QueueHandle,
    buf: *mut u8,
    cap: usize,
    timeout_ms: i64,
    needed: *mut usize,
) -> i64 {
    let drained = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the caller vouches for the queue.
        let handle = unsafe { QueueHandle::of(queue) }?;
        if buf.is_null() || isize::try_from(cap).is_err() {
            return Err(null("the buffer"));
        }
        let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        Ok(handle.queue.drain_with(cap, timeout, |at, part| {
            // SAFETY: the part ends within `cap` bytes, for which the caller vouches; they may be
            // uninitialized, so no reference to them is made.
            unsafe { ptr::copy_nonoverlapping(part.as_ptr(), buf.add(at), part.len()) };
        }))
    }));
    let (bytes, size) = match drained {
        Ok(Ok(Drained::Bytes(bytes))) => (i64::try_from(bytes).unwrap_or(i64::MAX), 0),
        Ok(Ok(Drained::TooSmall(size))) => (0, size),
        Ok(Ok(Drained::Ended)) => (-i64::from(Status::Closed.number()), 0),
        Ok(Err(failure)) => (-i64::from(failure.number()), 0),
        Err(_) => (-i64::from(Status::Panic.number()), 0),
    };
    if !needed.is_null() {
        // SAFETY: it is not null, and the caller vouches for one write.
        unsafe { needed.write(size) };
    }
    bytes
}

/// Makes a drain that waits return 0, or the next one.
///
/// # Safety
///
/// The queue is NULL or was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icp_queue_wake(queue: *mut QueueHandle) {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the caller vouches for the queue.
        if let Ok(handle) = unsafe { QueueHandle::of(queue) } {
            handle.queue.wake();
        }
    }));
}

/// Frees a queue; what is in it is dropped. NULL is fine.
///
/// # Safety
///
/// The queue is NULL or was not freed, and no other call on it is under way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icp_queue_free(queue: *mut QueueHandle) {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        if queue.is_null() {
            return;
        }
        // SAFETY: it came from `Box::into_raw` and, as the caller vouches, was not freed before.
        let handle = unsafe { Box::from_raw(queue) };
        if same_process(handle.process).is_ok() {
            handle.queue.free();
        } else {
            // A lock of it may have been held when the process was forked.
            std::mem::forget(handle);
        }
    }));
}
