//! Lanes as they are kept, and what writes of deliveries do to them.
//!
//! A lane follows its deliveries: they are written first, then it. Its counters tell apart what
//! happened to it: `claims` counts leases that were taken, `wakes` deliveries that got ready,
//! `turns` changes of what it allows.

pub(crate) mod prune;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use icp_core::delivery::health::{LaneHealth, LaneRules, Pace};
use icp_core::delivery::{Lane, LaneId, LaneMode, Lease};
use icp_core::event::LaneSeed;
use icp_core::id::{OrgId, ResourceId};
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, Document, doc};

use super::batch::{self, Lasts, Miss, Statement};
use super::error::Failure;
use super::row::{self, Fields, bin, bins, kept, ms, put};
use super::store::{LANE, MongoStore};
use super::{place, rest};

/// A lane as a write sees it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) lane: Lane,
    pub(crate) claims: i64,
    pub(crate) wakes: i64,
    pub(crate) turns: i64,
}

impl Seen {
    pub(crate) fn read(found: &Document) -> Result<Self, Failure> {
        Ok(Self {
            lane: row::lane(found)?,
            claims: found.int("claims")?,
            wakes: found.int("wakes")?,
            turns: found.int("turns")?,
        })
    }
}

/// What ended or new deliveries do to their lanes.
#[derive(Debug, Default)]
pub(crate) struct Changes(BTreeMap<[u8; 16], Change>);

#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    /// The leases that ended.
    pub(crate) freed: Vec<Lease>,
    /// Whether a delivery is due now.
    pub(crate) wake: bool,
    /// When the earliest of the others gets due.
    pub(crate) due: Option<i64>,
    /// Until when the receiver asked to wait.
    pub(crate) block: Option<i64>,
    /// How many deliveries ended.
    pub(crate) ended: i64,
    /// Whether the change holds for a lane in good health only.
    pub(crate) if_well: bool,
}

impl Change {
    /// Notes a delivery that is ready from `due` on.
    pub(crate) fn ready(&mut self, due: Timestamp, now: Timestamp) {
        if due <= now {
            self.wake = true;
        } else {
            let due = ms(due);
            self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        }
    }

    pub(crate) fn block(&mut self, until: Timestamp) {
        self.block = self.block.max(Some(ms(until)));
    }

    /// Whether it tells of a delivery.
    fn brings(&self) -> bool {
        self.wake || self.due.is_some()
    }

    /// The stages that make the change.
    pub(crate) fn stages(&self, floor: Option<i64>, now: Timestamp) -> Vec<Bson> {
        let wakes = doc! { "$or": ["$runnable", self.wake] };
        let pass = match floor.filter(|_| self.wake) {
            Some(floor) => {
                doc! { "$cond": ["$runnable", "$pass", { "$max": ["$pass", floor] }] }.into()
            }
            None => Bson::from("$pass"),
        };
        let earliest: Bson = match self.due {
            Some(due) => doc! { "$min": ["$next_due", due] }.into(),
            None => "$next_due".into(),
        };
        // A block that is over is left for the next claim, which lifts the pass with it.
        let block = self.block.filter(|until| *until > ms(now));
        let blocked = doc! { "$max": ["$blocked_until", block] };
        let mut set = doc! {
            "pass": pass,
            "runnable": wakes.clone(),
            "next_due": {
                "$cond": [wakes, "$$REMOVE", { "$ifNull": [earliest, "$$REMOVE"] }]
            },
            "blocked_until": { "$ifNull": [blocked, "$$REMOVE"] },
        };
        if self.brings() {
            set.insert("wakes", doc! { "$add": ["$wakes", 1_i64] });
        }
        if self.ended > 0 {
            set.extend(paced(self.ended, now));
        }
        let mut stages = vec![doc! { "$set": set }.into()];
        if !self.freed.is_empty() {
            let names: Vec<String> = self.freed.iter().copied().map(place::path).collect();
            stages.push(doc! { "$unset": names }.into());
            stages.push(place::counted());
        }
        stages
    }
}

/// What [`Pace::counted`] does, where the server does it.
fn paced(ended: i64, now: Timestamp) -> Document {
    let minute = Pace::minute_of(now);
    let running = doc! { "$gte": ["$pace_minute", minute] };
    let just_before = doc! { "$eq": ["$pace_minute", minute - 1] };
    doc! {
        "pace_before": { "$switch": {
            "branches": [
                { "case": running.clone(), "then": "$pace_before" },
                { "case": just_before, "then": "$pace_ended" },
            ],
            "default": 0_i64,
        } },
        "pace_ended": { "$add": [{ "$cond": [running, "$pace_ended", 0_i64] }, ended] },
        "pace_minute": { "$max": ["$pace_minute", minute] },
    }
}

