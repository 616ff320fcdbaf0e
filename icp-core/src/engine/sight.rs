use std::collections::HashMap;

use super::core::Core;
use crate::delivery::{LaneBacklog, LaneId, LaneStatus};
use crate::error::Result;
use crate::id::OrgId;

pub(super) async fn statuses(core: &Core, org: &OrgId) -> Result<Vec<LaneStatus>> {
    let lanes = core.store.lanes(org).await?;
    let backlogs = core.store.backlogs(org).await?;
    let backlogs: HashMap<LaneId, LaneBacklog> =
        backlogs.into_iter().map(|backlog| (backlog.lane, backlog)).collect();
    let meters: HashMap<_, _> = core.store.meters(org).await?.into_iter().collect();
    let now = core.clock.now();
    let status = |lane: crate::delivery::Lane| {
        let meter = meters.get(&lane.integration).copied().unwrap_or_default();
        let backlog = backlogs.get(&lane.id).copied();
        LaneStatus::of(lane, backlog, meter, now)
    };
    Ok(lanes.into_iter().map(status).collect())
}
