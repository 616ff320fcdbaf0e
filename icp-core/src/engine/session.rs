use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
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
    /// Whether it is closed, or about to be, because the node dozes.
    down: AtomicBool,
    /// Held by whoever beats, opens or closes.
    turn: tokio::sync::Mutex<()>,
}

impl Session {
    pub(crate) fn new(ids: &dyn IdSource, clock: &dyn Clock) -> Self {
        let session = Self {
            id: ArcSwap::from_pointee(SessionId::generate(ids)),
            seen: AtomicU64::new(0),
            renounced: AtomicBool::new(false),
            down: AtomicBool::new(false),
            turn: tokio::sync::Mutex::default(),
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

    /// Nothing is leased to this session from now on, as it is about to be closed.
    ///
    /// Whoever has room for an attempt and asks [`is_down`](Self::is_down) after that, or says so
    /// here and asks for the room that is taken after that: one of the two sees the other.
    pub(crate) fn lie_down(&self) {
        self.down.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// It is open, and deliveries may be leased to it.
    pub(crate) fn get_up(&self) {
        self.down.store(false, Ordering::SeqCst);
    }

    /// Whether nothing may be leased to it.
    pub(crate) fn is_down(&self) -> bool {
        fence(Ordering::SeqCst);
        self.down.load(Ordering::SeqCst)
    }

    /// Waits until nobody else beats, opens or closes it.
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
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
