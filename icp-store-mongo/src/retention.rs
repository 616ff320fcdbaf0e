mod records;

use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use icp_core::error::Result;
use icp_core::id::OrgId;
use icp_core::retention::{Prune, Pruned, RetentionStore, What};
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, Document, doc};

use super::error::{Failure, told};
use super::row::{Fields, count, ms};
use super::store::{AUDIT, DELIVERY, EVENT, LANE, MongoStore, REPLAY, ROLLUP, VERSION};
use super::{analytics, commit, lane, note, step};

/// How long what is left of writes is kept, however long audit rows are.
const LOG: Duration = Duration::from_secs(86_400);

#[async_trait]
impl RetentionStore for MongoStore {
    async fn next_organization(&self, after: Option<&OrgId>) -> Result<Option<OrgId>> {
        told("find an organization", next_organization(self, after).await)
    }

    async fn prune(&self, prune: &Prune) -> Result<Pruned> {
        told("prune", prune_some(self, prune).await)
    }
}

async fn next_organization(
    store: &MongoStore,
    after: Option<&OrgId>,
) -> Result<Option<OrgId>, Failure> {
    let mut next = None;
    for noun in [EVENT, AUDIT, REPLAY, LANE, ROLLUP] {
        let filter =
            after.map_or_else(|| doc! {}, |after| doc! { "org": { "$gt": after.as_str() } });
        let first = store.first(noun, filter, doc! { "org": 1, "_id": 1 }, doc! { "org": 1 });
        if let Some(found) = first.await? {
            let org: OrgId = found.named("org")?;
            next = Some(next.map_or(org.clone(), |earlier: OrgId| earlier.min(org)));
        }
    }
    Ok(next)
}

async fn prune_some(store: &MongoStore, prune: &Prune) -> Result<Pruned, Failure> {
    let (org, limit) = (&prune.org, prune.limit.max(1));
    let none = Pruned::default();
    Ok(match prune.what {
        What::Records(cutoffs) => records::prune(store, prune, &cutoffs).await?,
        What::Keys => {
            let gone = keys(store, org, prune.now, limit).await?;
            Pruned { keys: gone, next: again(gone, limit), ..none }
        }
        What::Audit { before } => {
            let gone = audit(store, org, before, limit).await?;
            commit::prune(store, before.max(prune.now - LOG)).await?;
            Pruned { audit: gone, next: again(gone, limit), ..none }
        }
        What::History { before } => {
            commit::finish(store).await?;
            let old = doc! { "org": org.as_str(), "next_at": { "$lt": ms(before) } };
            let gone = remove(store, VERSION, old, doc! { "org": 1, "next_at": 1 }, limit).await?;
            Pruned { history: gone, next: again(gone, limit), ..none }
        }
        What::Replays { before } => replays(store, org, before, limit).await?,
        What::Lanes => lane::prune::prune(store, prune).await?,
        What::Rollups(cutoffs) => analytics::prune(store, prune, &cutoffs, limit).await?,
        _ => none,
    })
}

/// The oldest rows, without a gap, so that the rest still hangs together. Whoever looks at the
/// chain knows of their end before it comes.
async fn audit(
    store: &MongoStore,
    org: &OrgId,
    before: Timestamp,
    limit: usize,
) -> Result<u64, Failure> {
    commit::finish(store).await?;
    let found: Vec<Document> = store
        .light(AUDIT)
        .find(doc! { "org": org.as_str() })
        .sort(doc! { "org": 1, "_id": 1 })
        .projection(doc! { "at": 1, "number": 1, "chain": 1 })
        .limit(count(limit))
        .await?
        .try_collect()
        .await?;
    let is_old = |row: &&Document| row.maybe_int("at").is_some_and(|at| at < ms(before));
    let old: Vec<&Document> = found.iter().take_while(is_old).collect();
    let Some(last) = old.last() else { return Ok(0) };
    note::pruned(store, org, &note::link(last, "_id")?).await?;
    let ids: Vec<Bson> = old.iter().filter_map(|row| row.get("_id").cloned()).collect();
    Ok(store.light(AUDIT).delete_many(doc! { "_id": { "$in": ids } }).await?.deleted_count)
}

/// Where a kind is looked through from its beginning each time: whether to do so again.
pub(crate) fn again(removed: u64, limit: usize) -> Option<String> {
    usize::try_from(removed).is_ok_and(|removed| removed >= limit).then(String::new)
}

/// Removes the first documents that match.
pub(crate) async fn remove(
    store: &MongoStore,
    noun: &str,
    filter: Document,
    order: Document,
    limit: usize,
) -> Result<u64, Failure> {
    let ids = first(store, noun, filter, order, limit).await?;
    if ids.is_empty() {
        return Ok(0);
    }
    Ok(store.light(noun).delete_many(doc! { "_id": { "$in": ids } }).await?.deleted_count)
}

async fn first(
    store: &MongoStore,
    noun: &str,
    filter: Document,
    order: Document,
    limit: usize,
) -> Result<Vec<Bson>, Failure> {
    let found: Vec<Document> = store
        .light(noun)
        .find(filter)
        .sort(order)
        .projection(doc! { "_id": 1 })
        .limit(count(limit))
        .await?
        .try_collect()
        .await?;
    Ok(found.into_iter().filter_map(|mut found| found.remove("_id")).collect())
}

/// Each delivery tells by which replay it was made; those that a job still lists are made first.
async fn replays(
    store: &MongoStore,
    org: &OrgId,
    before: Timestamp,
    limit: usize,
) -> Result<Pruned, Failure> {
    let old = doc! { "org": org.as_str(), "ended_at": { "$lt": ms(before) } };
    let order = doc! { "org": 1, "ended_at": 1 };
    let mut pruned = Pruned::default();
    let mut room = limit;
    for job in first(store, REPLAY, old, order, limit).await? {
        let this = doc! { "_id": job.clone() };
        let Some(found) = store.light(REPLAY).find_one(this).await? else { continue };
        if found.contains_key("pending") {
            step::make(store, &found).await?;
        }
        let (made, by_job) = (doc! { "job": job.clone() }, doc! { "job": 1, "_id": 1 });
        let links = first(store, DELIVERY, made, by_job, room).await?;
        if !links.is_empty() {
            let links = doc! { "_id": { "$in": links.clone() } };
            store.light(DELIVERY).update_many(links, doc! { "$unset": { "job": "" } }).await?;
        }
        room -= links.len().min(room);
        if room > 0 {
            let done = doc! { "_id": job, "pending": { "$exists": false } };
            pruned.replays += store.light(REPLAY).delete_one(done).await?.deleted_count;
            room -= 1;
        }
        if room == 0 {
            pruned.next = Some(String::new());
            break;
        }
    }
    Ok(pruned)
}

async fn keys(
    store: &MongoStore,
    org: &OrgId,
    now: Timestamp,
    limit: usize,
) -> Result<u64, Failure> {
    let over = doc! { "org": org.as_str(), "key_until": { "$lte": ms(now) } };
    let order = doc! { "org": 1, "key_until": 1 };
    let ids = first(store, EVENT, over.clone(), order, limit).await?;
    if ids.is_empty() {
        return Ok(0);
    }
    let free = doc! { "$unset": { "live_key": "", "key_until": "", "body_hash": "" } };
    let still = doc! { "_id": { "$in": ids }, "key_until": { "$lte": ms(now) } };
    Ok(store.light(EVENT).update_many(still, free).await?.modified_count)
}
