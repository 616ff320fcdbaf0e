use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use icp_core::error::Result;
use icp_core::store::{Store, StoreInfo};
use sqlx::Database;
use tokio::sync::Notify;

use crate::claim::eligible::Width;
use crate::error::Failure;
use crate::link::{Reader, Writer};
use crate::names::Names;
use crate::scope::Scope;

/// A store in a database of the kind `D`.
///
/// Cloning is cheap and shares the connections.
pub struct SqlStore<D> {
    shared: Arc<Shared>,
    database: PhantomData<fn() -> D>,
}

struct Shared {
    backend: Box<dyn Backend>,
    hint: Notify,
    ill: AtomicBool,
    calm: AtomicBool,
    width: Width,
    statements: AtomicU64,
}

/// A database as the store uses it.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    fn info(&self) -> StoreInfo;

    /// What the tables are called.
    fn names(&self) -> Names;

    /// A connection that can write, outside of any transaction.
    async fn writer(&self) -> Result<Box<dyn Writer>, Failure>;

    /// A connection that only reads, the rows of `scope` where the database holds it to that.
    async fn reader(&self, scope: Scope<'_>) -> Result<Box<dyn Reader>, Failure>;

    /// Whether the database holds each operation to its scope.
    fn is_walled(&self) -> bool;

    /// Waits for a hint of another process; for ever where none can come.
    async fn hinted(&self);

    /// Whether hints of other processes reach this one at present.
    fn hears(&self) -> bool {
        false
    }

    /// Hints to all other processes, where the database can.
    async fn announce(&self) -> Result<(), Failure>;

    async fn close(&self) -> Result<(), Failure>;
}

impl<D: Database> SqlStore<D> {
    pub(crate) fn new(backend: impl Backend + 'static) -> Self {
        let shared = Shared {
            backend: Box::new(backend),
            hint: Notify::new(),
            ill: AtomicBool::new(false),
            calm: AtomicBool::new(false),
            width: Width::default(),
            statements: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared), database: PhantomData }
    }

    /// Tells the engine of this process that a host transaction with outbox rows was committed.
    ///
    /// Never needed for correctness: without it the rows are found by the next poll.
    pub fn hint(&self) {
        self.shared.hint.notify_one();
    }

    /// As [`hint`](Self::hint), and tells the engines of other processes too, where the database
    /// can (PostgreSQL).
    ///
    /// For processes that publish and run no engine. Call it after the commit, and not for each of
    /// many: it is a statement of its own on a connection of the store.
    ///
    /// # Errors
    ///
    /// Where the database cannot be reached; the rows are found by the next poll all the same.
    pub async fn hint_all(&self) -> Result<()> {
        self.hint();
        self.hint_others().await
    }

    /// Closes all connections, after the write under way.
    ///
    /// # Errors
    ///
    /// Where the database cannot be left in order; what was committed stays committed.
    pub async fn close(&self) -> Result<()> {
        let done = self.shared.backend.close().await;
        done.map_err(|failure| icp_core::Error::from(failure).during("close"))
    }

    /// How many statements this store has run since it was opened, those that begin and end
    /// transactions included. For measuring.
    pub fn statements(&self) -> u64 {
        self.shared.statements.load(Ordering::Relaxed)
    }

    /// What a transaction costs beside its work: its begin, its end, and its scope.
    pub(crate) fn toll(&self) -> u64 {
        2 + u64::from(self.backend().is_walled())
    }

    pub(crate) fn count(&self, statements: u64) {
        self.shared.statements.fetch_add(statements, Ordering::Relaxed);
    }

    /// Whether lanes in bad health were settled of late: a hint to look at their health first.
    pub(crate) fn ill(&self) -> &AtomicBool {
        &self.shared.ill
    }

    /// Whether the last claim found nothing: a hint that a look is enough.
    pub(crate) fn calm(&self) -> &AtomicBool {
        &self.shared.calm
    }

    /// How many lanes claims look at.
    pub(crate) fn width(&self) -> &Width {
        &self.shared.width
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.shared.backend
    }
}

