//! Hints between processes, by `NOTIFY` outside of any transaction of a host's.
//!
//! A commit that notifies takes a lock over the whole server, so that it is never part of a
//! host's own transaction, and losing hints harms nothing: the engine polls.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use crate::names::Names;

/// Between two tries to listen again after the connection was lost.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// One connection that listens, made when it is first waited for.
pub(super) struct Ear {
    pool: PgPool,
    channel: String,
    hears: AtomicBool,
    /// Says that a hint came, to all in this process who wait for one.
    came: Notify,
    state: Mutex<State>,
}

struct State {
    listener: Option<PgListener>,
    pause: Duration,
    again: Option<Instant>,
}

impl Ear {
    /// Listens to the hints for the tables of these names, on a connection beside `pool`.
    pub(super) fn new(pool: &PgPool, names: &Names) -> Self {
        let options = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
        let pool = options.connect_lazy_with((*pool.connect_options()).clone());
        let state = Mutex::new(State { listener: None, pause: PAUSE, again: None });
        let (hears, came) = (AtomicBool::new(false), Notify::new());
        Self { pool, channel: channel(names), hears, came, state }
    }

    /// Whether hints arrive, as far as is known.
    pub(super) fn hears(&self) -> bool {
        self.hears.load(Ordering::Acquire)
    }

    /// Waits for a hint, or for the loss of the connection, after which some may be missed.
    pub(super) async fn hint(&self) {
        tokio::select! {
            () = self.came.notified() => {}
            () = self.next() => self.came.notify_waiters(),
        }
    }

    async fn next(&self) {
        let mut state = self.state.lock().await;
        if let Some(again) = state.again {
            tokio::time::sleep_until(again).await;
        }
        if self.listen(&mut state).await.is_err() {
            self.hears.store(false, Ordering::Release);
            state.listener = None;
            state.again = Some(Instant::now() + state.pause);
            state.pause = (state.pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn listen(&self, state: &mut State) -> Result<(), sqlx::Error> {
        let listener = match &mut state.listener {
            Some(listener) => listener,
            empty => {
                let mut listener = PgListener::connect_with(&self.pool).await?;
                listener.eager_reconnect(false);
                listener.listen(&self.channel).await?;
                empty.insert(listener)
            }
        };
        (state.again, state.pause) = (None, PAUSE);
        self.hears.store(true, Ordering::Release);
        match listener.try_recv().await? {
            Some(_) => Ok(()),
            None => Err(sqlx::Error::WorkerCrashed),
        }
    }

    pub(super) async fn close(&self) {
        let mut closed = pin!(self.pool.close());
        tokio::select! {
            // Who waits for a hint gives the connection back when the pool closes.
            () = &mut closed => return,
            // Where nobody does, it would be kept for ever.
            mut state = self.state.lock() => state.listener = None,
        }
        closed.await;
    }
}

/// Tells all that listen for the tables of these names.
pub(super) async fn announce(pool: &PgPool, names: &Names) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_notify($1, '')").bind(channel(names)).execute(pool).await.map(drop)
}

/// At most 63 bytes, as every name of PostgreSQL's; two that are cut alike cost a poll only.
fn channel(names: &Names) -> String {
    let mut channel = format!("{}{}", names.prefix(), names.schema().unwrap_or_default());
    channel.truncate(63);
    channel
}
