//! CPU seconds and memory of this process, and a clock that processes of one machine share.

use std::time::Duration;

/// User and system time this process has used.
pub(crate) fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    duration(time)
}

/// User and system time this thread has used.
pub(crate) fn thread_cpu() -> Duration {
    duration(rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime))
}

/// Time since the machine started; the same in every process.
pub(crate) fn now() -> Duration {
    duration(rustix::time::clock_gettime(rustix::time::ClockId::Monotonic))
}

/// Resident memory of this process, in MiB; zero where the system does not tell.
pub(crate) fn resident_mib() -> f64 {
    resident_mib_of(std::process::id())
}

/// Resident memory of a process, in MiB; zero where the system does not tell.
pub(crate) fn resident_mib_of(process: u32) -> f64 {
    status_mib(process, "VmRSS:")
}

/// The part of it that the process shares with no other: what is not of its program's file.
pub(crate) fn own_mib_of(process: u32) -> f64 {
    status_mib(process, "RssAnon:")
}

fn status_mib(process: u32, name: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib: Option<f64> = line.and_then(|l| l.trim().trim_end_matches(" kB").trim().parse().ok());
    kib.unwrap_or_default() / 1024.0
}

fn duration(time: rustix::time::Timespec) -> Duration {
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}
