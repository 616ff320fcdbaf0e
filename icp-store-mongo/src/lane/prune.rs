//! Lanes of ordering keys go once nothing tells of them any more.
//!
//! As with events, each side says first what it is about to do, and then looks at what the other
//! has said: pruning marks a lane, then looks for deliveries in it, made or listed; whoever makes a
//! delivery lists it or writes it, then changes the lane, which takes the mark away. So at least
//! one of them sees the other: a lane that is not marked any more stays, and one that is found gone
//! is made again.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures_util::{TryStreamExt, try_join};
use icp_core::delivery::{LaneId, LaneMode};
use icp_core::event::LaneSeed;
use icp_core::id::{EventId, OrgId, ResourceId};
use icp_core::retention::{Prune, Pruned};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};

use super::{Wanted, ensure, plain};
use crate::error::Failure;
use crate::row::{self, Fields, bin, bins, count};
use crate::store::{DELIVERY, EVENT, LANE, MongoStore, REPLAY};

/// Removes the idle ones of the next lanes of an organization.
pub(crate) async fn prune(store: &MongoStore, prune: &Prune) -> Result<Pruned, Failure> {
    let mut filter = doc! { "org": prune.org.as_str() };
    if let Some(after) = &prune.after {
        filter.insert("_id", doc! { "$gt": bin(after.parse::<LaneId>()?.to_bytes()) });
    }
    let found: Vec<Document> = store
        .light(LANE)
        .find(filter)
        .sort(doc! { "org": 1, "_id": 1 })
        .limit(count(prune.limit.max(1)))
        .projection(plain())
        .await?
        .try_collect()
        .await?;
    let lanes = found.iter().map(row::lane).collect::<Result<Vec<_>, Failure>>()?;
    let last = lanes.last().filter(|_| found.len() >= prune.limit.max(1));
    let idle =
        bins(lanes.iter().filter(|lane| lane.is_idle()).map(|lane| lane.id), LaneId::to_bytes);
    let next = last.map(|last| last.id.to_string());
    Ok(Pruned { lanes: remove(store, idle).await?, next, ..Pruned::default() })
}

/// Removes those of the lanes that have no deliveries.
async fn remove(store: &MongoStore, lanes: Vec<Bson>) -> Result<u64, Failure> {
    let lanes = empty(store, lanes).await?;
    if lanes.is_empty() {
        return Ok(0);
    }
    let token = ObjectId::new();
    let mark = doc! { "$set": { "going": token } };
    store.light(LANE).update_many(doc! { "_id": { "$in": lanes.clone() } }, mark).await?;
    let lanes = empty(store, lanes).await?;
    let still = doc! {
        "_id": { "$in": lanes },
        "going": token,
        "in_flight": 0,
        "ill": { "$exists": false },
        "blocked_until": { "$exists": false },
    };
    Ok(store.light(LANE).delete_many(still).await?.deleted_count)
}

/// Those of the lanes that have no deliveries, in any state or still to be made.
async fn empty(store: &MongoStore, mut lanes: Vec<Bson>) -> Result<Vec<Bson>, Failure> {
    if lanes.is_empty() {
        return Ok(lanes);
    }
    let among = doc! { "$in": lanes.clone() };
    let listing = doc! { "pending.id": { "$exists": true }, "pending.lane": among.clone() };
    let fields = doc! { "pending.lane": 1 };
    let in_lane = doc! { "lane": among, "fifo": true };
    let made = async { Ok(store.light(DELIVERY).distinct("lane", in_lane).await?) };
    let (made, events, jobs) = try_join!(
        made,
        store.all(EVENT, listing.clone(), fields.clone()),
        store.all(REPLAY, listing.clone(), fields)
    )?;
    let listed = events.iter().chain(&jobs).flat_map(|of| of.documents("pending"));
    let listed: Vec<&Bson> = listed.filter_map(|listed| listed.get("lane")).collect();
    lanes.retain(|lane| !made.contains(lane) && !listed.contains(&lane));
    Ok(lanes)
}

/// Makes lanes again in which deliveries wait, from `wanted` where they are named there; answers
/// which there are then.
pub(super) async fn make_again(
    store: &MongoStore,
    mut gone: BTreeSet<[u8; 16]>,
    wanted: &[Wanted<'_>],
) -> Result<BTreeSet<[u8; 16]>, Failure> {
    let is_gone = |wanted: &&Wanted<'_>| gone.contains(&wanted.2.id.to_bytes());
    let wanted: Vec<Wanted<'_>> = wanted.iter().filter(is_gone).copied().collect();
    let mut made: BTreeSet<_> = wanted.iter().map(|(_, _, seed)| seed.id.to_bytes()).collect();
    ensure(store, &wanted, &HashMap::new()).await?;
    gone.retain(|id| !made.contains(id));
    let seeds = seeds(store, &gone).await?;
    let wanted: Vec<Wanted<'_>> =
        seeds.iter().map(|(org, integration, seed)| (org, integration, seed)).collect();
    ensure(store, &wanted, &HashMap::new()).await?;
    made.extend(seeds.iter().map(|(_, _, seed)| seed.id.to_bytes()));
    Ok(made)
}

/// What lanes were that open deliveries are in, as these, their events and the other lanes of the
/// integration tell.
async fn seeds(
    store: &MongoStore,
    lanes: &BTreeSet<[u8; 16]>,
) -> Result<Vec<(OrgId, ResourceId, LaneSeed)>, Failure> {
    let ids = bins(lanes.iter().copied(), |id| id);
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let fields = doc! { "line": 1, "org": 1, "integration": 1, "event": 1 };
    let (mut seeds, mut seen) = (Vec::new(), HashSet::new());
    for row in store.all(DELIVERY, doc! { "line": { "$in": ids } }, fields).await? {
        let id = row.id("line")?;
        if !seen.insert(id) {
            continue;
        }
        let (org, integration) = (row.named::<OrgId>("org")?, row.named("integration")?);
        let event = EventId::from_bytes(row.id("event")?);
        let event = doc! { "_id": bin(event.to_bytes()) };
        let event = store.first(EVENT, event, doc! {}, doc! { "ordering_key": 1 }).await?;
        let alike = |filter| store.first(LANE, filter, doc! {}, plain());
        let of_integration = doc! { "org": org.as_str(), "integration": row.text("integration")? };
        let sibling = match alike(of_integration).await? {
            Some(sibling) => Some(row::lane(&sibling)?),
            None => None,
        };
        let of_org = alike(doc! { "org": org.as_str() }).await?;
        let seed = LaneSeed {
            id: LaneId::from_bytes(id),
            order_key: event.and_then(|event| event.shared("ordering_key")),
            mode: LaneMode::Fifo,
            max_in_flight: 1,
            weight: of_org.map(|lane| lane.small("weight")).transpose()?.unwrap_or(1),
            rules: sibling.map(|lane| lane.rules).unwrap_or_default(),
        };
        seeds.push((org, integration, seed));
    }
    Ok(seeds)
}
