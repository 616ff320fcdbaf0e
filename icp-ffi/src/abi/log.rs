//! Where the log of the process goes.

use std::ffi::c_void;
use std::sync::Arc;

use super::{ErrorDocument, QueueHandle, guard, null};
use crate::log::{self, Sink};

/// Tells the log of the process to a queue as LOG items, from `level` (ICP_LOG_*) up. There is one
/// log in a process: another queue takes its place, NULL ends it.
///
/// # Safety
///
/// The queue is NULL or was not freed; `err` is NULL or good for one write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icp_log_to_queue(
    queue: *mut QueueHandle,
    level: i32,
    err: *mut *mut ErrorDocument,
) -> i32 {
    guard(err, || {
        if queue.is_null() {
            return log::tell(None, 0);
        }
        // SAFETY: the caller vouches for the queue.
        let handle = unsafe { QueueHandle::of(queue) }?;
        log::tell(Some(Sink::Queue(Arc::downgrade(&handle.queue))), level)
    })
}

/// Tells the log of the process to a function, from `level` (ICP_LOG_*) up, in the place of what it
/// was told to. For programs without an interpreter: `cb` is called on threads of the library, one
/// line at a time, and returns soon. `json` is good for the call only. Lines that `cb` causes
/// itself are not told, and within it the log cannot be changed (ICP_E_WRONG_THREAD). `env_free`
/// (or NULL) is called with `env` once: when the log goes elsewhere, before the function that
/// says so returns, or where this one fails.
///
/// # Safety
///
/// `cb` and `env_free` may be called with `env` from any thread; `err` is NULL or good for one
/// write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icp_log_to_callback(
    cb: Option<unsafe extern "C" fn(env: *mut c_void, level: i32, json: *const u8, len: usize)>,
    env: *mut c_void,
    env_free: Option<unsafe extern "C" fn(env: *mut c_void)>,
    level: i32,
    err: *mut *mut ErrorDocument,
) -> i32 {
    guard(err, || {
        let env = Environment { env, free: env_free };
        let cb = cb.ok_or_else(|| null("the callback"))?;
        let tell = move |level: i32, json: &[u8]| {
            // The whole of it is moved in here, and not only its pointer.
            let env = &env;
            // SAFETY: the caller vouches for the function with this environment.
            unsafe { cb(env.env, level, json.as_ptr(), json.len()) };
        };
        log::tell(Some(Sink::Callback(Box::new(tell))), level)
    })
}

/// What a function of the host is called with.
struct Environment {
    env: *mut c_void,
    free: Option<unsafe extern "C" fn(env: *mut c_void)>,
}

// SAFETY: the host vouches that its functions take it on any thread.
unsafe impl Send for Environment {}

impl Drop for Environment {
    fn drop(&mut self) {
        if let Some(free) = self.free {
            // SAFETY: as the caller vouched when it was handed over; it is dropped once.
            unsafe { free(self.env) };
        }
    }
}
