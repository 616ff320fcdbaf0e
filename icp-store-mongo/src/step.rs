//! Steps of replays: each is committed by its job, which lists the deliveries that follow.
//!
//! Jobs and rounds that look at the same event at once list a repeat each, under an id of its own;
//! not even of the same delivery, where a repeat was called off meanwhile. So each row keeps as
//! `follows` its place among the repeats of its event to its integration, which a unique index lets
//! no second one have: the first insert decides, and a job that is late counts what it listed as
//! left out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures_util::TryStreamExt;
use icp_core::delivery::LaneId;
use icp_core::error::Result;
use icp_core::id::{DeliveryId, EventId, OrgId, ReplayId, ResourceId};
use icp_core::replay::{NewReplay, ReplayJob, ReplayStep};
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, Document, doc};

use super::batch::{self, Lasts, Miss, Statement};
use super::error::{Failure, contended};
use super::finish::at_most;
use super::lane::{self, Changes};
use super::replay::{ROUNDS, find, not_found, swap};
use super::row::{self, Fields, bin, bins, count, ms, put};
use super::store::{DELIVERY, EVENT, MongoStore, REPLAY};
use super::{ingest, stay};

/// Commits the step by the job's own write, which lists what is to be made.
pub(crate) async fn take_step(store: &MongoStore, step: &ReplayStep) -> Result<ReplayJob, Failure> {
    for _ in 0..ROUNDS {
        let (mut job, version) = find(store, step.job).await?.ok_or_else(|| not_found(step.job))?;
        job.admit(step)?;
        let made = admitted(store, &step.items).await?;
        let wanted: Vec<lane::Wanted<'_>> =
            made.iter().map(|(new, _)| (&job.org, &new.new.integration, &new.new.lane)).collect();
        lane::ensure(store, &wanted, &HashMap::new()).await?;
        let pending: Vec<Document> = made.iter().map(|made| listed(made, step.now)).collect();
        job.advance(step, made.len() as u64);
        if swap(store, &job, version, pending).await? {
            let made = find(store, step.job).await?;
            return Ok(made.map_or(job, |(job, _)| job));
        }
    }
    Err(contended().into())
}

/// An item, and its place among the repeats of its event to its integration.
type Admitted<'a> = (&'a NewReplay, i64);

/// The items whose events nobody else has replayed meanwhile.
async fn admitted<'a>(
    store: &MongoStore,
    items: &'a [NewReplay],
) -> Result<Vec<Admitted<'a>>, Failure> {
    let ids = bins(items.iter().map(|item| item.event), EventId::to_bytes);
    let fields = doc! { "event": 1, "integration": 1, "follows": 1 };
    let mut newest: HashMap<(EventId, ResourceId), DeliveryId> = HashMap::new();
    let mut places: HashMap<(EventId, ResourceId), i64> = HashMap::new();
    let of_events = doc! { "event": { "$in": ids.clone() } };
    for row in store.all(DELIVERY, of_events, fields).await? {
        let id = DeliveryId::from_bytes(row.id("_id")?);
        let key = (EventId::from_bytes(row.id("event")?), row.named("integration")?);
        let place = places.entry(key.clone()).or_default();
        *place = next_place(&row).max(*place);
        newest.entry(key).and_modify(|newest| *newest = id.max(*newest)).or_insert(id);
    }
    let there = store.all(EVENT, doc! { "_id": { "$in": ids } }, doc! { "_id": 1 }).await?;
    let there = there.iter().map(|event| event.id("_id").map(EventId::from_bytes));
    let there = there.collect::<Result<HashSet<_>>>()?;
    let mut admitted = Vec::with_capacity(items.len());
    for item in items {
        let key = (item.event, item.new.integration.clone());
        if there.contains(&item.event) && newest.get(&key).copied() == item.replay_of {
            let place = places.entry(key.clone()).or_default();
            admitted.push((item, *place));
            *place += 1;
            newest.insert(key, item.new.id);
        }
    }
    Ok(admitted)
}

/// The place behind that of a delivery.
pub(crate) fn next_place(row: &Document) -> i64 {
    row.maybe_int("follows").map_or(0, |place| place + 1)
}

/// A delivery that is still to be made, as its job lists it.
fn listed((item, follows): &Admitted<'_>, now: Timestamp) -> Document {
    let mut listed = ingest::pending(&item.new);
    listed.insert("event", bin(item.event.to_bytes()));
    listed.insert("follows", *follows);
    listed.insert("at", ms(now));
    put(&mut listed, "replay_of", item.replay_of.map(|id| bin(id.to_bytes())));
    listed
}

