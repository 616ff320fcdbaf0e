//! Places in lanes: the leases that a lane counts.
//!
//! A lane keeps the name of each lease that was given or is about to be, and how many these are is
//! its `in_flight`. A place is taken before its lease is written and given back after the lease has
//! ended, and both may be repeated: what is named already is not counted again. So the deliveries
//! tell at any moment which places are in use, whoever was killed in between, and a sweep gives the
//! others back.

use std::collections::{HashMap, HashSet};

use icp_core::delivery::{DeliveryState, LaneId, Lease};
use icp_core::id::{DeliveryId, OrgId};
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, Document, doc};

use super::batch::{Lasts, Miss, Statement};
use super::error::{Failure, corrupt};
use super::lane::{self, Changes};
use super::row::{Fields, bin, bins};
use super::store::{DELIVERY, EVENT, LANE, MongoStore};

/// How long a lease may take to follow its place, in milliseconds by the server's clock. One that
/// takes longer is called off, which costs a claim that is under way no more than this delivery.
const PATIENCE: i64 = 5_000;

/// A place that a lane keeps.
#[derive(Clone, Copy, Debug)]
struct Place {
    lane: LaneId,
    lease: Lease,
    /// For how long, in milliseconds.
    age: i64,
}

/// What became of the lease that a place is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    Coming,
    Held,
    /// It is over, or can never come.
    Over,
}

/// State and epoch of deliveries.
type Rows = HashMap<DeliveryId, (DeliveryState, u32)>;

/// Where a lane names the lease, as a path within it.
pub(crate) fn path(lease: Lease) -> String {
    format!("held.{}_{}", lease.delivery, lease.epoch)
}

fn read(name: &str) -> Result<Lease, Failure> {
    let parts = name.rsplit_once('_').and_then(|(delivery, epoch)| {
        Some(Lease { delivery: delivery.parse().ok()?, epoch: epoch.parse().ok()? })
    });
    Ok(parts.ok_or_else(|| corrupt("a lane names a lease that is none"))?)
}

/// An epoch is of one lease only, and never falls.
fn judge(epoch: u32, row: Option<&(DeliveryState, u32)>) -> Standing {
    match row {
        Some((DeliveryState::Leased, now)) if *now == epoch => Standing::Held,
        Some((state, now)) if *now >= epoch || state.is_final() => Standing::Over,
        // A delivery that is handed over to its publisher has its place before it is made.
        Some(_) | None => Standing::Coming,
    }
}

/// The stage that counts the places of a lane.
pub(crate) fn counted() -> Bson {
    let held = doc! { "$objectToArray": { "$ifNull": ["$held", {}] } };
    doc! { "$set": { "in_flight": { "$size": held } } }.into()
}

/// How many leases of the organization's lanes hold.
pub(crate) async fn held(store: &MongoStore, org: &OrgId) -> Result<HashMap<LaneId, u32>, Failure> {
    let places = taken(store, doc! { "org": org.as_str(), "in_flight": { "$gt": 0 } }).await?;
    let rows = rows(store, &places).await?;
    let mut held = HashMap::new();
    for place in &places {
        if judge(place.lease.epoch, rows.get(&place.lease.delivery)) == Standing::Held {
            *held.entry(place.lane).or_default() += 1;
        }
    }
    Ok(held)
}

/// What places tell of lanes.
pub(crate) struct Unsettled {
    /// The deliveries that have places.
    pub(crate) named: HashSet<DeliveryId>,
    /// The lanes that have places whose leases do not hold: what follows from their end, or comes
    /// before their beginning, is still to be done.
    pub(crate) lanes: HashSet<LaneId>,
}

pub(crate) async fn unsettled(store: &MongoStore, lanes: Vec<Bson>) -> Result<Unsettled, Failure> {
    let places = taken(store, doc! { "_id": { "$in": lanes } }).await?;
    let rows = rows(store, &places).await?;
    let holds = |place: &&Place| {
        judge(place.lease.epoch, rows.get(&place.lease.delivery)) == Standing::Held
    };
    Ok(Unsettled {
        named: places.iter().map(|place| place.lease.delivery).collect(),
        lanes: places.iter().filter(|place| !holds(place)).map(|place| place.lane).collect(),
    })
}

