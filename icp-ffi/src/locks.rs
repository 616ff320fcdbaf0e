//! Locks on files of SQLite that hold within a process.
//!
//! A host has a copy of SQLite of its own, as Python and Node do, and may open the file of the
//! store with it. POSIX locks are those of a whole process: the two copies would not see each
//! other's, and each would take the other's away whenever it closes a file. The last connection of
//! the host would then delete the log that the engine still writes to, and two would write at once.
//!
//! The copy here takes locks of open file descriptions instead (`F_OFD_SETLK`), which exclude
//! those of POSIX, whoever has them. One description per file holds all locks of this copy, so they
//! are what SQLite takes them for otherwise. As they last until every process has closed it, a
//! child that was forked and outlives a killed parent keeps what the parent had locked.

use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_void};
use std::fs::File;
use std::mem::{MaybeUninit, transmute};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::ptr;
use std::sync::{LazyLock, Mutex, MutexGuard, Once, PoisonError};

use libsqlite3_sys::{SQLITE_OK, sqlite3_vfs_find};

/// Has SQLite take its locks so. Call it before a file is opened; later calls do nothing.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let calls = [(c"open", open as *const ()), (c"close", close as _), (c"fcntl", fcntl as _)];
        for (name, call) in calls {
            // SAFETY: the default one is never taken away, and calls each with the arguments that
            // it takes.
            let done = unsafe {
                let vfs = sqlite3_vfs_find(ptr::null());
                vfs.as_ref().and_then(|found| found.xSetSystemCall).map(|set| {
                    let call = transmute::<*const (), unsafe extern "C" fn()>(call);
                    set(vfs, name.as_ptr(), Some(call))
                })
            };
            if done != Some(SQLITE_OK) {
                tracing::warn!("SQLite has no system call {name:?}; keep its file to the engine");
            }
        }
    });
}

/// A file, by its device and inode.
type Key = (u64, u64);

/// What holds the locks of a file.
struct Held {
    by: File,
    /// What SQLite has closed while others had locks, which would lose them.
    parked: Vec<c_int>,
}

/// The files that locks were asked for. A process has one copy of this, as of SQLite.
fn files() -> MutexGuard<'static, HashMap<Key, Held>> {
    static FILES: LazyLock<Mutex<HashMap<Key, Held>>> = LazyLock::new(Mutex::default);
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Held {
    /// For the file of `fd`, by a description that may write, which `fd` itself may not.
    fn new(fd: c_int) -> Option<Self> {
        let by = File::options().read(true).write(true).open(format!("/proc/self/fd/{fd}"));
        // SAFETY: SQLite has opened it, and waits for this call.
        let same = unsafe { BorrowedFd::borrow_raw(fd) };
        let by = by.or_else(|_| same.try_clone_to_owned().map(File::from)).ok()?;
        Some(Self { by, parked: Vec::new() })
    }

    /// Sets a lock on all of the file, or takes all away.
    fn whole(&self, kind: c_int) -> bool {
        // SAFETY: a lock is numbers, for which zeros are fine.
        let mut lock: libc::flock = unsafe { MaybeUninit::zeroed().assume_init() };
        lock.l_type = kind as _;
        // SAFETY: it is open, and the lock outlives the call.
        unsafe { libc::fcntl(self.by.as_raw_fd(), libc::F_OFD_SETLK, &raw mut lock) == 0 }
    }

    fn is_deleted(&self) -> bool {
        self.by.metadata().is_ok_and(|found| found.nlink() == 0)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for fd in &self.parked {
            // SAFETY: SQLite has closed it, so it is nobody else's.
            unsafe { libc::close(*fd) };
        }
    }
}

fn key(found: &libc::stat) -> Key {
    (found.st_dev, found.st_ino)
}

fn key_of(fd: c_int) -> Option<Key> {
    let mut found = MaybeUninit::uninit();
    // SAFETY: it is written where the call succeeds.
    unsafe { (libc::fstat(fd, found.as_mut_ptr()) == 0).then(|| key(found.assume_init_ref())) }
}

/// As `open`, by a descriptor that was to be closed where there is one.
unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
    let mut found = MaybeUninit::uninit();
    // SAFETY: SQLite gives a path that ends with a zero; the file is told where the call succeeds.
    let known = unsafe {
        (libc::stat(path, found.as_mut_ptr()) == 0).then(|| key(found.assume_init_ref()))
    };
    if flags & libc::O_EXCL == 0
        && let Some(key) = known
        && let Some(held) = files().get_mut(&key)
    {
        // SAFETY: it is asked how it was opened.
        let how = |fd: c_int| unsafe { libc::fcntl(fd, libc::F_GETFL) } & libc::O_ACCMODE;
        let wanted = flags & libc::O_ACCMODE;
        if let Some(at) = held.parked.iter().position(|fd| how(*fd) == wanted) {
            return held.parked.swap_remove(at);
        }
    }
    // SAFETY: as above.
    unsafe { libc::open(path, flags, mode) }
}

