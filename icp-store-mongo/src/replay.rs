use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use icp_core::delivery::Delivery;
use icp_core::error::{Code, Error, Result};
use icp_core::event::Event;
use icp_core::id::{DeliveryId, EventId, OrgId, ReplayId, ResourceId, SessionId};
use icp_core::replay::{
    EventRange, NewReplay, ReplayChange, ReplayClaim, ReplayClaimed, ReplayDeliveries, ReplayJob,
    ReplayQuery, ReplayScan, ReplayScanned, ReplayState, ReplayStep, ReplayStore, ScannedEvent,
    Standing,
};
use icp_core::store::Page;
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, Document, deserialize_from_bson, doc};

use super::batch::{self, Lasts, Miss, Statement};
use super::error::{Failure, contended, corrupt, told};
use super::finish::at_most;
use super::lane::{self, Changes};
use super::row::{self, Fields, bin, bins, count, kept, more_than, ms, put};
use super::store::{DELIVERY, EVENT, MongoStore, REPLAY};
use super::{delivery, ingest, stay};

/// How often a job is read again where another node was quicker.
const ROUNDS: usize = 64;

#[async_trait]
impl ReplayStore for MongoStore {
    async fn create_replay(&self, job: ReplayJob) -> Result<ReplayJob> {
        told("create a replay", create(self, &job).await)
    }

    async fn replay_job(&self, org: &OrgId, id: ReplayId) -> Result<Option<ReplayJob>> {
        let found = find(self, id).await.map(|found| found.map(|(job, _)| job));
        Ok(told("read a replay", found)?.filter(|job| job.org == *org))
    }

    async fn replay_jobs(&self, org: &OrgId, query: &ReplayQuery) -> Result<Page<ReplayJob>> {
        told("list replays", list(self, org, query).await)
    }

    async fn change_replay(
        &self,
        org: &OrgId,
        id: ReplayId,
        change: ReplayChange,
        now: Timestamp,
    ) -> Result<ReplayJob> {
        told("change a replay", alter(self, org, id, change, now).await)
    }

    async fn claim_replay(&self, claim: ReplayClaim) -> Result<ReplayClaimed> {
        told("claim a replay", claim_one(self, &claim).await)
    }

    async fn step_replay(&self, step: &ReplayStep) -> Result<ReplayJob> {
        told("step a replay", take_step(self, step).await)
    }

    async fn release_replays(&self, session: SessionId, now: Timestamp) -> Result<()> {
        told("release replays", release(self, session, now).await)
    }

    async fn scan_replay(&self, scan: &ReplayScan) -> Result<ReplayScanned> {
        told("scan events", look(self, scan).await)
    }

    async fn count_events(&self, range: &EventRange, most: u64) -> Result<u64> {
        told("count events", count_some(self, range, most).await)
    }

    async fn replay_deliveries(
        &self,
        org: &OrgId,
        query: &ReplayDeliveries,
    ) -> Result<Page<Delivery>> {
        told("list deliveries of a replay", deliveries(self, org, query).await)
    }
}

/// A job as it is kept; beside it what it is found by, and how often it was changed.
fn document(job: &ReplayJob, version: i64) -> Result<Document, Failure> {
    let mut document = doc! {
        "org": job.org.as_str(),
        "state": job.state.as_str(),
        "next_at": ms(job.next_at),
        "job": kept(job)?,
        "version": version,
    };
    put(&mut document, "open", job.state.is_open().then_some(true));
    put(&mut document, "owner", job.owner.map(|owner| bin(owner.to_bytes())));
    Ok(document)
}

fn read(found: &Document) -> Result<(ReplayJob, i64), Failure> {
    let job = found.get("job").cloned().ok_or_else(|| corrupt("a replay is empty"))?;
    Ok((deserialize_from_bson(job)?, found.int("version")?))
}

/// The job, after making what it still lists: it counts that already.
async fn find(store: &MongoStore, id: ReplayId) -> Result<Option<(ReplayJob, i64)>, Failure> {
    let this = doc! { "_id": bin(id.to_bytes()) };
    let mut found = store.light(REPLAY).find_one(this.clone()).await?;
    if let Some(job) = found.as_ref().filter(|job| job.contains_key("pending")) {
        make(store, job).await?;
        found = store.light(REPLAY).find_one(this).await?;
    }
    found.as_ref().map(read).transpose()
}

