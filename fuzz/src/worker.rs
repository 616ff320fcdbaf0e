//! A real worker of the sandbox, for the targets that talk to one.
#![forbid(unsafe_code)]

fn main() {
    icp_sandbox::worker::run_if_asked();
}
