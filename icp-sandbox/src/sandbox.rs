//! The transformer: plans with programs go to a worker in one hop, and what comes back is judged.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use icp_core::error::{Code, Error};
use icp_core::id::OrgId;
use icp_core::transform::{
    Limits, Plan, Program, Report, TransformContext, TransformError, Transformer,
};

use crate::builder::Builder;
use crate::call::{Ask, Scene, done, nonsense};
use crate::exchange::{Exchange, Told};
use crate::parts;
use crate::payload;
use crate::pool::{Death, Pool, Process, Seat};
use crate::service::Service;

/// Runs the programs of organizations in worker processes. A clone shares the workers.
///
/// Plans without programs run in place. Each organization has workers of its own, two calls at
/// once by default; a worker that takes too long, breaks or answers nonsense is killed, which
/// fails the one call it was for. A program that takes down five workers within a minute is
/// suspended for five minutes. Workers end with the sandbox.
#[derive(Clone, Debug)]
pub struct Sandbox {
    pool: Arc<Pool>,
}

/// Why there is no answer.
enum Silence {
    Late,
    Dead(Death),
}

impl Sandbox {
    /// Begins a sandbox.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn new(pool: Pool) -> Self {
        Self { pool: Arc::new(pool) }
    }

    /// What programs may use.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.pool.limits
    }

    /// The idle workers by organization and process id, the longest idle first.
    #[must_use]
    pub fn idle_workers(&self) -> Vec<(OrgId, Option<u32>)> {
        self.pool.idle()
    }

    /// Starts a worker and ends it again, so that a host learns at its start whether it can.
    ///
    /// # Errors
    ///
    /// [`Code::ConfigInvalid`] where no worker can be started.
    pub async fn probe(&self) -> icp_core::Result<()> {
        let refused = |error: TransformError| Error::new(Code::ConfigInvalid, error.to_string());
        let org = OrgId::new("icp")?;
        let seat = self.pool.seat(&org).await.map_err(refused)?;
        let worker = seat.new_worker().await.map_err(refused)?;
        worker.end().await;
        Ok(())
    }

    async fn ask(
        &self,
        plan: &Plan,
        org: &OrgId,
        body: &[u8],
        cx: Option<&TransformContext<'_>>,
        ask: impl Fn(u64, usize) -> Ask,
    ) -> Result<Told, TransformError> {
        for program in plan.programs() {
            if let Some(left) = self.pool.suspended(org, program.digest()) {
                return Err(suspended(program, left));
            }
        }
        let mut seat = self.pool.seat(org).await?;
        let mut worker = seat.worker().await?;
        match self.converse(&mut seat, worker, plan, body, cx, &ask).await? {
            Told::Stale => {
                worker = seat.new_worker().await?;
                self.converse(&mut seat, worker, plan, body, cx, &ask).await
            }
            told => Ok(told),
        }
    }

    /// One question and its answer. The worker is kept only where all is well.
    async fn converse(
        &self,
        seat: &mut Seat<'_>,
        mut worker: Process,
        plan: &Plan,
        body: &[u8],
        cx: Option<&TransformContext<'_>>,
        ask: &impl Fn(u64, usize) -> Ask,
    ) -> Result<Told, TransformError> {
        let limits = &self.pool.limits;
        let too_long = |_| {
            let message = "the plan is too long to be handed over; shorten its mappings";
            TransformError::new("input_too_large", message)
        };
        let (number, bytes) = worker.encode(plan, body, ask).map_err(too_long)?;
        let service = cx.map(|cx| Service::new(plan, cx, limits));
        let mut exchange = Exchange { limits, number, at: 0 };
        match exchange.answer(&mut worker, seat, service, &bytes).await {
            Some(Ok(told @ (Told::Checked(_) | Told::Done { .. }))) => {
                seat.keep(worker);
                Ok(told)
            }
            Some(Ok(Told::Failed { failure })) => {
                // A heap that was full is not trusted again.
                match failure.code.as_str() {
                    "memory" => drop(worker.end().await),
                    _ => seat.keep(worker),
                }
                Ok(Told::Failed { failure })
            }
            Some(Ok(Told::Stale)) => {
                worker.end().await;
                Ok(Told::Stale)
            }
            Some(Err(_)) => {
                let death = worker.end().await;
                Err(self.taken_down(plan, exchange.at, seat, &Silence::Dead(death)))
            }
            None => {
                worker.end().await;
                Err(self.taken_down(plan, exchange.at, seat, &Silence::Late))
            }
        }
    }

    /// The failure of the program that was under way.
    fn taken_down(
        &self,
        plan: &Plan,
        at: usize,
        seat: &Seat<'_>,
        silence: &Silence,
    ) -> TransformError {
        let limits = &self.pool.limits;
        let hard = limits.deadline_ms + limits.grace_ms;
        let (code, message) = match silence {
            Silence::Late => (
                "timeout_hard",
                format!("the program was killed after {hard} ms of processor time; do less in it"),
            ),
            Silence::Dead(Death::Memory) => {
                ("memory", "the program used up the memory of its worker".to_owned())
            }
            Silence::Dead(Death::Stack) => {
                ("stack", "the program used up the stack of its worker".to_owned())
            }
            Silence::Dead(Death::Crash) => {
                ("crashed", "the program took its worker down; write it in another way".to_owned())
            }
        };
        tracing::warn!(
            icp.org = %seat.org(),
            icp.sandbox.program = at,
            "a sandbox worker was taken down: {code}"
        );
        let error = TransformError::new(code, message);
        match plan.programs().nth(at) {
            None => error,
            Some(program) => {
                self.pool.died(seat.org(), program.digest());
                error.at_pointer(program.pointer())
            }
        }
    }
}

