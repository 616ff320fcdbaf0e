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
    let memory = in_use()?;
    let most = |used: Option<u64>| used.map(|used| used + ROOM);
    for (resource, limit) in [
        (Resource::Core, Some(0)),
        (Resource::Fsize, Some(0)),
        (Resource::Nofile, Some(3)),
        (Resource::Cpu, Some(LIFETIME)),
        // An allocator may have reserved address space ahead, so that what is written is bounded
        // by itself.
        (Resource::As, most(memory.map(|memory| memory.all))),
        (Resource::Data, most(memory.map(|memory| memory.data))),
    ] {
        if limit.is_some() {
            setrlimit(resource, Rlimit { current: limit, maximum: limit })?;
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

/// Memory in use, in bytes.
#[derive(Clone, Copy)]
struct Memory {
    /// The whole address space.
    all: u64,
    /// What can be written.
    data: u64,
}

/// The memory in use; none where the system does not tell.
fn in_use() -> io::Result<Option<Memory>> {
    if !cfg!(target_os = "linux") {
        return Ok(None);
    }
    let told = std::fs::read_to_string("/proc/self/statm")?;
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4_096);
    let pages = |field| -> io::Result<u64> {
        let pages = told.split_whitespace().nth(field).and_then(|pages| pages.parse::<u64>().ok());
        pages.map(|pages| pages * page).ok_or_else(|| io::ErrorKind::InvalidData.into())
    };
    Ok(Some(Memory { all: pages(0)?, data: pages(5)? }))
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
        // Allocators ask where they are.
        libc::SYS_getcpu,
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
        // The second waits for how a thread waits that ends the process while another does.
        #[cfg(target_arch = "x86_64")]
        for call in [libc::SYS_poll, libc::SYS_pause] {
            rules.insert(call, Vec::new());
        }
        // Only from the host, and only to it.
        rules.insert(libc::SYS_read, vec![first(0)?]);
        for write in [libc::SYS_write, libc::SYS_writev] {
            rules.insert(write, vec![first(1)?, first(2)?]);
        }
        rules.insert(libc::SYS_prctl, vec![first(NAME_MEMORY)?]);
        let arch = std::env::consts::ARCH.try_into()?;
        let (kill, allow) = (SeccompAction::KillProcess, SeccompAction::Allow);
        SeccompFilter::new(rules, kill, allow, arch)?.try_into()
    }

    /// `PR_SET_VMA`: allocators name the memory they ask for.
    const NAME_MEMORY: u64 = 0x5356_4d41;

    /// Only with this first argument.
    fn first(argument: u64) -> Result<SeccompRule, seccompiler::BackendError> {
        let is = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, argument)?;
        SeccompRule::new(vec![is])
    }
}
