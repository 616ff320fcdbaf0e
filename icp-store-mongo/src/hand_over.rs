//! Deliveries that go to their publisher at once.

use std::collections::{BTreeMap, HashSet};

use futures_util::try_join;
use icp_core::delivery::{Lane, LaneMode, Lease};
use icp_core::event::{Direct, Event, NewDelivery};
use icp_core::id::DeliveryId;
use icp_core::time::Timestamp;
use mongodb::bson::doc;

use super::batch::{Lasts, Miss};
use super::error::Failure;
use super::lane::{self, Seen};
use super::meter::Meters;
use super::place;
use super::row::{bin, count, ms};
use super::store::{LANE, MongoStore};

/// Reserves room in lanes where nothing waits that a new delivery would overtake; answers which
/// deliveries it is for.
pub(crate) async fn hand_over(
    store: &MongoStore,
    all: &[(&Event, &NewDelivery)],
    direct: Direct,
    now: Timestamp,
) -> Result<HashSet<DeliveryId>, Failure> {
    let orgs = all.iter().map(|(event, _)| event.org.as_str()).collect();
    let (lanes, floor, busy) = try_join!(
        lane::look_up(store, all.iter().map(|(_, new)| new.lane.id).collect::<HashSet<_>>()),
        lane::floor(store),
        lane::busy(store, orgs)
    )?;
    let mut meters = Meters::load(store, lanes.values().map(|seen| &seen.lane)).await?;
    let mut wanted: BTreeMap<[u8; 16], (&Seen, Vec<DeliveryId>)> = BTreeMap::new();
    let mut left = direct.budget;
    let mut waits = HashSet::new();
    for (_, new) in all {
        let Some(seen) = lanes.get(&new.lane.id) else { continue };
        let given = wanted.get(&new.lane.id.to_bytes()).map_or(0, |(_, ids)| ids.len());
        let fits = left > 0
            && new.at_once
            && !waits.contains(&new.lane.id)
            && fits(&seen.lane, new, given, now);
        if !fits || meters.take(store, &seen.lane, 1, now).await? == 0 {
            // What comes later must not pass this one by.
            if new.due_at <= now {
                waits.insert(new.lane.id);
            }
            continue;
        }
        left -= 1;
        wanted.entry(new.lane.id.to_bytes()).or_insert((seen, Vec::new())).1.push(new.id);
    }
    let statements: Vec<_> = wanted
        .values()
        .map(|(seen, ids)| {
            let runnable = busy.get(seen.lane.org.as_str()).copied().unwrap_or_default();
            let cost = Lane::stride(seen.lane.weight, runnable + 1) * count(ids.len());
            let pass = seen.lane.pass.max(floor.unwrap_or(seen.lane.pass)) + cost;
            let mut set = doc! {
                "pass": { "$max": ["$pass", pass] },
                "blocked_until": { "$ifNull": [
                    { "$max": ["$blocked_until", meters.blocks(&seen.lane, now).map(ms)] },
                    "$$REMOVE",
                ] },
                "claims": { "$add": ["$claims", 1_i64] },
            };
            let places = ids.iter().map(|id| place::path(first_lease(*id)));
            set.extend(places.map(|path| (path, "$$NOW".into())));
            let filter = doc! {
                "_id": bin(seen.lane.id.to_bytes()),
                "claims": seen.claims,
                "wakes": seen.wakes,
                "allowed": i64::from(seen.lane.allowed()),
                "runnable": false,
                "rests": 0,
            };
            lane::statement(filter, vec![doc! { "$set": set }.into(), place::counted()])
        })
        .collect();
    if statements.is_empty() {
        return Ok(HashSet::new());
    }
    let missed = store.update(LANE, &statements, Miss::Known, Lasts::No).await?.missed;
    let mut given = HashSet::new();
    for (at, (seen, ids)) in wanted.into_values().enumerate() {
        if missed.contains(&at) {
            meters.give_back(store, &seen.lane, ids.len(), now).await?;
        } else {
            given.extend(ids);
        }
    }
    Ok(given)
}

/// The lease that a delivery is handed over with.
pub(crate) fn first_lease(delivery: DeliveryId) -> Lease {
    Lease { delivery, epoch: 1 }
}

/// Whether a new delivery can be handed over at once, after `given` others of the lane.
fn fits(lane: &Lane, new: &NewDelivery, given: usize, now: Timestamp) -> bool {
    new.due_at <= now
        && lane.mode == LaneMode::Parallel
        && usize::try_from(lane.room()).is_ok_and(|room| room > given)
        && !lane.paused
        && !lane.runnable
        && lane.blocked_until.is_none_or(|until| until <= now)
        && lane.next_due.is_none_or(|due| due > now)
}
