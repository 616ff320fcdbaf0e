//! A worker of the sandbox. It is started by a host, never by hand.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use icp_sandbox::worker;

fn main() -> ExitCode {
    worker::run_if_asked();
    // Nothing else to do: whoever started it without the argument reads it in the exit code.
    ExitCode::from(64)
}
