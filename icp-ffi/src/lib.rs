//! The C ABI of icp: an engine for programs in other languages.
//!
//! Work goes in by `icp_submit`, and everything comes out of a queue that the host drains:
//! completions, requests to the host's handlers, events and log lines. No thread of the engine
//! ever calls into the host. Documents are JSON, as in the HTTP API.
//!
//! The header is `include/icp.h`; the rules for callers are in the crate's `README.md`.

#[expect(unsafe_code, reason = "the C ABI: the raw pointers of hosts come in here")]
pub mod abi;
mod admission;
mod handler;
mod host;
pub mod item;
mod location;
#[cfg(all(feature = "sqlite", target_os = "linux", target_pointer_width = "64"))]
#[expect(unsafe_code, reason = "system calls that SQLite makes, with what it hands them")]
mod locks;
mod log;
pub mod op;
pub mod queue;
pub mod reference;
mod request;
mod settings;
mod signal;
pub mod status;
mod store;
mod tokens;
mod work;