fn not_found(id: ReplayId) -> Failure {
    Error::new(Code::ReplayNotFound, format!("there is no replay `{id}`; check the id")).into()
}

async fn create(store: &MongoStore, job: &ReplayJob) -> Result<ReplayJob, Failure> {
    let mut new = document(job, 0)?;
    new.insert("_id", bin(job.id.to_bytes()));
    batch::insert(store.lasting(REPLAY), &[new]).await?;
    Ok(find(store, job.id).await?.ok_or_else(|| not_found(job.id))?.0)
}

/// Writes a job back, with what is still to be made, unless somebody else has changed it.
async fn swap(
    store: &MongoStore,
    job: &ReplayJob,
    version: i64,
    pending: Vec<Document>,
) -> Result<bool, Failure> {
    let mut set = document(job, version + 1)?;
    let mut unset = Document::new();
    put(&mut unset, "open", (!job.state.is_open()).then_some(""));
    put(&mut unset, "owner", job.owner.is_none().then_some(""));
    if !pending.is_empty() {
        set.insert("pending", pending);
    }
    let mut change = doc! { "$set": set };
    put(&mut change, "$unset", Some(unset).filter(|unset| !unset.is_empty()));
    let same = doc! {
        "_id": bin(job.id.to_bytes()), "version": version, "pending": { "$exists": false },
    };
    Ok(store.lasting(REPLAY).update_one(same, change).await?.matched_count > 0)
}

async fn alter(
    store: &MongoStore,
    org: &OrgId,
    id: ReplayId,
    change: ReplayChange,
    now: Timestamp,
) -> Result<ReplayJob, Failure> {
    for _ in 0..ROUNDS {
        let found = find(store, id).await?.filter(|(job, _)| job.org == *org);
        let (mut job, version) = found.ok_or_else(|| not_found(id))?;
        job.change(change, now)?;
        if swap(store, &job, version, Vec::new()).await? {
            return Ok(job);
        }
    }
    Err(contended().into())
}

async fn list(
    store: &MongoStore,
    org: &OrgId,
    query: &ReplayQuery,
) -> Result<Page<ReplayJob>, Failure> {
    let mut filter = doc! { "org": org.as_str() };
    put(&mut filter, "state", query.state.map(ReplayState::as_str));
    put(&mut filter, "_id", query.page.after.map(|after| doc! { "$lt": bin(after.to_bytes()) }));
    let of_org = doc! { "org": org.as_str(), "pending.id": { "$exists": true } };
    for job in store.all(REPLAY, of_org, doc! {}).await? {
        make(store, &job).await?;
    }
    let found: Vec<Document> = store
        .light(REPLAY)
        .find(filter)
        .sort(doc! { "org": -1, "_id": -1 })
        .limit(more_than(query.page.limit))
        .await?
        .try_collect()
        .await?;
    let jobs = found.iter().map(|found| Ok(read(found)?.0)).collect::<Result<_, Failure>>()?;
    Ok(Page::cut(jobs, query.page.limit))
}

async fn claim_one(store: &MongoStore, claim: &ReplayClaim) -> Result<ReplayClaimed, Failure> {
    for _ in 0..ROUNDS {
        let open: Vec<Document> = store
            .light(REPLAY)
            .find(doc! { "open": true })
            .sort(doc! { "open": 1, "next_at": 1, "_id": 1 })
            .await?
            .try_collect()
            .await?;
        let jobs = open.iter().map(read).collect::<Result<Vec<_>, Failure>>()?;
        let later = jobs.iter().map(|(job, _)| job.next_at).find(|at| *at > claim.now);
        let due = jobs.into_iter().find(|(job, _)| job.is_claimable(claim));
        let Some((mut job, version)) = due else {
            return Ok(ReplayClaimed { job: None, next_at: later });
        };
        finish_step(store, job.id).await?;
        job.claim(claim);
        if swap(store, &job, version, Vec::new()).await? {
            return Ok(ReplayClaimed { job: Some(job), next_at: None });
        }
    }
    Ok(ReplayClaimed::default())
}