/// As `close`, which takes all locks of this copy on the file away, and nobody else's.
unsafe extern "C" fn close(fd: c_int) -> c_int {
    let mut files = files();
    if let Some(held) = key_of(fd).and_then(|key| files.get_mut(&key)) {
        // While all of it is locked here, nobody has a lock that would be lost.
        if !held.is_deleted() && !held.whole(libc::F_WRLCK) {
            held.whole(libc::F_UNLCK);
            held.parked.push(fd);
            return 0;
        }
        // SAFETY: SQLite has opened it, and gives it away.
        let done = unsafe { libc::close(fd) };
        held.whole(libc::F_UNLCK);
        return done;
    }
    // SAFETY: as above.
    unsafe { libc::close(fd) }
}

/// As `fcntl`, with locks of the file's one description.
unsafe extern "C" fn fcntl(fd: c_int, command: c_int, argument: *mut c_void) -> c_int {
    let command = match command {
        libc::F_SETLK => libc::F_OFD_SETLK,
        libc::F_SETLKW => libc::F_OFD_SETLKW,
        libc::F_GETLK => libc::F_OFD_GETLK,
        // SAFETY: SQLite gives the argument that the command takes.
        _ => return unsafe { libc::fcntl(fd, command, argument) },
    };
    let Some(key) = key_of(fd) else { return -1 };
    let mut files = files();
    if !files.contains_key(&key) {
        files.retain(|_, held| !held.is_deleted());
        let Some(held) = Held::new(fd) else { return -1 };
        files.insert(key, held);
    }
    let held = &files[&key];
    // SAFETY: the argument of these commands is a lock, which must name no process.
    unsafe {
        (*argument.cast::<libc::flock>()).l_pid = 0;
        libc::fcntl(held.by.as_raw_fd(), command, argument)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What another copy of SQLite does: a POSIX lock on one byte.
    fn lock(file: &File, command: c_int, kind: c_int) -> (c_int, c_int) {
        lock_by(file.as_raw_fd(), command, kind, |fd, command, lock| unsafe {
            libc::fcntl(fd, command, lock)
        })
    }

    /// What the copy here does.
    fn own(fd: c_int, command: c_int, kind: c_int) -> (c_int, c_int) {
        lock_by(fd, command, kind, |fd, command, lock| unsafe { fcntl(fd, command, lock.cast()) })
    }

    /// What the call answers, and the kind of lock that it leaves.
    fn lock_by(
        fd: c_int,
        command: c_int,
        kind: c_int,
        call: impl Fn(c_int, c_int, *mut libc::flock) -> c_int,
    ) -> (c_int, c_int) {
        let mut lock: libc::flock = unsafe { MaybeUninit::zeroed().assume_init() };
        (lock.l_type, lock.l_start, lock.l_len) = (kind as _, 120, 1);
        (call(fd, command, &raw mut lock), lock.l_type.into())
    }

    fn opened(path: &std::ffi::CStr) -> c_int {
        let fd = unsafe { open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC, 0) };
        assert!(fd >= 0);
        fd
    }

    #[test]
    fn two_copies_in_a_process_exclude_each_other() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = std::ffi::CString::new(file.path().to_str().unwrap()).unwrap();
        let other = || File::options().read(true).write(true).open(file.path()).unwrap();
        let (one, two, host) = (opened(&path), opened(&path), other());
        assert_eq!(own(one, libc::F_SETLK, libc::F_WRLCK).0, 0);
        // It is this copy's, by whichever descriptor.
        assert_eq!(own(two, libc::F_GETLK, libc::F_WRLCK), (0, libc::F_UNLCK));
        assert_eq!(lock(&host, libc::F_SETLK, libc::F_WRLCK).0, -1);
        // What would take POSIX locks away.
        drop(other());
        assert_eq!(lock(&host, libc::F_GETLK, libc::F_WRLCK), (0, libc::F_WRLCK));
        assert_eq!(own(two, libc::F_SETLK, libc::F_UNLCK).0, 0);
        assert_eq!(lock(&host, libc::F_SETLK, libc::F_WRLCK).0, 0);
        assert_eq!(own(one, libc::F_SETLK, libc::F_RDLCK).0, -1);
        assert_eq!(own(one, libc::F_GETLK, libc::F_RDLCK), (0, libc::F_WRLCK));

        let known = key_of(one);
        // A lock of the host outlives what is closed here, and the descriptor is used again.
        assert_eq!(unsafe { close(two) }, 0);
        assert_eq!(own(one, libc::F_SETLK, libc::F_RDLCK).0, -1);
        assert_eq!(opened(&path), two);
        drop(host);
        assert_eq!(own(one, libc::F_SETLK, libc::F_RDLCK).0, 0);
        for fd in [one, two] {
            assert_eq!(unsafe { close(fd) }, 0);
        }
        assert!(known.iter().all(|key| files()[key].parked.is_empty()));
        assert_eq!(lock(&other(), libc::F_SETLK, libc::F_WRLCK).0, 0);
    }
}
