use std::collections::HashMap;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use icp_core::delivery::DeliveryState;
use icp_core::error::{Error, Result};
use icp_core::id::{EventId, OrgId};
use icp_core::retention::{Cutoffs, Prune, Pruned, RetentionStore, What};
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, Document, doc};

use super::batch::{Lasts, Miss, Statement};
use super::commit;
use super::error::{Failure, told};
use super::row::{Fields, bin, count, ms};
use super::store::{AUDIT, DELIVERY, EVENT, MongoStore, VERSION};

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
    for noun in [EVENT, AUDIT] {
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
        What::Records(cutoffs) => records(store, prune, &cutoffs).await?,
        What::Keys => {
            let gone = keys(store, org, prune.now, limit).await?;
            Pruned { keys: gone, next: again(gone, limit), ..none }
        }
        What::Audit { before } => {
            let old = doc! { "org": org.as_str(), "at": { "$lt": ms(before) } };
            let gone = remove(store, AUDIT, old, doc! { "org": 1, "_id": 1 }, limit).await?;
            commit::prune(store, before).await?;
            Pruned { audit: gone, next: again(gone, limit), ..none }
        }
        What::History { before } => {
            commit::finish(store).await?;
            let old = doc! { "org": org.as_str(), "next_at": { "$lt": ms(before) } };
            let gone = remove(store, VERSION, old, doc! { "org": 1, "next_at": 1 }, limit).await?;
            Pruned { history: gone, next: again(gone, limit), ..none }
        }
        _ => none,
    })
}

/// Where a kind is looked through from its beginning each time: whether to do so again.
fn again(removed: u64, limit: usize) -> Option<String> {
    usize::try_from(removed).is_ok_and(|removed| removed >= limit).then(String::new)
}