impl<D> Clone for SqlStore<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), database: PhantomData }
    }
}

impl<D> fmt::Debug for SqlStore<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = self.shared.backend.info();
        f.debug_struct("SqlStore").field("info", &info).finish_non_exhaustive()
    }
}

#[async_trait]
impl<D: Database> Store for SqlStore<D> {
    fn info(&self) -> StoreInfo {
        self.backend().info()
    }

    async fn ping(&self) -> Result<()> {
        let done = async {
            let mut writer = self.backend().writer().await?;
            writer.begin(Scope::Node).await?.rollback().await
        }
        .await;
        done.map_err(|failure| icp_core::Error::from(failure).during("ping"))
    }

    async fn wakeup(&self) {
        tokio::select! {
            () = self.shared.hint.notified() => {}
            () = self.shared.backend.hinted() => {}
        }
    }

    fn hears(&self) -> bool {
        self.shared.backend.hears()
    }

    async fn hint_others(&self) -> Result<()> {
        let done = self.shared.backend.announce().await;
        done.map_err(|failure| icp_core::Error::from(failure).during("hint"))
    }
}

/// How often a transaction that met another is run again. Each time one of those that met goes
/// through, so that no pause is needed.
pub(crate) const REPEATS: u32 = 20;

/// Runs `$body` within one write transaction `$tx` on the rows of `$scope`, and ends it as `$keeps`
/// says of the answer; dropped half-way, it is rolled back.
macro_rules! transact {
    ($store:expr, $scope:expr, $operation:literal, |$tx:ident| $body:expr, $keeps:expr) => {{
        let mut repeats = 0;
        let outcome = loop {
            let outcome: Result<_, $crate::error::Failure> = async {
                let mut writer = $store.backend().writer().await?;
                let mut transaction = writer.begin($scope).await?;
                let mut counted = $crate::link::Counted::new(&mut *transaction);
                let $tx: &mut $crate::link::Conn<'_> = &mut counted;
                let answer = $body;
                $store.count(counted.statements() + $store.toll());
                let answer = answer?;
                if $keeps(&answer) {
                    transaction.commit().await?;
                } else {
                    transaction.rollback().await?;
                }
                Ok(answer)
            }
            .await;
            match outcome {
                Err(failure) if failure.is_passing() && repeats < $crate::store::REPEATS => {
                    repeats += 1;
                }
                outcome => break outcome,
            }
        };
        outcome.map_err(|failure| icp_core::Error::from(failure).during($operation))
    }};
}

/// Runs `$body` within one write transaction `$tx` on the rows of `$scope`.
macro_rules! commit {
    ($store:expr, $scope:expr, $operation:literal, |$tx:ident| $body:expr) => {
        $crate::store::transact!($store, $scope, $operation, |$tx| $body, |_| true)
    };
}

/// As [`commit`]; where `$body` answers nothing, what it wrote is undone.
macro_rules! attempt {
    ($store:expr, $scope:expr, $operation:literal, |$tx:ident| $body:expr) => {
        $crate::store::transact!($store, $scope, $operation, |$tx| $body, Option::is_some)
    };
}

/// Runs `$body` on a connection `$conn` that only reads, the rows of `$scope`.
macro_rules! read {
    ($store:expr, $scope:expr, $operation:literal, |$conn:ident| $body:expr) => {{
        let outcome: Result<_, $crate::error::Failure> = async {
            let mut reader = $store.backend().reader($scope).await?;
            let mut counted = $crate::link::Counted::new(&mut *reader);
            let $conn: &mut $crate::link::Conn<'_> = &mut counted;
            let answer = $body;
            let statements = counted.statements();
            let walled = $store.backend().is_walled();
            $store.count(statements + if walled { $store.toll() } else { 0 });
            let ended = reader.end().await;
            let answer = answer?;
            ended.map(|()| answer)
        }
        .await;
        outcome.map_err(|failure| icp_core::Error::from(failure).during($operation))
    }};
}

pub(crate) use {attempt, commit, read, transact};