/// The last stage of every change: what claims find the lane by follows from the rest of it. A
/// lane that is about to be removed stays.
pub(crate) fn finish() -> Bson {
    let rests = doc! { "$gt": ["$rests", 0] };
    let blocked = doc! { "$gt": ["$blocked_until", Bson::Null] };
    let full = doc! { "$gte": ["$in_flight", "$allowed"] };
    let later = doc! {
        "$max": ["$blocked_until", { "$cond": ["$runnable", Bson::Null, "$next_due"] }]
    };
    let idles = doc! { "$or": [{ "$not": ["$runnable"] }, rests.clone(), blocked.clone()] };
    let works = doc! { "$or": ["$runnable", { "$gt": ["$next_due", Bson::Null] }] };
    doc! { "$set": {
        "going": "$$REMOVE",
        "busy": { "$cond": [idles.clone(), "$$REMOVE", true] },
        "turn": { "$cond": [{ "$or": [idles, full] }, "$$REMOVE", "$pass"] },
        "alarm": { "$cond": [
            rests,
            "$$REMOVE",
            { "$cond": [
                blocked,
                { "$cond": [works, later, "$$REMOVE"] },
                { "$ifNull": ["$next_due", "$$REMOVE"] },
            ] },
        ] },
    } }
    .into()
}

impl Changes {
    pub(crate) fn of(&mut self, lane: LaneId) -> &mut Change {
        self.0.entry(lane.to_bytes()).or_default()
    }

    pub(crate) fn take(self) -> BTreeMap<[u8; 16], Change> {
        self.0
    }

    /// Makes the changes, whatever the health of the lanes.
    pub(crate) async fn apply(self, store: &MongoStore, now: Timestamp) -> Result<(), Failure> {
        self.apply_to(store, &[], now).await
    }

    /// As [`apply`](Self::apply). A lane that was removed since somebody saw it is made again where
    /// a delivery waits in it, as `wanted` says.
    pub(crate) async fn apply_to(
        self,
        store: &MongoStore,
        wanted: &[Wanted<'_>],
        now: Timestamp,
    ) -> Result<(), Failure> {
        if self.0.is_empty() {
            return Ok(());
        }
        let floor = floor_for(store, self.0.values()).await?;
        let mut statements: BTreeMap<[u8; 16], Statement> = BTreeMap::new();
        for (lane, change) in &self.0 {
            let change = statement(doc! { "_id": bin(*lane) }, change.stages(floor, now));
            statements.insert(*lane, change);
        }
        let all: Vec<Statement> = statements.values().cloned().collect();
        if store.update(LANE, &all, Miss::Counted, Lasts::No).await?.matched == all.len() {
            return Ok(());
        }
        for id in look_up(store, self.0.keys().copied().map(LaneId::from_bytes)).await?.keys() {
            statements.remove(&id.to_bytes());
        }
        statements.retain(|id, _| self.0.get(id).is_some_and(Change::brings));
        let gone = statements.keys().copied().collect();
        let made = prune::make_again(store, gone, wanted).await?;
        statements.retain(|id, _| made.contains(id));
        let again: Vec<Statement> = statements.into_values().collect();
        store.update(LANE, &again, Miss::Counted, Lasts::No).await?;
        Ok(())
    }
}

/// A change of a lane by `stages`. It makes no lane: the server is told to make a document that is
/// missing only to tell which one it is, and breaks off where it would.
pub(crate) fn statement(filter: Document, mut stages: Vec<Bson>) -> Statement {
    let gone = doc! { "$toInt": { "$concat": ["gone", { "$ifNull": ["$org", ""] }] } };
    let missing = doc! { "$eq": [{ "$type": "$org" }, "missing"] };
    stages.push(doc! { "$set": { "org": { "$cond": [missing, gone, "$org"] } } }.into());
    stages.push(finish());
    Statement { filter, change: stages.into() }
}

/// The lowest pass of busy lanes, where one of the changes wakes a lane.
pub(crate) async fn floor_for<'a>(
    store: &MongoStore,
    mut changes: impl Iterator<Item = &'a Change>,
) -> Result<Option<i64>, Failure> {
    if changes.any(|change| change.wake) { floor(store).await } else { Ok(None) }
}

/// The lowest pass of busy lanes: where a lane that wakes, or is unblocked, starts at the least.
pub(crate) async fn floor(store: &MongoStore) -> Result<Option<i64>, Failure> {
    let lowest = store
        .light(LANE)
        .find_one(doc! { "busy": true })
        .sort(doc! { "pass": 1 })
        .projection(doc! { "pass": 1 })
        .await?;
    Ok(lowest.and_then(|lane| lane.maybe_int("pass")))
}

