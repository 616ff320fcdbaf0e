//! Engines, and what is asked of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::queue::same_process;
use super::{ErrorDocument, QueueHandle, guard, input, null};
use crate::host::Host;
use crate::log;
use crate::queue::Queue;
use crate::reference::ABI_VERSION;
use crate::settings::Settings;
use crate::status::{Failure, Status};

/// An engine, with threads of its own.
#[derive(Debug)]
pub struct EngineHandle {
    host: Arc<Host>,
    /// Taken when it is freed.
    runtime: Option<Runtime>,
    queues: Mutex<Vec<Weak<Queue>>>,
    process: u32,
    /// How long it is waited for threads that do not stop.
    grace: Duration,
}

impl EngineHandle {
    fn new(config: &[u8]) -> Result<Self, Failure> {
        let settings = Settings::read(config)?;
        log::catch_panics();
        let runtime = Builder::new_multi_thread()
            .worker_threads(settings.threads)
            .thread_name(format!("{}worker", log::THREADS))
            .enable_all()
            .build();
        let runtime = runtime.map_err(|fault| {
            Failure::new(Status::Internal, format!("no threads can be started: {fault}"))
        })?;
        let grace = Duration::from_millis(settings.stop_ms);
        Ok(Self {
            host: Arc::new(Host::new(settings)),
            runtime: Some(runtime),
            queues: Mutex::default(),
            process: std::process::id(),
            grace,
        })
    }

    /// The engine behind a pointer, in the process it was made in.
    ///
    /// # Safety
    ///
    /// `pointer` is null or points to an engine that was not freed.
    pub(super) unsafe fn of<'a>(pointer: *const Self) -> Result<&'a Self, Failure> {
        // SAFETY: as the caller vouches.
        let handle = unsafe { pointer.as_ref() }.ok_or_else(|| null("the engine"))?;
        same_process(handle.process)?;
        Ok(handle)
    }

    pub(super) fn queue(&self) -> Result<Arc<Queue>, Failure> {
        let queue = Queue::new()?;
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|queue| queue.strong_count() > 0);
        queues.push(Arc::downgrade(&queue));
        Ok(queue)
    }

    fn runtime(&self) -> Result<&tokio::runtime::Handle, Failure> {
        let gone = || Failure::new(Status::Closed, "the engine is freed");
        self.runtime.as_ref().map(Runtime::handle).ok_or_else(gone)
    }
}

impl Drop for EngineHandle {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Drops every task, each of which tells its end.
            runtime.shutdown_timeout(self.grace);
        }
        let queues =
            std::mem::take(&mut *self.queues.lock().unwrap_or_else(PoisonError::into_inner));
        for queue in queues.iter().filter_map(Weak::upgrade) {
            queue.end();
        }
    }
}

/// Makes an engine from its settings, a JSON document. Opens nothing: that is done by
/// ICP_OP_START. `abi` is ICP_ABI_VERSION as the caller was compiled.
///
/// # Safety
///
/// `config` is good for `len` bytes; `out` is good for one write, and `err` is so or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icp_engine_new(
    abi: u32,
    config: *const u8,
    len: usize,
    out: *mut *mut EngineHandle,
    err: *mut *mut ErrorDocument,
) -> i32 {
    guard(err, || {
        let (major, minor) = (abi >> 16, abi & 0xffff);
        if major != ABI_VERSION >> 16 || minor > ABI_VERSION & 0xffff {
            let (ours, least) = (ABI_VERSION >> 16, ABI_VERSION & 0xffff);
            let message = format!(
                "the caller was compiled for version {major}.{minor} of the abi, and this library \
                 has {ours}.{least}; use the header and the library of one version"
            );
            return Err(Failure::new(Status::Abi, message));
        }
        // SAFETY: the caller vouches for `len` bytes.
        let config = unsafe { input(config, len) }?;
        if out.is_null() {
            return Err(null("`out`"));
        }
        let handle = Box::new(EngineHandle::new(config)?);
        // SAFETY: it is not null, and the caller vouches for one write.
        unsafe { out.write(Box::into_raw(handle)) };
        Ok(())
    })
}

/// Frees an engine, and stops it where ICP_OP_SHUTDOWN did not: at once, as a crash would, and
/// nothing that was answered is lost. Everything pending ends as ICP_E_CANCELLED before it
/// returns, which it does within `stop_ms` of the settings, 2 s by default. NULL is fine.
///
/// # Safety
///
/// The engine is NULL or was not freed, and no other call on it is under way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icp_engine_free(engine: *mut EngineHandle) {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        if engine.is_null() {
            return;
        }
        // SAFETY: it came from `Box::into_raw` and, as the caller vouches, was not freed before.
        let handle = unsafe { Box::from_raw(engine) };
        if same_process(handle.process).is_ok() {
            drop(handle);
        } else {
            // Its threads are in the other process, and nothing here could join them.
            std::mem::forget(handle);
        }
    }));
}