/// Removes the first documents that match.
async fn remove(
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

async fn records(store: &MongoStore, prune: &Prune, cutoffs: &Cutoffs) -> Result<Pruned, Failure> {
    let after = prune.after.as_deref().map(str::parse::<EventId>);
    let after = after.transpose().map_err(|error: Error| error.during("prune"))?;
    let mut filter = doc! { "org": prune.org.as_str() };
    if let Some(after) = after {
        filter.insert("_id", doc! { "$gt": bin(after.to_bytes()) });
    }
    let fields =
        doc! { "received_at": 1, "key_until": 1, "pending": 1, "pruning": 1, "erasing": 1 };
    let found: Vec<Document> = store
        .light(EVENT)
        .find(filter)
        .sort(doc! { "org": 1, "_id": 1 })
        .limit(count(prune.limit.max(1)))
        .projection(fields)
        .await?
        .try_collect()
        .await?;
    let latest = ms(cutoffs.latest());
    let whole = found.len() >= prune.limit.max(1);
    let is_old = |event: &&Document| event.maybe_int("received_at").is_some_and(|at| at < latest);
    let old: Vec<&Document> = found.iter().take_while(is_old).collect();
    let more = whole && old.len() == found.len();
    let mut pruned = Pruned::default();
    if let Some(last) = old.last().filter(|_| more) {
        pruned.next = Some(EventId::from_bytes(last.id("_id")?).to_string());
    }
    prune_events(store, &old, cutoffs, prune.now, &mut pruned).await?;
    Ok(pruned)
}

/// What is to be removed of an event.
#[derive(Default)]
struct Old {
    /// All its deliveries that are old.
    rows: Vec<Bson>,
    /// Those of them that it was fanned out to.
    fan_out: Vec<Bson>,
    stays: bool,
}

async fn prune_events(
    store: &MongoStore,
    events: &[&Document],
    cutoffs: &Cutoffs,
    now: Timestamp,
    pruned: &mut Pruned,
) -> Result<(), Failure> {
    if events.is_empty() {
        return Ok(());
    }
    finish(store, events).await?;
    let ids: Vec<Bson> = events.iter().filter_map(|event| event.get("_id").cloned()).collect();
    let fields = doc! { "event": 1, "state": 1, "updated_at": 1, "replay_of": 1 };
    let mut old: HashMap<[u8; 16], Old> = HashMap::new();
    for row in store.all(DELIVERY, doc! { "event": { "$in": ids } }, fields).await? {
        let of = old.entry(row.id("event")?).or_default();
        let state: DeliveryState = row.named("state")?;
        let cutoff = match state {
            DeliveryState::Ready | DeliveryState::Leased => None,
            DeliveryState::Dead => Some(cutoffs.dead_letters),
            _ => Some(cutoffs.deliveries),
        };
        if cutoff.is_none_or(|cutoff| row.int("updated_at").is_ok_and(|at| at >= ms(cutoff))) {
            of.stays = true;
            continue;
        }
        let dead = state == DeliveryState::Dead;
        pruned.dead_letters += u64::from(dead);
        pruned.deliveries += u64::from(!dead);
        let id = row.get("_id").cloned().unwrap_or(Bson::Null);
        if !row.contains_key("replay_of") {
            of.fan_out.push(id.clone());
        }
        of.rows.push(id);
    }
    remove_rows(store, &old).await?;
    let gone: Vec<Bson> = events
        .iter()
        .filter(|event| {
            let id = event.maybe_id("_id").unwrap_or_default();
            let keyed = event.maybe_int("key_until").is_some_and(|until| until > ms(now));
            let stays = old.get(&id).is_some_and(|old| old.stays);
            let young = event.maybe_int("received_at").is_none_or(|at| at >= ms(cutoffs.events));
            !keyed && !stays && !young && !event.contains_key("pending")
        })
        .filter_map(|event| event.get("_id").cloned())
        .collect();
    if !gone.is_empty() {
        let idle = doc! { "_id": { "$in": gone }, "pending": { "$exists": false } };
        pruned.events += store.light(EVENT).delete_many(idle).await?.deleted_count;
    }
    Ok(())
}

/// Removes deliveries; their events list them as long as that is under way, so that the number
/// of those that stay is right at any moment.
async fn remove_rows(store: &MongoStore, old: &HashMap<[u8; 16], Old>) -> Result<(), Failure> {
    let rows: Vec<Bson> = old.values().flat_map(|old| old.rows.iter().cloned()).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let counted: Vec<_> = old.iter().filter(|(_, old)| !old.fan_out.is_empty()).collect();
    let marks: Vec<Statement> = counted
        .iter()
        .map(|(event, old)| Statement {
            filter: doc! { "_id": bin(**event), "pruning": { "$exists": false } },
            change: doc! { "$set": { "pruning": old.fan_out.clone() } }.into(),
        })
        .collect();
    store.update(EVENT, &marks, Miss::Counted, Lasts::No).await?;
    let ended = doc! { "$nin": ["ready", "leased"] };
    let rows = doc! { "_id": { "$in": rows }, "state": ended };
    store.light(DELIVERY).delete_many(rows).await?;
    let marks: Vec<Statement> =
        counted.iter().map(|(event, old)| close(bin(**event), &old.fan_out)).collect();
    store.update(EVENT, &marks, Miss::Counted, Lasts::No).await?;
    Ok(())
}

/// Counts what an event listed as removed.
fn close(event: Bson, listed: &[Bson]) -> Statement {
    Statement {
        filter: doc! { "_id": event, "pruning": listed },
        change: doc! {
            "$inc": { "pruned": count(listed.len()) }, "$unset": { "pruning": "" },
        }
        .into(),
    }
}

/// Removes what events still list from a call that was broken off.
async fn finish(store: &MongoStore, events: &[&Document]) -> Result<(), Failure> {
    let open: Vec<&&Document> =
        events.iter().filter(|event| event.contains_key("pruning")).collect();
    if open.is_empty() {
        return Ok(());
    }
    let rows: Vec<Bson> = open.iter().flat_map(|event| event.list("pruning").to_vec()).collect();
    store.light(DELIVERY).delete_many(doc! { "_id": { "$in": rows } }).await?;
    let marks: Vec<Statement> = open
        .iter()
        .filter_map(|event| Some(close(event.get("_id")?.clone(), event.list("pruning"))))
        .collect();
    store.update(EVENT, &marks, Miss::Counted, Lasts::No).await?;
    Ok(())
}
