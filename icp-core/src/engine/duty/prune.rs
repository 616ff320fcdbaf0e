//! Removes what is older than it is to be kept. Every `prune`, from organization to organization,
//! in small batches with pauses; however much there is, it goes on until it is through.
//!
//! Several nodes may do so at once: what one has removed, the others do not find.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::pause;
use crate::engine::core::Core;
use crate::error::{Code, Result};
use crate::id::OrgId;
use crate::retention::{Prune, Retention, What};
use crate::telemetry::Removed;

/// How many records one transaction looks at.
const BATCH: usize = 100;

/// What others may write in between.
const PAUSE: Duration = Duration::from_millis(20);

/// The same, where nothing was removed.
const BREATH: Duration = Duration::from_millis(2);

pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let mut walk = Walk::default();
    while pause(&stop, core.config.prune).await {
        loop {
            match step(&core, &mut walk).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    core.metrics.store_errors.inc();
                    tracing::warn!(icp.error = error.code().as_str(), "pruning failed: {error}");
                    break;
                }
            }
            if !pause(&stop, if walk.removed { PAUSE } else { BREATH }).await {
                return;
            }
        }
    }
}

/// Where the walk is.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    org: Option<OrgId>,
    kind: usize,
    after: Option<String>,
    /// Whether the batch before removed something.
    removed: bool,
}

/// Prunes one batch; answers whether the walk goes on, or is through with every organization.
pub(crate) async fn step(core: &Core, walk: &mut Walk) -> Result<bool> {
    let now = core.clock.now();
    if walk.org.is_none() || walk.kind == KINDS {
        walk.org = core.store.next_organization(walk.org.as_ref()).await?;
        (walk.kind, walk.after) = (0, None);
    }
    let Some(org) = walk.org.clone() else { return Ok(false) };
    let kept = kept(core, &org).await?;
    let what = match walk.kind {
        0 => What::Keys,
        1 => What::Records(kept.cutoffs(now)),
        2 => What::Audit { before: now - kept.audit },
        3 => What::History { before: now - kept.history },
        4 => What::Replays { before: now - kept.replays() },
        _ => What::Lanes,
    };
    let prune = Prune { org, what, after: walk.after.take(), limit: BATCH, now };
    let pruned = core.store.prune(&prune).await?;
    walk.removed = pruned.by_kind().iter().any(|(_, count)| *count > 0);
    for (kind, count) in pruned.by_kind() {
        core.metrics.pruned.get_or_create(&Removed { kind }).inc_by(count);
    }
    walk.after = pruned.next;
    if walk.after.is_none() {
        walk.kind += 1;
    }
    Ok(true)
}

const KINDS: usize = 6;

/// How long the organization's records are kept; by the engine's setting where it was deleted.
async fn kept(core: &Core, org: &OrgId) -> Result<Retention> {
    match core.org(org).await {
        Ok(view) => Ok(view.organization.retention.over(&core.config.retention)),
        Err(error) if error.code() == Code::OrganizationUnknown => Ok(core.config.retention),
        Err(error) => Err(error),
    }
}
