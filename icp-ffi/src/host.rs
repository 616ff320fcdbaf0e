//! One engine as a host holds it: what was asked of it, and what it goes through.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use futures_util::FutureExt;
use icp::Engine;
use icp::access::{PermissionSet, Principal};
use icp::engine::Running;
use tokio::runtime::Handle;

use crate::admission::{Admission, Permit};
use crate::handler::{HostConnector, HostSigner, HostSource, HostTransformer};
use crate::location::Location;
use crate::op::Op;
use crate::queue::Queue;
use crate::request::Requests;
use crate::settings::{Settings, closed};
use crate::status::{Failure, Status};
use crate::store::{self, Opened};
use crate::tokens::Tokens;
use crate::work::{self, Call};

/// How an operation ended.
pub(crate) type Ended = Result<Vec<u8>, Failure>;

/// What the operations of one engine share.
#[derive(Debug)]
pub(crate) struct Host {
    settings: Settings,
    admission: Arc<Admission>,
    stage: Mutex<Stage>,
    /// What the host answers requests by.
    pub(crate) requests: Arc<Requests>,
    /// Operations that wait, and can be called off.
    pub(crate) waits: Tokens,
    /// What is followed.
    pub(crate) subscriptions: Tokens,
}

#[derive(Debug)]
enum Stage {
    Fresh,
    Starting,
    Open(Arc<Desk>, Box<Started>),
    Closed,
}

/// An engine that was started, and the API that operations without a path of their own go by.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) engine: Engine,
    pub(crate) router: Router,
    /// The host itself, which may do everything.
    pub(crate) principal: Principal,
}

struct Started {
    running: Running,
    opened: Opened,
}

impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Started")
    }
}

impl Host {
    pub(crate) fn new(settings: Settings) -> Self {
        let admission = Admission::new(settings.max_in_flight);
        Self {
            settings,
            admission,
            stage: Mutex::new(Stage::Fresh),
            requests: Arc::default(),
            waits: Tokens::default(),
            subscriptions: Tokens::default(),
        }
    }

    /// Starts an operation whose end comes out of `queue`, exactly once.
    pub(crate) fn submit(
        self: &Arc<Self>,
        runtime: &Handle,
        queue: &Arc<Queue>,
        op: u32,
        tag: u64,
        body: &[u8],
    ) -> Result<(), Failure> {
        let op = op_of(op)?;
        let permit = self.admission.take()?;
        let waiting = match op {
            Op::DeliveryWait => Some(self.waits.add(queue.id(), tag)?),
            _ => None,
        };
        let completion = Completion { queue: Arc::clone(queue), tag, permit: Some(permit) };
        let call = Call { tag, queue: Some(Arc::clone(queue)), body: body.to_vec(), waiting };
        let host = Arc::clone(self);
        runtime.spawn(async move {
            let ended = caught(&host, op, call).await;
            completion.done(ended);
        });
        Ok(())
    }

    /// Does an operation while the calling thread waits, for as long as `timeout` says.
    pub(crate) fn call(
        self: &Arc<Self>,
        runtime: &Handle,
        op: u32,
        body: &[u8],
        timeout: Option<Duration>,
    ) -> Ended {
        if Handle::try_current().is_ok() {
            let message = "the call would wait for the thread it is made on; submit it";
            return Err(Failure::new(Status::WrongThread, message));
        }
        let op = op_of(op)?;
        let permit = self.admission.take()?;
        let call = Call { tag: 0, queue: None, body: body.to_vec(), waiting: None };
        let (sender, receiver) = sync_channel(1);
        let host = Arc::clone(self);
        runtime.spawn(async move {
            let ended = caught(&host, op, call).await;
            drop(permit);
            // Whoever asked may have waited long enough.
            let _ = sender.send(ended);
        });
        let ended = match timeout {
            None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(timeout) => receiver.recv_timeout(timeout),
        };
        ended.unwrap_or_else(|error| {
            Err(match error {
                RecvTimeoutError::Timeout => {
                    Failure::new(Status::Timeout, "the time is over; it may still take effect")
                }
                RecvTimeoutError::Disconnected => cancelled(),
            })
        })
    }

    /// Where the store is.
    pub(crate) fn store(&self) -> &Location {
        &self.settings.store
    }

