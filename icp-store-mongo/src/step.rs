//! Steps of replays: each is committed by its job, which lists the deliveries that follow.

use std::collections::{BTreeMap, HashMap};

use futures_util::TryStreamExt;
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
            made.iter().map(|item| (&job.org, &item.new.integration, &item.new.lane)).collect();
        lane::ensure(store, &wanted, &HashMap::new()).await?;
        let pending: Vec<Document> = made.iter().map(|item| listed(item, step.now)).collect();
        job.advance(step, made.len() as u64);
        if swap(store, &job, version, pending).await? {
            let made = find(store, step.job).await?;
            return Ok(made.map_or(job, |(job, _)| job));
        }
    }
    Err(contended().into())
}

/// The items whose events nobody else has replayed meanwhile.
async fn admitted<'a>(
    store: &MongoStore,
    items: &'a [NewReplay],
) -> Result<Vec<&'a NewReplay>, Failure> {
    let ids = bins(items.iter().map(|item| item.event), EventId::to_bytes);
    let fields = doc! { "event": 1, "integration": 1 };
    let mut newest: HashMap<(EventId, ResourceId), DeliveryId> = HashMap::new();
    let of_events = doc! { "event": { "$in": ids.clone() } };
    for row in store.all(DELIVERY, of_events, fields).await? {
        let id = DeliveryId::from_bytes(row.id("_id")?);
        let key = (EventId::from_bytes(row.id("event")?), row.named("integration")?);
        newest.entry(key).and_modify(|newest| *newest = id.max(*newest)).or_insert(id);
    }
    let there = store.all(EVENT, doc! { "_id": { "$in": ids } }, doc! { "_id": 1 }).await?;
    let there = there.iter().map(|event| event.id("_id").map(EventId::from_bytes));
    let there = there.collect::<Result<Vec<_>>>()?;
    let mut admitted = Vec::with_capacity(items.len());
    for item in items {
        let key = (item.event, item.new.integration.clone());
        if there.contains(&item.event) && newest.get(&key).copied() == item.replay_of {
            newest.insert(key, item.new.id);
            admitted.push(item);
        }
    }
    Ok(admitted)
}

/// A delivery that is still to be made, as its job lists it.
fn listed(item: &NewReplay, now: Timestamp) -> Document {
    let mut listed = ingest::pending(&item.new);
    listed.insert("event", bin(item.event.to_bytes()));
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

/// Makes the deliveries that a job lists, but for those whose events were pruned since, and counts
/// these as left out.
pub(crate) async fn make(store: &MongoStore, job: &Document) -> Result<(), Failure> {
    let (id, org) = (job.get("_id").cloned(), job.named::<OrgId>("org")?);
    let listed = job.documents("pending");
    let events = listed.iter().map(|listed| listed.id("event").map(EventId::from_bytes));
    let there = stay::keep(store, events.collect::<Result<Vec<_>>>()?.into_iter()).await?;
    let mut rows = Vec::new();
    let mut further: BTreeMap<[u8; 16], Vec<Bson>> = BTreeMap::new();
    let mut changes = Changes::default();
    let mut latest = Timestamp::EPOCH;
    for pending in &listed {
        let (event, now) = (EventId::from_bytes(pending.id("event")?), pending.time("at")?);
        if !there.contains(&event) {
            continue;
        }
        let mut row = ingest::listed_row(pending, &org, event, now)?;
        row.replay_of = pending.maybe_id("replay_of").map(DeliveryId::from_bytes);
        if row.replay_of.is_none() {
            further.entry(event.to_bytes()).or_default().push(bin(row.id.to_bytes()));
        }
        changes.of(row.lane).ready(row.due_at, now);
        latest = latest.max(now);
        let mut document = row::delivery_document(&row, pending.flag("fifo"));
        put(&mut document, "job", id.clone());
        rows.push(document);
    }
    let counted: Vec<Statement> = further
        .into_iter()
        .map(|(event, made)| Statement {
            filter: doc! { "_id": bin(event) },
            change: doc! { "$addToSet": { "further": { "$each": made } } }.into(),
        })
        .collect();
    if !counted.is_empty() {
        store.update(EVENT, &counted, Miss::Counted, Lasts::No).await?;
    }
    batch::insert(store.light(DELIVERY), &rows).await?;
    changes.apply(store, latest).await?;
    let same = doc! { "_id": id, "version": job.get("version"), "pending": { "$exists": true } };
    let mut done = doc! { "$unset": { "pending": "" } };
    let gone = count(listed.len() - rows.len());
    if gone > 0 {
        let less = doc! { "job.progress.created": -gone, "job.progress.skipped": gone };
        done.insert("$inc", less);
    }
    store.light(REPLAY).update_one(same, done).await?;
    Ok(())
}
