//! The exported functions. They check what comes in, and translate. Beside them, only `locks` is
//! unsafe.
//!
//! What all have in common: a caller hands in pointers that are null or good for what the header
//! says. A null pointer is refused where something is needed; one that dangles is the caller's
//! fault. Every function is called in `guard`, so that no panic leaves.

mod engine;
mod error;
mod log;
mod queue;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;

pub use engine::*;
pub use error::*;
pub use log::*;
pub use queue::*;

use crate::status::{Failure, Status};

/// Runs `work`, tells its failure in `err` where the caller wants to know, and answers a status.
fn guard(err: *mut *mut ErrorDocument, work: impl FnOnce() -> Result<(), Failure>) -> i32 {
    let done = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Failure::new(Status::Panic, "the call panicked, which is a defect of this library"))
    });
    let Err(failure) = done else { return Status::Ok.number() };
    let number = failure.number();
    if !err.is_null() {
        let document = catch_unwind(AssertUnwindSafe(|| ErrorDocument::boxed(&failure)));
        // SAFETY: it is not null, and every caller vouches for one write.
        unsafe { err.write(document.unwrap_or(std::ptr::null_mut())) };
    }
    number
}

/// The input at `data`, which has to be there unless it is empty.
///
/// # Safety
///
/// `data` is null, or good for reading `len` bytes while the answer lives.
unsafe fn input<'a>(data: *const u8, len: usize) -> Result<&'a [u8], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() || isize::try_from(len).is_err() {
        return Err(null("the input"));
    }
    // SAFETY: it is not null, and the caller vouches for `len` bytes.
    Ok(unsafe { slice::from_raw_parts(data, len) })
}

fn null(what: &str) -> Failure {
    Failure::new(Status::Invalid, format!("{what} is a null pointer"))
}
