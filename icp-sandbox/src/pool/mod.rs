//! The workers of a host: one organization each, so many at once, the idle ones kept for a while.

mod breaker;
mod idle;
mod process;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use icp_core::id::OrgId;
use icp_core::transform::{Limits, TransformError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use self::breaker::Breaker;
use self::idle::Idle;
pub(crate) use self::process::{Death, Meter, Process};

/// How long a call waits for room.
const WAIT: Duration = Duration::from_secs(30);

/// How many calls may wait for others, for each that computes.
const ASIDE: usize = 4;

/// All workers.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) limits: Limits,
    program: PathBuf,
    most: usize,
    /// Room for calls under way, of all organizations.
    running: Arc<Semaphore>,
    /// Room for calls that wait for others, beside those.
    aside: Arc<Semaphore>,
    idle: Idle<Process>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    orgs: HashMap<OrgId, Org>,
    breaker: Breaker,
}

#[derive(Debug)]
struct Org {
    room: Arc<Semaphore>,
    waiting: u32,
    present: u32,
}

/// The right to run one call for an organization; it is given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat<'a> {
    pool: &'a Pool,
    org: OrgId,
    /// Among the calls of its organization.
    own: Option<OwnedSemaphorePermit>,
    /// Among all that compute.
    shared: Option<OwnedSemaphorePermit>,
}

impl Pool {
    pub(crate) fn new(program: PathBuf, limits: Limits, most: usize, idle: Duration) -> Self {
        let state = State { orgs: HashMap::new(), breaker: Breaker::new() };
        let (running, idle) = (Arc::new(Semaphore::new(most)), Idle::new(idle));
        let aside = Arc::new(Semaphore::new(most * ASIDE));
        Self { limits, program, most, running, aside, idle, state: Mutex::new(state) }
    }

    /// Waits for room for one call.
    ///
    /// # Errors
    ///
    /// `overloaded`, where too many calls wait already or there is no room for long.
    pub(crate) async fn seat(&self, org: &OrgId) -> Result<Seat<'_>, TransformError> {
        let (room, waiting) = self.enter(org)?;
        let mut seat = Seat { pool: self, org: org.clone(), own: None, shared: None };
        let rights = timeout(WAIT, async {
            let own = room.acquire_owned().await.ok()?;
            let shared = Arc::clone(&self.running).acquire_owned().await.ok()?;
            Some((own, shared))
        });
        let rights = rights.await.ok().flatten();
        drop(waiting);
        match rights {
            Some((own, shared)) => {
                (seat.own, seat.shared) = (Some(own), Some(shared));
                Ok(seat)
            }
            None => Err(overloaded("no worker became free in time")),
        }
    }

    fn enter(&self, org: &OrgId) -> Result<(Arc<Semaphore>, Waiting<'_>), TransformError> {
        let mut state = self.state();
        let most = self.limits.running_per_org as usize;
        let entry = state.orgs.entry(org.clone()).or_insert_with(|| Org {
            room: Arc::new(Semaphore::new(most)),
            waiting: 0,
            present: 0,
        });
        let full = entry.room.available_permits() == 0;
        if full && entry.waiting >= self.limits.waiting_per_org {
            return Err(overloaded("too many transformations of the organization wait already"));
        }
        entry.waiting += 1;
        entry.present += 1;
        Ok((Arc::clone(&entry.room), Waiting { pool: self, org: org.clone() }))
    }

    /// How long a program stays suspended; none where it is not.
    pub(crate) fn suspended(&self, org: &OrgId, program: &[u8; 32]) -> Option<Duration> {
        self.state().breaker.suspended(&(org.clone(), *program), Instant::now())
    }

    /// Notes that a program took a worker down.
    pub(crate) fn died(&self, org: &OrgId, program: &[u8; 32]) {
        self.state().breaker.died((org.clone(), *program), Instant::now());
    }

    /// The workers that are idle now, for tests and gauges.
    pub(crate) fn idle(&self) -> Vec<(OrgId, Option<u32>)> {
        self.idle.list(|org, process| (org.clone(), process.id()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle worker of the organization, or room for a new one.
    fn reuse(&self, org: &OrgId) -> Option<Process> {
        if let Some(process) = self.idle.take(org, Process::is_alive) {
            return Some(process);
        }
        let under_way = self.most - self.running.available_permits();
        self.idle.shrink(self.most.saturating_sub(under_way));
        None
    }
}

impl Seat<'_> {
    /// The organization.
    pub(crate) fn org(&self) -> &OrgId {
        &self.org
    }

    /// A worker of the organization, confined and ready.
    ///
    /// # Errors
    ///
    /// `unavailable`, where none can be started.
    pub(crate) async fn worker(&self) -> Result<Process, TransformError> {
        if let Some(process) = self.pool.reuse(&self.org) {
            return Ok(process);
        }
        self.new_worker().await
    }

    /// A worker that was never used.
    ///
    /// # Errors
    ///
    /// As [`worker`](Self::worker).
    pub(crate) async fn new_worker(&self) -> Result<Process, TransformError> {
        Process::start(&self.pool.program, &self.pool.limits).await.map_err(|error| {
            tracing::error!(
                icp.org = %self.org,
                icp.sandbox.program = %self.pool.program.display(),
                "a sandbox worker cannot be started: {error}"
            );
            let message = "the sandbox worker cannot be started; see the log of the host";
            TransformError::new("unavailable", message).retryable()
        })
    }

    /// Waits for what is not the worker's doing, and lets another call run meanwhile.
    pub(crate) async fn aside<T>(&mut self, awaited: impl Future<Output = T>) -> T {
        let Ok(_aside) = Arc::clone(&self.pool.aside).try_acquire_owned() else {
            return awaited.await;
        };
        self.shared = None;
        let given = awaited.await;
        self.shared = Arc::clone(&self.pool.running).acquire_owned().await.ok();
        given
    }

    /// Keeps a worker for the next call of the same organization.
    pub(crate) fn keep(&self, process: Process) {
        if !process.is_spent(Instant::now()) {
            self.pool.idle.keep(self.org.clone(), process);
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        if let Some(org) = state.orgs.get_mut(&self.org) {
            org.present -= 1;
            if org.present == 0 {
                state.orgs.remove(&self.org);
            }
        }
    }
}

/// Counts a call that waits for room.
struct Waiting<'a> {
    pool: &'a Pool,
    org: OrgId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(org) = self.pool.state().orgs.get_mut(&self.org) {
            org.waiting -= 1;
        }
    }
}

fn overloaded(message: &str) -> TransformError {
    TransformError::new("overloaded", message).retryable()
}
