//! What an engine does for replays: judging requests, counting ahead, making batches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::job::{ReplayJob, ReplayProgress};
use super::request::{ReplayMode, ReplayRequest};
use super::select::{self, Choice};
use super::state::ReplayState;
use super::store::{EventRange, NewReplay, ReplayNext, ReplayScan, ReplayStep, ScannedEvent};
use crate::access::OrganizationSpec;
use crate::delivery::EndReason;
use crate::engine::core::{Core, OrgView};
use crate::error::{Code, Error, Fault, Result};
use crate::event::publish;
use crate::id::{DeliveryId, OrgId, ReplayId, ResourceId};
use crate::integration::CompiledIntegration;
use crate::resource::{Actor, Note, Spec};
use crate::time::Timestamp;

/// How many events a batch looks at, and how many deliveries it makes, at the most; one event with
/// more deliveries than that is not split.
const BATCH: usize = 100;
/// After how many bytes of bodies a batch ends.
const BATCH_BYTES: usize = 8 << 20;
/// How many events a preview looks at.
const PREVIEW: u64 = 10_000;
/// Up to how many events a job's total is counted.
const MOST: u64 = 1_000_000;
/// How long a job waits after something went wrong.
const SETBACK: Duration = Duration::from_secs(5);

/// What a replay would do, were it started now.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ReplayPreview {
    /// How many events of the range were looked at.
    pub events: u64,
    /// How many deliveries would be made.
    pub deliveries: u64,
    /// How many would not, because one is under way or the integration cannot be read.
    pub skipped: u64,
    /// Whether the whole range was looked at; where not, the first 10,000 events were, and the
    /// counts are of those.
    pub exact: bool,
    /// The counts of each integration, ordered by id.
    pub integrations: Vec<ReplayShare>,
}

/// What a replay would do for one integration.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ReplayShare {
    /// The integration.
    pub integration: ResourceId,
    /// How many deliveries would be made.
    pub deliveries: u64,
    /// How many would not.
    pub skipped: u64,
}

/// What a replay makes of one event.
#[derive(Debug, Default)]
struct Plan {
    send: Vec<(Arc<CompiledIntegration>, Option<DeliveryId>)>,
    skipped: Vec<ResourceId>,
}

fn plan(request: &ReplayRequest, view: &OrgView, scanned: &ScannedEvent) -> Plan {
    let mut plan = Plan::default();
    if !request.takes_type(&scanned.event.event_type) {
        return plan;
    }
    let stands = select::stands(&scanned.deliveries);
    let considered: BTreeSet<ResourceId> = match request.mode {
        ReplayMode::Original => stands.keys().map(|id| (*id).clone()).collect(),
        ReplayMode::Current | ReplayMode::Missing => {
            let matching = view.matching.matches(&scanned.event);
            matching.iter().map(|integration| integration.id.clone()).collect()
        }
    };
    for id in considered.into_iter().filter(|id| request.takes_integration(id)) {
        match select::choose(request, stands.get(&id)) {
            Choice::Leave => {}
            Choice::UnderWay => plan.skipped.push(id),
            Choice::Send { replay_of } => match view.matching.integration(&id) {
                Some(Ok(integration)) => plan.send.push((Arc::clone(integration), replay_of)),
                Some(Err(_)) | None => plan.skipped.push(id),
            },
        }
    }
    plan
}

/// Judges a request, and fixes the end of its range.
async fn admit(
    core: &Core,
    org: &OrgId,
    mut request: ReplayRequest,
    now: Timestamp,
) -> Result<(Arc<OrgView>, ReplayRequest)> {
    let view = core.org(org).await?;
    let violations = request.violations(now, |id| view.matching.bound(id).is_some());
    if !violations.is_empty() {
        return Err(Error::violations(Code::ReplayInvalid, violations));
    }
    request.until = Some(request.end(now));
    Ok((view, request))
}

pub(crate) async fn preview(
    core: &Core,
    org: &OrgId,
    request: ReplayRequest,
) -> Result<ReplayPreview> {
    let now = core.clock.now();
    let (view, request) = admit(core, org, request, now).await?;
    let range = EventRange { org: org.clone(), since: request.since, until: request.end(now) };
    let mut scan = ReplayScan { range, after: None, limit: BATCH, bytes: BATCH_BYTES };
    let (mut events, mut more) = (0, true);
    let mut shares: BTreeMap<ResourceId, (u64, u64)> = BTreeMap::new();
    while more && events < PREVIEW {
        let scanned = core.store.scan_replay(&scan).await?;
        for event in &scanned.events {
            let plan = plan(&request, &view, event);
            for (integration, _) in plan.send {
                shares.entry(integration.id.clone()).or_default().0 += 1;
            }
            for id in plan.skipped {
                shares.entry(id).or_default().1 += 1;
            }
        }
        events += scanned.events.len() as u64;
        scan.after = scanned.events.last().map(|scanned| scanned.event.id).or(scan.after);
        more = scanned.more;
    }
    let integrations = shares.into_iter().map(|(integration, (deliveries, skipped))| ReplayShare {
        integration,
        deliveries,
        skipped,
    });
    let integrations: Vec<ReplayShare> = integrations.collect();
    Ok(ReplayPreview {
        events,
        deliveries: integrations.iter().map(|share| share.deliveries).sum(),
        skipped: integrations.iter().map(|share| share.skipped).sum(),
        exact: !more,
        integrations,
    })
}