/// How many busy lanes each organization has: those that run, and neither rest nor are blocked.
pub(crate) async fn busy(
    store: &MongoStore,
    orgs: BTreeSet<&str>,
) -> Result<HashMap<String, u32>, Failure> {
    let orgs: Vec<&str> = orgs.into_iter().collect();
    let found = store
        .aggregate(
            LANE,
            vec![
                doc! { "$match": { "busy": true, "org": { "$in": orgs } } },
                doc! { "$group": { "_id": "$org", "lanes": { "$sum": 1 } } },
            ],
        )
        .await?;
    let count = |org: &Document| Ok((org.text("_id")?.to_owned(), org.small("lanes")?));
    found.iter().map(count).collect()
}

/// What reads of lanes leave on the server.
pub(crate) fn plain() -> Document {
    doc! { "held": 0 }
}

/// The lanes of these ids that there are.
pub(crate) async fn look_up(
    store: &MongoStore,
    ids: impl IntoIterator<Item = LaneId>,
) -> Result<HashMap<LaneId, Seen>, Failure> {
    let ids = bins(ids, LaneId::to_bytes);
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let found = store.all(LANE, doc! { "_id": { "$in": ids } }, plain()).await?;
    let seen = found.iter().map(Seen::read).map(|seen| seen.map(|seen| (seen.lane.id, seen)));
    seen.collect()
}

/// What a lane is made for.
pub(crate) type Wanted<'a> = (&'a OrgId, &'a ResourceId, &'a LaneSeed);

/// Makes the lanes that are missing, at rest where there is a reason; `known` is left out.
pub(crate) async fn ensure(
    store: &MongoStore,
    wanted: &[Wanted<'_>],
    known: &HashMap<LaneId, Seen>,
) -> Result<bool, Failure> {
    let mut missing: BTreeMap<[u8; 16], Wanted<'_>> = BTreeMap::new();
    for (org, integration, seed) in wanted {
        if !known.contains_key(&seed.id) {
            missing.entry(seed.id.to_bytes()).or_insert((org, integration, seed));
        }
    }
    if missing.is_empty() {
        return Ok(false);
    }
    let places: Vec<_> =
        missing.values().map(|(org, integration, _)| (*org, *integration)).collect();
    let rests = rest::of(store, &places).await?;
    let documents = missing.values().map(|(org, integration, seed)| {
        sprout(org, integration, seed, rests.bits(org, integration))
    });
    let documents = documents.collect::<Result<Vec<_>, Failure>>()?;
    batch::insert(store.lasting(LANE), &documents).await?;
    // A reason to rest that came between the look and the insert did not find the lane.
    let again = rest::of(store, &places).await?;
    let late = missing.iter().filter(|(_, (org, integration, _))| {
        rests.bits(org, integration) != again.bits(org, integration)
    });
    let late: Vec<_> = late
        .map(|(id, (org, integration, _))| {
            let rests = doc! { "$set": { "rests": again.bits(org, integration) } };
            statement(doc! { "_id": bin(*id) }, vec![rests.into()])
        })
        .collect();
    if !late.is_empty() {
        store.update(LANE, &late, Miss::Counted, Lasts::Yes).await?;
    }
    Ok(true)
}

fn sprout(
    org: &OrgId,
    integration: &ResourceId,
    seed: &LaneSeed,
    rests: i32,
) -> Result<Document, Failure> {
    let fifo = seed.mode == LaneMode::Fifo;
    let allowed = if fifo { 1 } else { seed.max_in_flight };
    let mut document = doc! {
        "_id": bin(seed.id.to_bytes()),
        "org": org.as_str(),
        "integration": integration.as_str(),
        "fifo": fifo,
        "weight": i64::from(seed.weight),
        "pass": 0_i64,
        "runnable": false,
        "in_flight": 0_i64,
        "max_in_flight": i64::from(seed.max_in_flight),
        "allowed": i64::from(allowed),
        "rests": rests,
        "pace_minute": 0_i64,
        "pace_ended": 0_i64,
        "pace_before": 0_i64,
        "claims": 0_i64,
        "wakes": 0_i64,
        "turns": 0_i64,
    };
    put(&mut document, "order_key", seed.order_key.as_deref());
    put(&mut document, "rules", rules(&seed.rules)?);
    Ok(document)
}

/// The rules as they are kept; nothing where they are the default.
pub(crate) fn rules(rules: &LaneRules) -> Result<Option<Bson>, Failure> {
    (*rules != LaneRules::default()).then(|| kept(rules)).transpose()
}

/// The health as a stage sets it.
pub(crate) fn health(lane: &Lane) -> Result<Document, Failure> {
    let well = lane.health == LaneHealth::default();
    let kept: Bson =
        if well { "$$REMOVE".into() } else { doc! { "$literal": kept(&lane.health)? }.into() };
    let ill: Bson = if well { "$$REMOVE".into() } else { true.into() };
    Ok(doc! {
        "health": kept,
        "ill": ill,
        "allowed": i64::from(lane.allowed()),
        "turns": { "$add": ["$turns", 1_i64] },
    })
}