#[async_trait]
impl Transformer for Sandbox {
    async fn check(&self, plan: &Plan, org: &OrgId) -> Result<(), Vec<TransformError>> {
        parts::admit(plan)?;
        if plan.programs().next().is_none() {
            return Ok(());
        }
        let told = self.ask(plan, org, &[], None, |number, slot| Ask::Check { number, slot }).await;
        match told.map_err(|error| vec![error])? {
            Told::Checked(failures) if failures.is_empty() => Ok(()),
            Told::Checked(failures) => Err(failures
                .into_iter()
                .take(icp_core::transform::MAX_STEPS)
                .map(|failure| failure.received(&self.pool.limits))
                .collect()),
            _ => Err(vec![nonsense()]),
        }
    }

    async fn run(
        &self,
        plan: &Plan,
        input: Bytes,
        cx: &TransformContext<'_>,
    ) -> Result<Report, TransformError> {
        parts::run(self, plan, input, cx).await
    }
}

#[async_trait]
impl parts::Programs for Sandbox {
    async fn run_programs(
        &self,
        plan: &Plan,
        input: Bytes,
        cx: &TransformContext<'_>,
    ) -> Result<Report, TransformError> {
        let limits = &self.pool.limits;
        payload::admit_size(&input, limits)?;
        let scene = Scene::of(cx);
        let ask = |number, slot| Ask::Run { number, slot, scene: scene.clone() };
        match self.ask(plan, cx.org, &input, Some(cx), ask).await? {
            Told::Done { dropped, notes, body } => done(plan, dropped, notes, body, limits),
            Told::Failed { failure } => Err(failure.received(limits)),
            Told::Checked(_) | Told::Stale => Err(nonsense()),
        }
    }
}

fn suspended(program: &Program, left: Duration) -> TransformError {
    let seconds = left.as_secs().max(1);
    let message = format!(
        "the program took down several workers and is suspended for another {seconds} s; change it"
    );
    TransformError::new("suspended", message).retryable().at_pointer(program.pointer())
}