async fn release(store: &MongoStore, session: SessionId, now: Timestamp) -> Result<(), Failure> {
    let owned = doc! { "owner": bin(session.to_bytes()) };
    for _ in 0..ROUNDS {
        let mut lost = false;
        for found in store.all(REPLAY, owned.clone(), doc! {}).await? {
            let (mut job, version) = read(&found)?;
            if job.state.is_open() {
                finish_step(store, job.id).await?;
                job.release(now);
                lost |= !swap(store, &job, version, Vec::new()).await?;
            }
        }
        if !lost {
            return Ok(());
        }
    }
    Err(contended().into())
}

/// Commits the step by the job's own write, which lists what is to be made.
async fn take_step(store: &MongoStore, step: &ReplayStep) -> Result<ReplayJob, Failure> {
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

async fn finish_step(store: &MongoStore, id: ReplayId) -> Result<(), Failure> {
    let open = doc! { "_id": bin(id.to_bytes()), "pending.id": { "$exists": true } };
    match store.light(REPLAY).find_one(open).await? {
        Some(job) => make(store, &job).await,
        None => Ok(()),
    }
}

/// Makes the deliveries that a job lists, but for those whose events were pruned since, and counts
/// these as left out.
async fn make(store: &MongoStore, job: &Document) -> Result<(), Failure> {
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

/// The filter of a range's events between two ids, both exclusive.
fn within(range: &EventRange, after: EventId, before: EventId) -> Document {
    doc! {
        "org": range.org.as_str(),
        "_id": { "$gt": bin(after.to_bytes()), "$lt": bin(before.to_bytes()) },
        "received_at": { "$gte": ms(range.since), "$lt": ms(range.until) },
    }
}

async fn look(store: &MongoStore, scan: &ReplayScan) -> Result<ReplayScanned, Failure> {
    let (first, last) = scan.range.ids();
    let after = scan.after.map_or(first, |after| after.max(first));
    let mut found = store
        .light(EVENT)
        .find(within(&scan.range, after, last))
        .sort(doc! { "org": 1, "_id": 1 })
        .limit(more_than(scan.limit))
        .projection(row::plain_event())
        .batch_size(100)
        .await?;
    let mut events: Vec<Arc<Event>> = Vec::new();
    let (mut bytes, mut more) = (0, false);
    while let Some(found) = found.try_next().await? {
        if events.len() >= scan.limit || (bytes >= scan.bytes && !events.is_empty()) {
            more = true;
            break;
        }
        let event = row::event(&found)?;
        bytes += event.body.len();
        events.push(Arc::new(event));
    }
    let mut standings = standings(store, &events).await?;
    let events = events.into_iter().map(|event| {
        let deliveries = standings.remove(&event.id).unwrap_or_default();
        ScannedEvent { event, deliveries: deliveries.into_values().collect() }
    });
    Ok(ReplayScanned { events: events.collect(), more })
}

async fn standings(
    store: &MongoStore,
    events: &[Arc<Event>],
) -> Result<HashMap<EventId, BTreeMap<DeliveryId, Standing>>, Failure> {
    let ids = bins(events.iter().map(|event| event.id), EventId::to_bytes);
    let fields = doc! { "event": 1, "integration": 1, "state": 1 };
    let mut standings: HashMap<EventId, BTreeMap<DeliveryId, Standing>> = HashMap::new();
    for row in store.all(DELIVERY, doc! { "event": { "$in": ids } }, fields).await? {
        let delivery = DeliveryId::from_bytes(row.id("_id")?);
        let (integration, state) = (row.named("integration")?, row.named("state")?);
        let of = standings.entry(EventId::from_bytes(row.id("event")?)).or_default();
        of.insert(delivery, Standing { delivery, integration, state });
    }
    Ok(standings)
}

async fn count_some(store: &MongoStore, range: &EventRange, most: u64) -> Result<u64, Failure> {
    let (first, last) = range.ids();
    if most == 0 {
        return Ok(0);
    }
    Ok(store.light(EVENT).count_documents(within(range, first, last)).limit(most).await?)
}

async fn deliveries(
    store: &MongoStore,
    org: &OrgId,
    query: &ReplayDeliveries,
) -> Result<Page<Delivery>, Failure> {
    finish_step(store, query.job).await?;
    let filter = doc! { "job": bin(query.job.to_bytes()), "org": org.as_str() };
    let items = delivery::page(store, filter, query.page.after, query.page.limit).await?;
    Ok(Page::cut(items, query.page.limit))
}
