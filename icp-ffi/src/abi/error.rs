//! Errors, and what is asked of the library itself.

use std::ffi::{CString, c_char};
use std::ptr;
use std::sync::LazyLock;

use crate::reference::ABI_VERSION;
use crate::status::Failure;

/// Why a call failed. Freed with icp_error_free; its texts live as long.
#[derive(Debug)]
pub struct ErrorDocument {
    code: i32,
    message: CString,
    json: CString,
}

impl ErrorDocument {
    pub(super) fn boxed(failure: &Failure) -> *mut Self {
        let text = |bytes: &[u8]| {
            let plain: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).collect();
            CString::new(plain).unwrap_or_default()
        };
        Box::into_raw(Box::new(Self {
            code: failure.number(),
            message: text(failure.message().as_bytes()),
            json: text(&failure.json()),
        }))
    }
}

macro_rules! built {
    ($feature:literal) => {
        if cfg!(feature = $feature) { "true" } else { "false" }
    };
}

/// Made once, when it is asked for.
static BUILD_INFO: LazyLock<CString> = LazyLock::new(|| {
    let info = format!(
        "{{\"version\":\"{}\",\"abi\":{ABI_VERSION},\"sqlite\":{},\"postgres\":{},\"mysql\":{},\
         \"mongodb\":{},\"faults\":{}}}",
        env!("CARGO_PKG_VERSION"),
        built!("sqlite"),
        built!("postgres"),
        built!("mysql"),
        built!("mongodb"),
        built!("faults"),
    );
    CString::new(info).unwrap_or_default()
});

/// The version of the ABI that the library has: major << 16 | minor.
#[unsafe(no_mangle)]
pub extern "C" fn icp_abi_version() -> u32 {
    ABI_VERSION
}

/// The version of the library, as in "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn icp_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// What the library was built with, as JSON.
#[unsafe(no_mangle)]
pub extern "C" fn icp_build_info() -> *const c_char {
    BUILD_INFO.as_ptr().cast()
}

/// Its status. 0 for NULL.
///
/// # Safety
///
/// The error is NULL or was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icp_error_code(error: *const ErrorDocument) -> i32 {
    // SAFETY: it is null or points to an error that was not freed, as the caller vouches.
    unsafe { error.as_ref() }.map_or(0, |error| error.code)
}

/// What went wrong and what to do, as UTF-8. NULL for NULL.
///
/// # Safety
///
/// The error is NULL or was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icp_error_message(error: *const ErrorDocument) -> *const c_char {
    // SAFETY: as above.
    unsafe { error.as_ref() }.map_or(ptr::null(), |error| error.message.as_ptr())
}

/// The error as JSON: code, name, message, retryable, and cause, path and violations where there
/// are any. NULL for NULL.
///
/// # Safety
///
/// The error is NULL or was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icp_error_json(error: *const ErrorDocument) -> *const c_char {
    // SAFETY: as above.
    unsafe { error.as_ref() }.map_or(ptr::null(), |error| error.json.as_ptr())
}

/// Frees an error. NULL is fine.
///
/// # Safety
///
/// The error is NULL or was not freed, and its texts are used no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icp_error_free(error: *mut ErrorDocument) {
    if !error.is_null() {
        // SAFETY: it came from `Box::into_raw` and, as the caller vouches, was not freed before.
        drop(unsafe { Box::from_raw(error) });
    }
}
