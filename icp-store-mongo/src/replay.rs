use async_trait::async_trait;
use futures_util::TryStreamExt;
use icp_core::delivery::Delivery;
use icp_core::error::{Code, Error, Result};
use icp_core::id::{OrgId, ReplayId, SessionId};
use icp_core::replay::{
    EventRange, ReplayChange, ReplayClaim, ReplayClaimed, ReplayDeliveries, ReplayJob, ReplayQuery,
    ReplayScan, ReplayScanned, ReplayState, ReplayStep, ReplayStore,
};
use icp_core::store::Page;
use icp_core::time::Timestamp;
use mongodb::bson::{Document, deserialize_from_bson, doc};

use super::batch;
use super::error::{Failure, contended, corrupt, told};
use super::row::{Fields, bin, kept, more_than, ms, put};
use super::store::{MongoStore, REPLAY};
use super::{delivery, scan, step};

/// How often a job is read again where another node was quicker.
pub(crate) const ROUNDS: usize = 64;

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
        told("step a replay", step::take_step(self, step).await)
    }

    async fn release_replays(&self, session: SessionId, now: Timestamp) -> Result<()> {
        told("release replays", release(self, session, now).await)
    }

    async fn scan_replay(&self, scan: &ReplayScan) -> Result<ReplayScanned> {
        told("scan events", scan::look(self, scan).await)
    }

    async fn count_events(&self, range: &EventRange, most: u64) -> Result<u64> {
        told("count events", scan::count_some(self, range, most).await)
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
    put(&mut document, "ended_at", job.ended_at.map(ms));
    put(&mut document, "open", job.state.is_open().then_some(true));
    put(&mut document, "owner", job.owner.map(|owner| bin(owner.to_bytes())));
    Ok(document)
}

fn read(found: &Document) -> Result<(ReplayJob, i64), Failure> {
    let job = found.get("job").cloned().ok_or_else(|| corrupt("a replay is empty"))?;
    Ok((deserialize_from_bson(job)?, found.int("version")?))
}

/// The job, after making what it still lists: it counts that already.
pub(crate) async fn find(
    store: &MongoStore,
    id: ReplayId,
) -> Result<Option<(ReplayJob, i64)>, Failure> {
    let this = doc! { "_id": bin(id.to_bytes()) };
    let mut found = store.light(REPLAY).find_one(this.clone()).await?;
    if let Some(job) = found.as_ref().filter(|job| job.contains_key("pending")) {
        step::make(store, job).await?;
        found = store.light(REPLAY).find_one(this).await?;
    }
    found.as_ref().map(read).transpose()
}

pub(crate) fn not_found(id: ReplayId) -> Failure {
    Error::new(Code::ReplayNotFound, format!("there is no replay `{id}`; check the id")).into()
}

async fn create(store: &MongoStore, job: &ReplayJob) -> Result<ReplayJob, Failure> {
    let mut new = document(job, 0)?;
    new.insert("_id", bin(job.id.to_bytes()));
    batch::insert(store.lasting(REPLAY), &[new]).await?;
    Ok(find(store, job.id).await?.ok_or_else(|| not_found(job.id))?.0)
}

/// Writes a job back, with what is still to be made, unless somebody else has changed it.
pub(crate) async fn swap(
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
        step::make(store, &job).await?;
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
        step::finish_step(store, job.id).await?;
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
                step::finish_step(store, job.id).await?;
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

async fn deliveries(
    store: &MongoStore,
    org: &OrgId,
    query: &ReplayDeliveries,
) -> Result<Page<Delivery>, Failure> {
    step::finish_step(store, query.job).await?;
    let filter = doc! { "job": bin(query.job.to_bytes()), "org": org.as_str() };
    delivery::page(store, filter, query.page.after, query.page.limit).await
}
