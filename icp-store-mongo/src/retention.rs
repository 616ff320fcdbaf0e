use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use icp_core::delivery::DeliveryState;
use icp_core::error::{Error, Result};
use icp_core::id::{EventId, OrgId};
use icp_core::retention::{Cutoffs, Prune, Pruned, RetentionStore, What};
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::Hint;

use super::batch::{Lasts, Miss, Statement};
use super::error::{Failure, told};
use super::row::{Fields, bin, count, ms};
use super::store::{AUDIT, DELIVERY, EVENT, LANE, MongoStore, REPLAY, ROLLUP, VERSION};
use super::{analytics, commit, lane, note, stay, step};

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
        What::Records(cutoffs) => records(store, prune, &cutoffs).await?,
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
    if prune_events(store, &old, cutoffs, prune, &mut pruned).await? {
        // The same events once more, until nothing of theirs is left that has to go.
        let again = || EventId::from_bytes([0; 16]).to_string();
        pruned.next = Some(prune.after.clone().unwrap_or_else(again));
    }
    Ok(pruned)
}

/// What an event has of deliveries.
#[derive(Default)]
struct Old {
    /// Those that are to be removed, each with whether it is a dead letter.
    rows: Vec<(Bson, bool)>,
    /// Those of them that it was fanned out to.
    fan_out: Vec<Bson>,
}

/// Answers whether there may be more deliveries of the events to remove.
async fn prune_events(
    store: &MongoStore,
    events: &[&Document],
    cutoffs: &Cutoffs,
    prune: &Prune,
    pruned: &mut Pruned,
) -> Result<bool, Failure> {
    if events.is_empty() {
        return Ok(false);
    }
    finish(store, events).await?;
    let may_go = |event: &&&Document| {
        let keyed = event.maybe_int("key_until").is_some_and(|until| until > ms(prune.now));
        let young = event.maybe_int("received_at").is_none_or(|at| at >= ms(cutoffs.events));
        !keyed && !young && !event.contains_key("pending")
    };
    let going: Vec<Bson> =
        events.iter().filter(may_go).filter_map(|event| event.get("_id").cloned()).collect();
    stay::mark(store, &going).await?;
    let old = old_deliveries(store, events, cutoffs, prune.deliveries()).await?;
    remove_rows(store, &old, pruned).await?;
    pruned.events += stay::remove(store, going).await?;
    Ok(old.values().map(|old| old.rows.len()).sum::<usize>() >= prune.deliveries())
}

async fn old_deliveries(
    store: &MongoStore,
    events: &[&Document],
    cutoffs: &Cutoffs,
    most: usize,
) -> Result<HashMap<[u8; 16], Old>, Failure> {
    let ids: Vec<Bson> = events.iter().filter_map(|event| event.get("_id").cloned()).collect();
    let fields = doc! { "event": 1, "state": 1, "replay_of": 1 };
    let mut of_events = idle();
    of_events.insert("event", doc! { "$in": ids });
    let dead = DeliveryState::Dead.as_str();
    let before = |cutoff| doc! { "$lt": ms(cutoff) };
    let ages = vec![
        doc! { "state": dead, "updated_at": before(cutoffs.dead_letters) },
        doc! { "state": { "$ne": dead }, "updated_at": before(cutoffs.deliveries) },
    ];
    of_events.insert("$or", ages);
    let found: Vec<Document> = store
        .light(DELIVERY)
        .find(of_events)
        .projection(fields)
        .hint(Hint::Name("of_event".into()))
        .limit(count(most))
        .await?
        .try_collect()
        .await?;
    let mut old: HashMap<[u8; 16], Old> = HashMap::new();
    for row in found {
        let dead = row.maybe_text("state") == Some(dead);
        let of = old.entry(row.id("event")?).or_default();
        let id = row.get("_id").cloned().unwrap_or(Bson::Null);
        if !row.contains_key("replay_of") {
            of.fan_out.push(id.clone());
        }
        of.rows.push((id, dead));
    }
    Ok(old)
}

/// Deliveries that have ended and that nothing is to follow from.
fn idle() -> Document {
    let mut idle = doc! { "state": { "$nin": ["ready", "leased"] } };
    for owed in ["repeat.id", "notices._id", "owed.src", "stir"] {
        idle.insert(owed, doc! { "$exists": false });
    }
    idle
}

/// Removes deliveries; their events list them as long as that is under way, so that the number
/// of those that stay is right at any moment.
async fn remove_rows(
    store: &MongoStore,
    old: &HashMap<[u8; 16], Old>,
    pruned: &mut Pruned,
) -> Result<(), Failure> {
    let rows: Vec<Bson> =
        old.values().flat_map(|old| &old.rows).map(|(id, _)| id.clone()).collect();
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
    let stayed = remove_idle(store, rows).await?;
    let gone = old.values().flat_map(|old| &old.rows).filter(|(id, _)| !stayed.contains(id));
    for (_, dead) in gone {
        pruned.dead_letters += u64::from(*dead);
        pruned.deliveries += u64::from(!*dead);
    }
    let marks: Vec<Statement> =
        counted.iter().map(|(event, old)| close(bin(**event), &old.fan_out, &stayed)).collect();
    store.update(EVENT, &marks, Miss::Counted, Lasts::No).await?;
    Ok(())
}

/// Removes those of the deliveries that are still idle; answers the others.
async fn remove_idle(store: &MongoStore, rows: Vec<Bson>) -> Result<Vec<Bson>, Failure> {
    let rows = doc! { "$in": rows };
    let mut still = idle();
    still.insert("_id", rows.clone());
    store.light(DELIVERY).delete_many(still).await?;
    let stayed = store.all(DELIVERY, doc! { "_id": rows }, doc! { "_id": 1 }).await?;
    Ok(stayed.into_iter().filter_map(|mut row| row.remove("_id")).collect())
}

/// Counts what an event listed as removed, but for those that stayed.
fn close(event: Bson, listed: &[Bson], stayed: &[Bson]) -> Statement {
    let gone = listed.iter().filter(|id| !stayed.contains(id)).count();
    Statement {
        filter: doc! { "_id": event, "pruning": listed },
        change: doc! { "$inc": { "pruned": count(gone) }, "$unset": { "pruning": "" } }.into(),
    }
}

/// Removes what events still list from a call that was broken off.
async fn finish(store: &MongoStore, events: &[&Document]) -> Result<(), Failure> {
    let open: Vec<&&Document> =
        events.iter().filter(|event| event.contains_key("pruning")).collect();
    if open.is_empty() {
        return Ok(());
    }
    let rows = open.iter().flat_map(|event| event.list("pruning").to_vec()).collect();
    let stayed = remove_idle(store, rows).await?;
    let marks: Vec<Statement> = open
        .iter()
        .filter_map(|event| Some(close(event.get("_id")?.clone(), event.list("pruning"), &stayed)))
        .collect();
    store.update(EVENT, &marks, Miss::Counted, Lasts::No).await?;
    Ok(())
}