pub(crate) async fn start(
    core: &Core,
    org: &OrgId,
    request: ReplayRequest,
    actor: Actor,
) -> Result<ReplayJob> {
    let now = core.clock.now();
    let (view, request) = admit(core, org, request, now).await?;
    if !view.organization.active {
        let message = "the organization is suspended; activate it before replaying";
        return Err(Error::new(Code::OrganizationSuspended, message));
    }
    let mut job = ReplayJob {
        id: ReplayId::generate(core.ids.as_ref()),
        org: org.clone(),
        request,
        actor,
        state: ReplayState::Pending,
        progress: ReplayProgress::default(),
        cursor: None,
        fence: 0,
        owner: None,
        lease_until: None,
        next_at: now,
        error: None,
        created_at: now,
        started_at: None,
        ended_at: None,
        updated_at: now,
    };
    let total = core.store.count_events(&job.range(), MOST + 1).await?;
    job.progress.total = Some(total).filter(|total| *total <= MOST);
    note(core, &job, "start_replay", &job.actor).await?;
    let job = core.store.create_replay(job).await?;
    core.replays.notify_one();
    Ok(job)
}

/// Writes an audit row of what somebody does to a job.
pub(crate) async fn note(core: &Core, job: &ReplayJob, action: &str, actor: &Actor) -> Result<()> {
    let note = Note {
        org: job.org.clone(),
        actor: actor.clone(),
        action: action.to_owned(),
        kind: OrganizationSpec::KIND.to_owned(),
        id: ResourceId::new(job.org.as_str())?,
        note: Some(job.id.to_string()),
        now: core.clock.now(),
    };
    core.store.note(note).await.map(drop)
}

/// Makes the next batch of a job this node has claimed.
pub(crate) async fn step(core: &Core, job: &ReplayJob) -> Result<()> {
    let batch = match batch(core, job).await {
        Ok(batch) => batch,
        Err(error) => setback(core, job, &error),
    };
    let due = batch.items.len();
    let after = match core.store.step_replay(&batch).await {
        // Were the job left as it is, it would be taken first again, and the others would wait.
        Err(error) if error.code() != Code::LeaseLost => {
            core.store.step_replay(&setback(core, job, &error)).await?
        }
        other => other?,
    };
    if due > 0 {
        core.announce(due);
    }
    if after.state.is_final() {
        tracing::info!(
            icp.replay.id = %job.id,
            icp.replay.state = after.state.as_str(),
            icp.replay.created = after.progress.created,
            "a replay ended"
        );
    }
    Ok(())
}

async fn batch(core: &Core, job: &ReplayJob) -> Result<ReplayStep> {
    let view = core.org(&job.org).await?;
    if !view.organization.active {
        let message = "the organization is suspended; the replay waits until it is active";
        return Err(Error::new(Code::OrganizationSuspended, message));
    }
    let scan =
        ReplayScan { range: job.range(), after: job.cursor, limit: BATCH, bytes: BATCH_BYTES };
    let scanned = core.store.scan_replay(&scan).await?;
    let now = core.clock.now();
    let mut step = empty(job, now);
    let room = BATCH.min(usize::try_from(job.request.rate).unwrap_or(BATCH));
    let count = scanned.events.len() as u64;
    for event in scanned.events {
        let plan = plan(&job.request, &view, &event);
        if !step.items.is_empty() && step.items.len() + plan.send.len() > room {
            break;
        }
        let event = event.event;
        for (integration, replay_of) in plan.send {
            // Spread over time, so that the pace holds within a batch too.
            let due_at = now + pace(step.items.len(), job.request.rate);
            let due_at = due_at.max(event.due_at.unwrap_or(due_at));
            let new = publish::delivery(core, &view, &event, &integration, due_at);
            step.items.push(NewReplay { event: event.id, replay_of, new });
        }
        step.skipped += plan.skipped.len() as u64;
        step.examined += 1;
        step.to = Some(event.id);
    }
    step.next = if !scanned.more && step.examined == count {
        ReplayNext::Done
    } else {
        let next_at = now + pace(step.items.len(), job.request.rate);
        ReplayNext::At { next_at, lease_until: next_at + lease(core) }
    };
    Ok(step)
}

/// A step that makes nothing.
fn empty(job: &ReplayJob, now: Timestamp) -> ReplayStep {
    ReplayStep {
        job: job.id,
        fence: job.fence,
        from: job.cursor,
        to: job.cursor,
        examined: 0,
        skipped: 0,
        items: Vec::new(),
        error: None,
        next: ReplayNext::Done,
        now,
    }
}

/// Notes what went wrong: the job tries again, or ends where that cannot help.
fn setback(core: &Core, job: &ReplayJob, error: &Error) -> ReplayStep {
    let now = core.clock.now();
    tracing::warn!(
        icp.replay.id = %job.id,
        icp.error = error.code().as_str(),
        "a batch of a replay failed: {error}"
    );
    let waits = error.fault() == Fault::Transient || error.code() == Code::OrganizationSuspended;
    let next_at = now + SETBACK;
    let next = if waits {
        ReplayNext::At { next_at, lease_until: next_at + lease(core) }
    } else {
        ReplayNext::Failed
    };
    let error = Some(EndReason::new(error.code().as_str(), error.message()));
    ReplayStep { error, next, ..empty(job, now) }
}

/// How long a node keeps a job without a sign of life: as long as a node itself, so that a job does
/// not wait longer than the deliveries of a node that is gone.
pub(crate) fn lease(core: &Core) -> Duration {
    core.config.beat * core.config.missed_beats
}

/// How long `count` deliveries take at `rate` in a second.
fn pace(count: usize, rate: u32) -> Duration {
    let millis = (count as u64).saturating_mul(1_000) / u64::from(rate.max(1));
    Duration::from_millis(millis)
}
