use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::id::{IdSource, SessionId};
use crate::time::Clock;

/// This run of the engine as the store knows it: the owner of its leases.
#[derive(Debug)]
pub(crate) struct Session {
    id: ArcSwap<SessionId>,
    /// When the store last took a beat, in milliseconds of the monotonic clock.
    seen: AtomicU64,
    renounced: AtomicBool,
}

impl Session {
    pub(crate) fn new(ids: &dyn IdSource, clock: &dyn Clock) -> Self {
        let session = Self {
            id: ArcSwap::from_pointee(SessionId::generate(ids)),
            seen: AtomicU64::new(0),
            renounced: AtomicBool::new(false),
        };
        session.confirm(clock.monotonic());
        session
    }

    pub(crate) fn id(&self) -> SessionId {
        **self.id.load()
    }

    /// Goes on under a new id, because the leases of the old one are being taken away.
    pub(crate) fn replace(&self, ids: &dyn IdSource) -> SessionId {
        let id = SessionId::generate(ids);
        self.id.store(id.into());
        id
    }

    /// Says that leases of this session may be held by nobody: it is to be replaced.
    pub(crate) fn renounce(&self) {
        self.renounced.store(true, Ordering::Release);
    }

    /// Whether the session is to be replaced; answers so once.
    pub(crate) fn take_renounced(&self) -> bool {
        self.renounced.swap(false, Ordering::AcqRel)
    }

    /// Notes that the store took a beat that was sent at `sent`.
    pub(crate) fn confirm(&self, sent: Duration) {
        self.seen.store(u64::try_from(sent.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// How long ago the last beat was sent that the store took.
    pub(crate) fn silence(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_millis(self.seen.load(Ordering::Acquire)))
    }
}