    /// The engine, while it is open.
    pub(crate) fn desk(&self) -> Result<Arc<Desk>, Failure> {
        match &*self.stage() {
            Stage::Open(desk, _) => Ok(Arc::clone(desk)),
            Stage::Fresh | Stage::Starting => Err(closed("the engine is not started; START it")),
            Stage::Closed => Err(closed("the engine is shut down; make another one")),
        }
    }

    /// Opens the store, and starts the engine on it.
    pub(crate) async fn start(&self) -> Result<(), Failure> {
        {
            let mut stage = self.stage();
            if !matches!(*stage, Stage::Fresh) {
                let message = "the engine was started before; make another one";
                return Err(Failure::new(Status::Conflict, message));
            }
            *stage = Stage::Starting;
        }
        let begun = self.begin().await;
        let mut stage = self.stage();
        match begun {
            Ok((desk, started)) => {
                *stage = Stage::Open(Arc::new(desk), Box::new(started));
                Ok(())
            }
            Err(failure) => {
                *stage = Stage::Fresh;
                Err(failure)
            }
        }
    }

    async fn begin(&self) -> Result<(Desk, Started), Failure> {
        let opened = store::open(&self.settings).await?;
        let keys = store::keys(&self.settings, &*opened.store).await?;
        let mut builder = Engine::builder_on(Arc::clone(&opened.store))
            .config(self.settings.engine())
            .connector(HostConnector::new(Arc::clone(&self.requests)))
            .transformer(HostTransformer::new(Arc::clone(&self.requests)))
            .other_request_signers(HostSigner::new(Arc::clone(&self.requests)))
            .other_event_sources(HostSource::new(Arc::clone(&self.requests)));
        if let Some(keys) = keys {
            builder = builder.keys(keys);
        }
        if self.settings.allow_loopback {
            builder = builder.allow_loopback();
        }
        let engine = builder.build()?;
        let running = engine.start().await.map_err(|error| {
            let message = self.settings.store.masked(error.message());
            Failure::from(icp::Error::new(error.code(), message))
        })?;
        let router = icp::axum::router(engine.clone());
        let principal = Principal::new("host").granted_everywhere(PermissionSet::all());
        Ok((Desk { engine, router, principal }, Started { running, opened }))
    }

    /// Stops the engine: attempts under way have until `drain`, then the store is closed.
    pub(crate) async fn shutdown(&self, drain: Duration) -> Ended {
        let started = {
            let mut stage = self.stage();
            match std::mem::replace(&mut *stage, Stage::Closed) {
                Stage::Open(_, started) => started,
                Stage::Starting => {
                    *stage = Stage::Starting;
                    return Err(Failure::new(Status::Conflict, "the engine is being started"));
                }
                Stage::Fresh | Stage::Closed => return Err(closed("the engine does not run")),
            }
        };
        self.waits.cancel_all();
        self.subscriptions.cancel_all();
        let Started { running, opened } = *started;
        let drained = running.shutdown(drain).await;
        opened.close().await?;
        work::json(&drained)
    }

    fn stage(&self) -> std::sync::MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of an operation, which is told even where its task is dropped.
struct Completion {
    queue: Arc<Queue>,
    tag: u64,
    /// Taken when the end is told.
    permit: Option<Permit>,
}

impl Completion {
    fn done(mut self, ended: Ended) {
        if let Some(permit) = self.permit.take() {
            self.queue.complete(self.tag, ended, permit);
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.queue.complete(self.tag, Err(cancelled()), permit);
        }
    }
}

fn cancelled() -> Failure {
    Failure::new(Status::Cancelled, "the engine was stopped before this was done")
}

fn op_of(number: u32) -> Result<Op, Failure> {
    Op::of(number).ok_or_else(|| {
        let message = format!("there is no operation {number} in this version");
        Failure::new(Status::Unsupported, message)
    })
}

/// Does the operation; a panic of it is a failure of it and of nothing else.
async fn caught(host: &Arc<Host>, op: Op, call: Call) -> Ended {
    let done = AssertUnwindSafe(work::run(host, op, call)).catch_unwind().await;
    done.unwrap_or_else(|_| {
        let message = format!("{} panicked, which is a defect of this library", op.name());
        Err(Failure::new(Status::Panic, message))
    })
}
