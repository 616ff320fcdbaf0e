//! Worker processes for the programs of organizations: JavaScript, JSONata, JMESPath and JSON
//! Schema.
//!
//! A program is somebody else's code. Engines can be made to crash, to use all memory, or never to
//! return, and a thread cannot be killed; so each organization's programs run in a process of
//! their own, which is confined before it reads anything and killed when it takes too long. A
//! [`Sandbox`] is the [`Transformer`](icp_core::transform::Transformer) that keeps these
//! processes.
//!
//! A host either ships the program `icp-sandbox` beside its own executable, or begins its own
//! `main` with [`worker::run_if_asked`] and lets the sandbox start that.

#[cfg(not(unix))]
compile_error!("workers are Unix processes; run programs of other hosts `InProcess` elsewhere");

mod builder;
mod call;
mod chance;
mod desk;
mod engine;
mod exchange;
mod frame;
mod host;
mod in_process;
mod parts;
mod payload;
mod pool;
mod runner;
mod sandbox;
mod service;
pub mod worker;

pub use builder::Builder;
pub use icp_core::transform::Limits;
pub use in_process::InProcess;
pub use sandbox::Sandbox;