/// Starts an operation (ICP_OP_*) with a JSON document. Where it returns 0, one COMPLETION item
/// with this tag comes out of the queue, sooner or later, whatever happens; otherwise none. Does
/// not block. The body is copied.
///
/// # Safety
///
/// Engine and queue were not freed; `body` is good for `len` bytes; `err` is NULL or good for one
/// write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icp_submit(
    engine: *mut EngineHandle,
    queue: *mut QueueHandle,
    op: u32,
    tag: u64,
    body: *const u8,
    len: usize,
    err: *mut *mut ErrorDocument,
) -> i32 {
    guard(err, || {
        // SAFETY: the caller vouches for the engine.
        let engine = unsafe { EngineHandle::of(engine) }?;
        // SAFETY: the caller vouches for the queue.
        let queue = unsafe { QueueHandle::of(queue) }?;
        // SAFETY: the caller vouches for `len` bytes.
        let body = unsafe { input(body, len) }?;
        engine.host.submit(engine.runtime()?, &queue.queue, op, tag, body)
    })
}

/// Does an operation while the calling thread waits, up to `timeout_ms`; a negative number waits
/// for ever. After ICP_E_TIMEOUT it may still take effect. The answer in `out` is freed with
/// icp_buf_free.
///
/// # Safety
///
/// The engine was not freed; `body` is good for `len` bytes; `out` and `out_len` are good for one
/// write, and `err` is so or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icp_call(
    engine: *mut EngineHandle,
    op: u32,
    body: *const u8,
    len: usize,
    timeout_ms: i64,
    out: *mut *mut u8,
    out_len: *mut usize,
    err: *mut *mut ErrorDocument,
) -> i32 {
    guard(err, || {
        // SAFETY: the caller vouches for the engine.
        let engine = unsafe { EngineHandle::of(engine) }?;
        // SAFETY: the caller vouches for `len` bytes.
        let body = unsafe { input(body, len) }?;
        if out.is_null() || out_len.is_null() {
            return Err(null("`out`"));
        }
        // SAFETY: they are not null, and the caller vouches for writes.
        unsafe { (out.write(ptr::null_mut()), out_len.write(0)) };
        let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        let answer = engine.host.call(engine.runtime()?, op, body, timeout)?;
        let answer = answer.into_boxed_slice();
        // SAFETY: as above.
        unsafe { (out_len.write(answer.len()), out.write(Box::into_raw(answer).cast())) };
        Ok(())
    })
}

/// Calls off what waits under this tag: ICP_OP_DELIVERY_WAIT. Its completion says
/// ICP_E_CANCELLED. ICP_E_NOT_CANCELLABLE where nothing such is under way.
///
/// # Safety
///
/// Engine and queue were not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icp_cancel(
    engine: *mut EngineHandle,
    queue: *mut QueueHandle,
    tag: u64,
) -> i32 {
    guard(ptr::null_mut(), || {
        // SAFETY: the caller vouches for the engine.
        let engine = unsafe { EngineHandle::of(engine) }?;
        // SAFETY: the caller vouches for the queue.
        let queue = unsafe { QueueHandle::of(queue) }?;
        if engine.host.waits.cancel(queue.queue.id(), tag) {
            return Ok(());
        }
        Err(Failure::new(Status::NotCancellable, "nothing of this tag waits"))
    })
}

/// Answers a REQUEST item: with status 0 and the document of the answer, or with another status
/// and `{"message": ..}`. From any thread. ICP_E_UNKNOWN_REQUEST, and no harm, for an answer that
/// is late or the second one. The body is copied.
///
/// # Safety
///
/// The engine was not freed; `body` is good for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icp_respond(
    engine: *mut EngineHandle,
    request_id: u64,
    status: i32,
    body: *const u8,
    len: usize,
) -> i32 {
    guard(ptr::null_mut(), || {
        // SAFETY: the caller vouches for the engine.
        let engine = unsafe { EngineHandle::of(engine) }?;
        // SAFETY: the caller vouches for `len` bytes.
        let body = unsafe { input(body, len) }?;
        engine.host.requests.respond(request_id, status, body)
    })
}

/// Frees the answer of icp_call, with the length it came with. NULL is fine.
///
/// # Safety
///
/// `buf` and `len` are NULL and 0, or came from one icp_call and were not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icp_buf_free(buf: *mut u8, len: usize) {
    if !buf.is_null() {
        let answer = ptr::slice_from_raw_parts_mut(buf, len);
        // SAFETY: it came from `Box::into_raw` of a slice of this length, as the caller vouches.
        drop(unsafe { Box::from_raw(answer) });
    }
}
