use icp_core::delivery::EndReason;
use icp_core::id::ReplayId;
use icp_core::replay::{ReplayJob, ReplayProgress, ReplayRequest, ReplayState};
use icp_core::resource::Actor;
use icp_core::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

/// A replay as the API shows it.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct ReplayView {
    /// The id.
    id: ReplayId,
    /// What was asked for.
    request: ReplayRequest,
    /// Who asked.
    actor: Actor,
    /// Where it stands.
    state: ReplayState,
    /// How far it got.
    progress: ReplayProgress,
    /// How much of the range was looked at, 0 to 100; `null` where its size is not known.
    percent: Option<u8>,
    /// When it will have made its last delivery, judging by those made so far; `null` where that
    /// cannot be told.
    eta: Option<Timestamp>,
    /// What last went wrong; it may have been got over.
    error: Option<EndReason>,
    /// When it was asked for.
    created_at: Timestamp,
    /// When work on it began.
    started_at: Option<Timestamp>,
    /// When it ended.
    ended_at: Option<Timestamp>,
    /// When it last changed.
    updated_at: Timestamp,
}

impl ReplayView {
    pub(super) fn new(job: ReplayJob, now: Timestamp) -> Self {
        let (percent, eta) = (job.percent(), job.eta(now));
        Self {
            id: job.id,
            request: job.request,
            actor: job.actor,
            state: job.state,
            progress: job.progress,
            percent,
            eta,
            error: job.error,
            created_at: job.created_at,
            started_at: job.started_at,
            ended_at: job.ended_at,
            updated_at: job.updated_at,
        }
    }
}