/// Gives places back whose leases are over, or do not come; names leases that lanes have lost.
pub(crate) async fn tidy(store: &MongoStore, now: Timestamp) -> Result<(), Failure> {
    let places = taken(store, doc! { "in_flight": { "$gt": 0 } }).await?;
    let rows = rows(store, &places).await?;
    let (mut over, mut late) = (Vec::new(), Vec::new());
    for place in &places {
        match judge(place.lease.epoch, rows.get(&place.lease.delivery)) {
            Standing::Over => over.push(*place),
            Standing::Coming if place.age > PATIENCE => late.push(*place),
            _ => {}
        }
    }
    over.extend(call_off(store, late).await?);
    let mut changes = Changes::default();
    for place in over {
        let change = changes.of(place.lane);
        change.freed.push(place.lease);
        change.wake = true;
    }
    changes.apply(store, now).await?;
    let lost = not_among(store, &places).await?;
    let named = lost.iter().map(|(lane, lease)| {
        let name = doc! { "$set": { path(*lease): "$$NOW" } };
        lane::statement(doc! { "_id": bin(lane.to_bytes()) }, vec![name.into(), counted()])
    });
    let named: Vec<Statement> = named.collect();
    if !named.is_empty() {
        store.update(LANE, &named, Miss::Counted, Lasts::No).await?;
    }
    Ok(())
}

/// Gives back places whose leases were not written, but for those that somebody else has taken for
/// the same lease. One that may still come is left to a sweep.
pub(crate) async fn renounce(
    store: &MongoStore,
    leases: Vec<(LaneId, Lease)>,
    now: Timestamp,
) -> Result<(), Failure> {
    if leases.is_empty() {
        return Ok(());
    }
    let rows = rows_of(store, leases.iter().map(|(_, lease)| lease.delivery)).await?;
    let mut changes = Changes::default();
    for (lane, lease) in leases {
        let change = changes.of(lane);
        change.wake = true;
        if judge(lease.epoch, rows.get(&lease.delivery)) == Standing::Over {
            change.freed.push(lease);
        }
    }
    changes.apply(store, now).await
}

/// Leases that their lanes do not name.
pub(crate) async fn uncounted(store: &MongoStore) -> Result<Vec<(LaneId, Lease)>, Failure> {
    let places = taken(store, doc! { "in_flight": { "$gt": 0 } }).await?;
    not_among(store, &places).await
}

async fn taken(store: &MongoStore, lanes: Document) -> Result<Vec<Place>, Failure> {
    let fields = doc! {
        "held": { "$objectToArray": { "$ifNull": ["$held", {}] } },
        "now": { "$toLong": "$$NOW" },
    };
    let found =
        store.aggregate(LANE, vec![doc! { "$match": lanes }, doc! { "$project": fields }]).await?;
    let mut places = Vec::new();
    for lane in &found {
        let (id, now) = (LaneId::from_bytes(lane.id("_id")?), lane.int("now")?);
        for held in lane.documents("held") {
            let since = held.get_datetime("v").map_or(now, |since| since.timestamp_millis());
            places.push(Place { lane: id, lease: read(held.text("k")?)?, age: now - since });
        }
    }
    Ok(places)
}

async fn rows(store: &MongoStore, places: &[Place]) -> Result<Rows, Failure> {
    rows_of(store, places.iter().map(|place| place.lease.delivery)).await
}

async fn rows_of(
    store: &MongoStore,
    deliveries: impl Iterator<Item = DeliveryId>,
) -> Result<Rows, Failure> {
    let ids = bins(deliveries, DeliveryId::to_bytes);
    if ids.is_empty() {
        return Ok(Rows::new());
    }
    let fields = doc! { "state": 1, "epoch": 1 };
    let found = store.all(DELIVERY, doc! { "_id": { "$in": ids } }, fields).await?;
    // One that cannot be read is ended by whoever claims or rescues it.
    let read = |row: &Document| {
        let id = DeliveryId::from_bytes(row.id("_id").ok()?);
        Some((id, (row.named("state").ok()?, row.small("epoch").ok()?)))
    };
    Ok(found.iter().filter_map(read).collect())
}

