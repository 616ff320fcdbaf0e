//! Looks into endpoints that fail or no longer do: notes it in the integration's status, tells
//! it, and switches off what has failed for too long. Whenever an attempt gives reason.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::engine::core::Core;
use crate::error::{Code, Result};
use crate::id::{OrgId, ResourceId};
use crate::integration::IntegrationSpec;
use crate::notice::{self, FAILING, Failing, Observed, Step, next_step};
use crate::resource::{Resource, Spec};

pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = core.health.woken() => {}
        }
        once(&core).await;
    }
}

/// Looks into all there is. What fails is given up: the next attempt gives reason again.
pub(crate) async fn once(core: &Core) {
    for ((org, id), observed) in core.health.take() {
        match look(core, &org, &id, observed).await {
            Err(error) if error.code() != Code::RevisionConflict => {
                tracing::warn!(
                    icp.org = %org,
                    icp.integration.id = %id,
                    icp.error = error.code().as_str(),
                    "the health of an endpoint could not be noted: {error}"
                );
            }
            _ => {}
        }
    }
}

async fn look(core: &Core, org: &OrgId, id: &ResourceId, observed: Observed) -> Result<()> {
    let Some(record) = core.store.resource(org, IntegrationSpec::KIND, id).await? else {
        return Ok(());
    };
    let resource = Resource::<IntegrationSpec>::from_record(&record)?;
    if !resource.spec.enabled {
        return Ok(());
    }
    let known = Failing::of(&resource.status);
    let streak = match (observed, known) {
        (Observed::Success, None) => return Ok(()),
        (Observed::Success, Some(known)) => {
            notice::recovered(core, org, id, known).await?;
            return core.resources.note(record, FAILING, None, "recover").await;
        }
        (Observed::Failure(streak), _) => streak,
    };
    if known.is_some() {
        core.health.told(org, id);
    }
    let limit = resource.spec.failing.disable_after_seconds.map(Duration::from_secs);
    match next_step(known, streak, limit, core.clock.now()) {
        None => Ok(()),
        Some(Step::Begin(now) | Step::Alert(now)) => {
            notice::failing(core, org, id, now).await?;
            let note = serde_json::json!(now);
            core.resources.note(record, FAILING, Some(note), "fail").await?;
            core.health.told(org, id);
            Ok(())
        }
        Some(Step::SwitchOff(now)) => {
            notice::failing(core, org, id, now).await?;
            notice::disabled(core, org, id, record.revision.0, Some(now), FAILING).await?;
            core.resources.switch_off(org, id, FAILING).await
        }
    }
}
