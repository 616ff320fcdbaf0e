//! What a worker gives up before it reads anything.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// How much memory a worker may take beyond what it has when it starts, in bytes.
const ROOM: u64 = 256 << 20;

/// Processor time after which a worker is killed whatever happens, in seconds. A host recycles it
/// long before.
const LIFETIME: u64 = 1_800;

/// Confines this process for good: no new privileges, no files, no sockets, no processes, bounded
/// memory; on Linux, any system call beyond those that computing needs ends it. Threads that run
/// already are confined with it, and new ones cannot be started.
///
/// # Errors
///
/// Where the system refuses; the process must not go on then.
pub fn confine() -> io::Result<()> {
    close_inherited()?;
    let memory = in_use()?.map(|used| used + ROOM);
    for (resource, most) in [
        (Resource::Core, Some(0)),
        (Resource::Fsize, Some(0)),
        (Resource::Nofile, Some(3)),
        (Resource::Cpu, Some(LIFETIME)),
        (Resource::As, memory),
    ] {
        if most.is_some() {
            setrlimit(resource, Rlimit { current: most, maximum: most })?;
        }
    }
    #[cfg(not(any(target_os = "macos", target_os = "ios")))]
    setrlimit(Resource::Nproc, Rlimit { current: Some(0), maximum: Some(0) })?;
    #[cfg(target_os = "linux")]
    linux::filter()?;
    Ok(())
}

/// Closes every descriptor but input, output and errors: what the host forgot to keep to itself.
fn close_inherited() -> io::Result<()> {
    let listed = ["/proc/self/fd", "/dev/fd"].iter().find_map(|at| std::fs::read_dir(at).ok());
    let listed = listed.ok_or(io::ErrorKind::NotFound)?;
    let mut open = Vec::new();
    for entry in listed {
        open.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // The list itself was read through one that is closed by now.
        match nix::unistd::close(descriptor) {
            Ok(()) | Err(nix::errno::Errno::EBADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The address space in use, in bytes; none where the system does not tell.
fn in_use() -> io::Result<Option<u64>> {
    if !cfg!(target_os = "linux") {
        return Ok(None);
    }
    let told = std::fs::read_to_string("/proc/self/statm")?;
    let pages: Option<u64> = told.split(' ').next().and_then(|pages| pages.parse().ok());
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4_096);
    pages.map(|pages| Some(pages * page)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;
    use std::io;

    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule, apply_filter_all_threads,
    };

    /// Calls that computing needs, whatever their arguments.
    const FREE: &[i64] = &[
        libc::SYS_brk,
        libc::SYS_clock_gettime,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_futex,
        libc::SYS_getpid,
        libc::SYS_getrandom,
        libc::SYS_gettid,
        libc::SYS_madvise,
        libc::SYS_mmap,
        libc::SYS_mprotect,
        libc::SYS_mremap,
        libc::SYS_munmap,
        libc::SYS_ppoll,
        libc::SYS_restart_syscall,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        // How a thread finds the bounds of its stack.
        libc::SYS_sched_getaffinity,
        libc::SYS_sched_yield,
        libc::SYS_sigaltstack,
        // How an abort ends the process.
        libc::SYS_tgkill,
    ];

    pub(super) fn filter() -> io::Result<()> {
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        let program = program().map_err(io::Error::other)?;
        // Forbids new privileges first: the kernel asks for it.
        apply_filter_all_threads(&program).map_err(io::Error::other)
    }

    fn program() -> Result<BpfProgram, seccompiler::BackendError> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
            FREE.iter().map(|call| (*call, Vec::new())).collect();
        #[cfg(target_arch = "x86_64")]
        rules.insert(libc::SYS_poll, Vec::new());
        rules.insert(libc::SYS_read, vec![on(0)?]);
        for write in [libc::SYS_write, libc::SYS_writev] {
            rules.insert(write, vec![on(1)?, on(2)?]);
        }
        let arch = std::env::consts::ARCH.try_into()?;
        let (kill, allow) = (SeccompAction::KillProcess, SeccompAction::Allow);
        SeccompFilter::new(rules, kill, allow, arch)?.try_into()
    }

    /// Only on this descriptor.
    fn on(descriptor: u64) -> Result<SeccompRule, seccompiler::BackendError> {
        let first =
            SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, descriptor)?;
        SeccompRule::new(vec![first])
    }
}