/// Makes sure that leases never come that did not for long; answers which.
async fn call_off(store: &MongoStore, late: Vec<Place>) -> Result<Vec<Place>, Failure> {
    if late.is_empty() {
        return Ok(late);
    }
    let fences = late.iter().map(|Place { lease, .. }| Statement {
        filter: doc! {
            "_id": bin(lease.delivery.to_bytes()),
            "state": "ready",
            "epoch": i64::from(lease.epoch) - 1,
        },
        change: doc! { "$inc": { "epoch": 1_i64 } }.into(),
    });
    let fences: Vec<Statement> = fences.collect();
    store.update(DELIVERY, &fences, Miss::Counted, Lasts::Yes).await?;
    let rows = rows(store, &late).await?;
    let missing = late.iter().filter(|place| !rows.contains_key(&place.lease.delivery));
    let missing = bins(missing.map(|place| place.lease.delivery), DeliveryId::to_bytes);
    let listed = listed(store, missing).await?;
    let is_over = |place: &Place| match rows.get(&place.lease.delivery) {
        None => !listed.contains(&place.lease.delivery),
        row => judge(place.lease.epoch, row) == Standing::Over,
    };
    Ok(late.into_iter().filter(is_over).collect())
}

/// Those of the deliveries that events list as still to be made.
async fn listed(store: &MongoStore, ids: Vec<Bson>) -> Result<HashSet<DeliveryId>, Failure> {
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let filter = doc! { "pending.id": { "$in": ids } };
    let events = store.all(EVENT, filter, doc! { "pending.id": 1 }).await?;
    let listed = events.iter().flat_map(|event| event.documents("pending"));
    listed.map(|listed| Ok(DeliveryId::from_bytes(listed.id("id")?))).collect()
}

/// Leases that hold, but have no place. A lane is looked at again after its lease: places are taken
/// before leases begin and given back after they end, so that one which is missed then was lost,
/// with the member of the replica set that had it.
async fn not_among(store: &MongoStore, places: &[Place]) -> Result<Vec<(LaneId, Lease)>, Failure> {
    let leased = doc! { "owner": { "$exists": true } };
    let found = store.all(DELIVERY, leased, doc! { "lane": 1, "epoch": 1 }).await?;
    let mut lost = Vec::new();
    let known: HashSet<Lease> = places.iter().map(|place| place.lease).collect();
    for row in &found {
        let delivery = DeliveryId::from_bytes(row.id("_id")?);
        let Ok(epoch) = row.small("epoch") else { continue };
        let lease = Lease { delivery, epoch };
        if !known.contains(&lease) {
            lost.push((LaneId::from_bytes(row.id("lane")?), lease));
        }
    }
    if lost.is_empty() {
        return Ok(lost);
    }
    let lanes = bins(lost.iter().map(|(lane, _)| *lane), LaneId::to_bytes);
    let again = taken(store, doc! { "_id": { "$in": lanes } }).await?;
    let known: HashSet<Lease> = again.iter().map(|place| place.lease).collect();
    let rows = rows_of(store, lost.iter().map(|(_, lease)| lease.delivery)).await?;
    lost.retain(|(_, lease)| {
        let held = judge(lease.epoch, rows.get(&lease.delivery)) == Standing::Held;
        held && !known.contains(lease)
    });
    Ok(lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_lease() {
        let lease = Lease { delivery: DeliveryId::from_bytes([7; 16]), epoch: 12 };
        let path = path(lease);
        let name = path.strip_prefix("held.").unwrap();
        assert_eq!(read(name).unwrap(), lease);
        assert!(read("dlv_x").is_err());
    }

    #[test]
    fn a_delivery_tells_what_became_of_its_lease() {
        use DeliveryState::{Cancelled, Delivered, Leased, Ready};
        for (row, standing) in [
            (None, Standing::Coming),
            (Some((Ready, 2)), Standing::Coming),
            (Some((Leased, 2)), Standing::Coming),
            (Some((Leased, 3)), Standing::Held),
            (Some((Ready, 3)), Standing::Over),
            (Some((Delivered, 3)), Standing::Over),
            (Some((Leased, 4)), Standing::Over),
            (Some((Cancelled, 2)), Standing::Over),
        ] {
            assert_eq!(judge(3, row.as_ref()), standing, "{row:?}");
        }
    }
}
