//! Connections to a server that may fall silent.

use std::future::Future;
use std::io;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::pool::{PoolConnection, PoolConnectionMetadata};
use sqlx::{Connection, Database, Error};

/// How long a server may take to answer a statement where nothing else is said.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How long the driver may take to see whether a connection is fit to be used again.
const GIVE_BACK: Duration = Duration::from_secs(5);

/// A connection that has just been used is taken for alive, which saves a round trip.
const FRESH: Duration = Duration::from_secs(1);

/// A connection of a pool, which goes back to it or, where the server says nothing more, is closed.
///
/// The driver alone waits for the server without an end before it frees the place in the pool, so
/// that a network that swallows everything would leave none.
pub(crate) struct Held<D: Database> {
    conn: PoolConnection<D>,
    spoiled: bool,
}

impl<D: Database> From<PoolConnection<D>> for Held<D> {
    fn from(conn: PoolConnection<D>) -> Self {
        Self { conn, spoiled: false }
    }
}

#[cfg(feature = "postgres")]
impl<D: Database> Held<D> {
    /// Has the connection closed instead of given back.
    pub(crate) fn spoil(&mut self) {
        self.conn.close_on_drop();
        self.spoiled = true;
    }
}

impl<D: Database> Deref for Held<D> {
    type Target = PoolConnection<D>;

    fn deref(&self) -> &Self::Target {
        &self.conn
    }
}

impl<D: Database> DerefMut for Held<D> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.conn
    }
}

impl<D: Database> Drop for Held<D> {
    fn drop(&mut self) {
        if self.spoiled {
            return;
        }
        let back = self.conn.return_to_pool();
        // As the driver does by itself, but with a limit.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async { tokio::time::timeout(GIVE_BACK, back).await.is_ok() });
        }
    }
}

/// Whether a connection that is taken from the pool still leads to the server.
pub(crate) async fn is_alive<C: Connection>(
    conn: &mut C,
    meta: PoolConnectionMetadata,
) -> Result<bool, Error> {
    if meta.idle_for > FRESH {
        conn.ping().await?;
    }
    Ok(true)
}

/// How long the server may take to answer one statement; without an end where there is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit(pub(crate) Option<Duration>);

impl Limit {
    /// Waits for the answer to a statement.
    ///
    /// # Errors
    ///
    /// As the statement's, or that it timed out: then nobody knows what became of it, and the
    /// connection is of no more use.
    pub(crate) async fn on<T>(
        self,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let Some(limit) = self.0 else { return answer.await };
        let late = |_| Error::Io(io::ErrorKind::TimedOut.into());
        tokio::time::timeout(limit, answer).await.map_err(late)?
    }
}