/// Makes what jobs still list.
pub(crate) async fn finish_steps(store: &MongoStore, limit: usize) -> Result<(), Failure> {
    let found: Vec<Document> = store
        .light(REPLAY)
        .find(doc! { "pending.id": { "$exists": true } })
        .limit(at_most(limit))
        .await?
        .try_collect()
        .await?;
    for job in &found {
        make(store, job).await?;
    }
    Ok(())
}

pub(crate) async fn finish_step(store: &MongoStore, id: ReplayId) -> Result<(), Failure> {
    let open = doc! { "_id": bin(id.to_bytes()), "pending.id": { "$exists": true } };
    match store.light(REPLAY).find_one(open).await? {
        Some(job) => make(store, &job).await,
        None => Ok(()),
    }
}

/// Makes the deliveries that a job lists, but for those whose events were pruned since or that
/// another job was quicker with, and counts these as left out.
pub(crate) async fn make(store: &MongoStore, job: &Document) -> Result<(), Failure> {
    let listed = job.documents("pending");
    let events = listed.iter().map(|listed| listed.id("event").map(EventId::from_bytes));
    let there = stay::keep(store, events.collect::<Result<Vec<_>>>()?.into_iter()).await?;
    let mut rows = Vec::with_capacity(listed.len());
    for pending in &listed {
        if there.contains(&EventId::from_bytes(pending.id("event")?)) {
            rows.push(row_of(job, pending)?);
        }
    }
    let known = batch::insert(store.lasting(DELIVERY), &rows).await?;
    for late in late(store, &rows, &known).await?.into_iter().rev() {
        rows.remove(late);
    }
    count_further(store, &rows).await?;
    let mut changes = Changes::default();
    let mut latest = Timestamp::EPOCH;
    for row in &rows {
        let now = row.time("created_at")?;
        changes.of(LaneId::from_bytes(row.id("lane")?)).ready(row.time("due_at")?, now);
        latest = latest.max(now);
    }
    changes.apply(store, latest).await?;
    let same = doc! {
        "_id": job.get("_id"), "version": job.get("version"), "pending": { "$exists": true },
    };
    let mut done = doc! { "$unset": { "pending": "" } };
    let gone = count(listed.len() - rows.len());
    if gone > 0 {
        let less = doc! { "job.progress.created": -gone, "job.progress.skipped": gone };
        done.insert("$inc", less);
    }
    store.light(REPLAY).update_one(same, done).await?;
    Ok(())
}

fn row_of(job: &Document, pending: &Document) -> Result<Document, Failure> {
    let (event, now) = (EventId::from_bytes(pending.id("event")?), pending.time("at")?);
    let mut row = ingest::listed_row(pending, &job.named::<OrgId>("org")?, event, now)?;
    row.replay_of = pending.maybe_id("replay_of").map(DeliveryId::from_bytes);
    let mut document = row::delivery_document(&row, pending.flag("fifo"));
    put(&mut document, "job", job.get("_id").cloned());
    document.insert("follows", pending.int("follows")?);
    Ok(document)
}

/// Which of the rows that are `known` were not made, as another one has their place.
async fn late(
    store: &MongoStore,
    rows: &[Document],
    known: &BTreeSet<usize>,
) -> Result<Vec<usize>, Failure> {
    if known.is_empty() {
        return Ok(Vec::new());
    }
    let fields = ["event", "integration", "follows"];
    let place = |row: &Document| fields.map(|field| row.get(field).cloned());
    let events: Vec<Bson> =
        known.iter().filter_map(|at| rows.get(*at)?.get("event").cloned()).collect();
    let holders = doc! { "event": { "$in": events }, "follows": { "$exists": true } };
    let wanted: Document = fields.iter().map(|field| ((*field).to_owned(), 1.into())).collect();
    let holders = store.all(DELIVERY, holders, wanted).await?;
    let is_late = |at: &usize| {
        let row = rows.get(*at);
        row.is_some_and(|row| {
            let taken = holders.iter().find(|holder| place(holder) == place(row));
            taken.is_some_and(|taken| taken.get("_id") != row.get("_id"))
        })
    };
    Ok(known.iter().copied().filter(is_late).collect())
}

/// Counts what repeats nothing into the fan-out of its event.
async fn count_further(store: &MongoStore, rows: &[Document]) -> Result<(), Failure> {
    let mut further: BTreeMap<[u8; 16], Vec<Bson>> = BTreeMap::new();
    for row in rows.iter().filter(|row| !row.contains_key("replay_of")) {
        further.entry(row.id("event")?).or_default().extend(row.get("_id").cloned());
    }
    let counted: Vec<Statement> = further
        .into_iter()
        .map(|(event, made)| Statement {
            filter: doc! { "_id": bin(event) },
            change: doc! { "$addToSet": { "further": { "$each": made } } }.into(),
        })
        .collect();
    if !counted.is_empty() {
        store.update(EVENT, &counted, Miss::Counted, Lasts::Yes).await?;
    }
    Ok(())
}
