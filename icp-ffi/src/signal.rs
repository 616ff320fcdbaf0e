//! A descriptor that event loops can wait on.

#[cfg(target_os = "linux")]
mod system {
    use std::io;
    use std::os::fd::{AsRawFd, OwnedFd};

    use rustix::event::{EventfdFlags, eventfd};

    /// An eventfd that is readable while it is set.
    #[derive(Debug)]
    pub(crate) struct Signal(OwnedFd);

    impl Signal {
        pub(crate) fn new() -> io::Result<Option<Self>> {
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            Ok(Some(Self(eventfd(0, flags)?)))
        }

        pub(crate) fn fd(&self) -> i64 {
            self.0.as_raw_fd().into()
        }

        #[cfg(test)]
        pub(crate) fn borrowed(&self) -> &OwnedFd {
            &self.0
        }

        /// Neither can fail: the counter is 0 before it is set, and 1 before it is cleared.
        pub(crate) fn set(&self, on: bool) {
            let _ = match on {
                true => rustix::io::write(&self.0, &1_u64.to_ne_bytes()),
                false => rustix::io::read(&self.0, &mut [0; 8]),
            };
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;

    /// No descriptor: the host drains on a thread.
    #[derive(Debug)]
    pub(crate) enum Signal {}

    impl Signal {
        pub(crate) fn new() -> io::Result<Option<Self>> {
            Ok(None)
        }

        pub(crate) fn fd(&self) -> i64 {
            match *self {}
        }

        pub(crate) fn set(&self, _: bool) {
            match *self {}
        }
    }
}

pub(crate) use system::Signal;
