use std::collections::HashMap;

use super::core::Core;
use crate::delivery::{Lane, LaneBacklog, LaneId, LaneStatus};
use crate::error::Result;
use crate::id::OrgId;
use crate::store::{Page, PageQuery};
use crate::telemetry::lane;

/// How many lanes are read at once where all are asked for.
const PAGE: usize = 1_000;

pub(super) async fn statuses(
    core: &Core,
    org: &OrgId,
    page: PageQuery<LaneId>,
) -> Result<Page<LaneStatus>> {
    let lanes = core.store.lanes(org, page).await?;
    let ids: Vec<LaneId> = lanes.items.iter().map(|lane| lane.id).collect();
    let backlogs = core.store.backlogs(org, &ids).await?;
    let backlogs: HashMap<LaneId, LaneBacklog> =
        backlogs.into_iter().map(|backlog| (backlog.lane, backlog)).collect();
    let meters: HashMap<_, _> = core.store.meters(org).await?.into_iter().collect();
    let now = core.clock.now();
    let status = |lane: Lane| {
        let meter = meters.get(&lane.integration).copied().unwrap_or_default();
        let backlog = backlogs.get(&lane.id).copied();
        LaneStatus::of(lane, backlog, meter, now)
    };
    Ok(Page { items: lanes.items.into_iter().map(status).collect(), more: lanes.more })
}

/// The lanes that show in metrics, page after page.
pub(super) async fn metrics(core: &Core, org: &OrgId) -> Result<String> {
    let mut shown = Vec::new();
    let mut after = None;
    loop {
        let page = statuses(core, org, PageQuery { after, limit: PAGE }).await?;
        after = page.items.last().map(|status| status.lane.id);
        shown.extend(page.items.into_iter().filter(lane::is_shown));
        if !page.more || after.is_none() {
            return Ok(lane::render(&shown));
        }
    }
}
