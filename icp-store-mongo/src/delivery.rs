use async_trait::async_trait;
use futures_util::TryStreamExt;
use icp_core::delivery::{
    Attempt, Audit, Cancel, Claim, Claimed, Delivery, DeliveryQuery, DeliveryState, DeliveryStore,
    Lane, LaneId, Lease, Renew, Replay, Rescue, Rescued, SessionBeat, Settle, Settled, Sweep,
    Swept,
};
use icp_core::error::{Code, Error, Result};
use icp_core::id::{DeliveryId, OrgId, SessionId};
use icp_core::store::{Page, PageQuery};
use icp_core::time::Timestamp;
use mongodb::bson::{Document, doc};

use super::error::{Failure, corrupt, told};
use super::row::{self, Fields, bin, more_than, ms, put};
use super::store::{DELIVERY, LANE, MongoStore, SESSION};
use super::{audit, batch, claim, lane, note, place, rescue, settle, sleep, stay};

#[async_trait]
impl DeliveryStore for MongoStore {
    async fn open_session(&self, session: SessionId, now: Timestamp) -> Result<()> {
        told("open a session", open_session(self, session, now).await)
    }

    async fn beat(&self, session: SessionId, now: Timestamp) -> Result<()> {
        told("beat", beat(self, session, now).await)
    }

    async fn sessions(&self) -> Result<Vec<SessionBeat>> {
        told("list sessions", sessions(self).await)
    }

    async fn close_session(&self, session: SessionId) -> Result<()> {
        told("close a session", close_session(self, session).await)
    }

    async fn claim(&self, claim: Claim) -> Result<Claimed> {
        told("claim", claim::claim(self, &claim).await)
    }

    async fn renew(&self, renew: Renew) -> Result<Vec<Lease>> {
        told("renew leases", settle::renew(self, &renew).await)
    }

    async fn settle(&self, settle: Settle) -> Result<Vec<Settled>> {
        told("settle", settle::settle(self, &settle).await)
    }

    async fn rescue(&self, rescue: Rescue) -> Result<Vec<Rescued>> {
        told("rescue", rescue::rescue(self, &rescue).await)
    }

    async fn sweep(&self, sweep: Sweep) -> Result<Swept> {
        told("sweep", rescue::sweep(self, &sweep).await)
    }

    async fn replay(&self, replay: Replay) -> Result<Delivery> {
        told("replay", repeat(self, &replay).await)
    }

    async fn cancel(&self, cancel: Cancel) -> Result<Delivery> {
        told("cancel", call_off(self, &cancel).await)
    }

    async fn delivery(&self, org: &OrgId, id: DeliveryId) -> Result<Option<Delivery>> {
        let found = one(self, org, id)
            .await
            .and_then(|found| Ok(found.as_ref().map(row::delivery).transpose()?));
        told("read a delivery", found)
    }

    async fn deliveries(&self, org: &OrgId, query: &DeliveryQuery) -> Result<Page<Delivery>> {
        told("list deliveries", list(self, org, query).await)
    }

    async fn attempts(&self, org: &OrgId, delivery: DeliveryId) -> Result<Vec<Attempt>> {
        told("list attempts", attempts(self, org, delivery).await)
    }

    async fn lanes(&self, org: &OrgId, page: PageQuery<LaneId>) -> Result<Page<Lane>> {
        told("list lanes", lanes(self, org, page).await)
    }

    async fn counts(&self) -> Result<Vec<(DeliveryState, u64)>> {
        told("count deliveries", audit::counts(self).await)
    }

    async fn audit(&self) -> Result<Audit> {
        told("audit", audit::audit(self).await)
    }
}

async fn open_session(
    store: &MongoStore,
    session: SessionId,
    now: Timestamp,
) -> Result<(), Failure> {
    let known = doc! { "_id": bin(session.to_bytes()), "beat": 0_i64, "beaten_at": ms(now) };
    batch::insert(store.lasting(SESSION), &[known]).await.map(drop)
}

async fn beat(store: &MongoStore, session: SessionId, now: Timestamp) -> Result<(), Failure> {
    let beat = doc! { "$inc": { "beat": 1_i64 }, "$set": { "beaten_at": ms(now) } };
    let id = doc! { "_id": bin(session.to_bytes()) };
    if store.lasting(SESSION).update_one(id, beat).await?.matched_count > 0 {
        return Ok(());
    }
    Err(Error::new(Code::LeaseLost, "the session is not known any more; send nothing more").into())
}

async fn sessions(store: &MongoStore) -> Result<Vec<SessionBeat>, Failure> {
    let known = store.all(SESSION, doc! {}, doc! {}).await?;
    let beat = |known: &Document| {
        let session = SessionId::from_bytes(known.id("_id")?);
        Ok(SessionBeat { session, beat: known.int("beat")?.cast_unsigned() })
    };
    known.iter().map(beat).collect()
}

async fn close_session(store: &MongoStore, session: SessionId) -> Result<(), Failure> {
    let id = bin(session.to_bytes());
    let held = store.light(DELIVERY).find_one(doc! { "owner": id.clone() }).await?;
    if held.is_none() {
        store.lasting(SESSION).delete_one(doc! { "_id": id }).await?;
    }
    Ok(())
}

async fn one(store: &MongoStore, org: &OrgId, id: DeliveryId) -> Result<Option<Document>, Failure> {
    let filter = doc! { "_id": bin(id.to_bytes()), "org": org.as_str() };
    let fields = doc! { "attempts": 0, "notes": 0, "notices": 0 };
    Ok(store.light(DELIVERY).find_one(filter).projection(fields).await?)
}

async fn existing(store: &MongoStore, org: &OrgId, id: DeliveryId) -> Result<Document, Failure> {
    one(store, org, id).await?.ok_or_else(|| not_found(id))
}

fn not_found(id: DeliveryId) -> Failure {
    let message = format!("there is no delivery `{id}`; check the id");
    Error::new(Code::DeliveryNotFound, message).into()
}

fn conflict(delivery: &Delivery, wanted: &str) -> Failure {
    let (id, state) = (delivery.id, delivery.state);
    Error::new(
        Code::DeliveryStateConflict,
        format!("delivery `{id}` is {state}; only {wanted} can be taken"),
    )
    .into()
}

/// A new delivery of the same event, integration and lane as one that has ended, due at once.
pub(crate) fn repeated(old: &Delivery, id: DeliveryId, now: Timestamp) -> Delivery {
    Delivery {
        id,
        state: DeliveryState::Ready,
        due_at: now,
        epoch: 0,
        tries: 0,
        throttles: 0,
        rescues: 0,
        owner: None,
        lease_until: None,
        replay_of: Some(old.id),
        round: 0,
        reason: None,
        created_at: now,
        updated_at: now,
        ..old.clone()
    }
}

async fn repeat(store: &MongoStore, replay: &Replay) -> Result<Delivery, Failure> {
    let found = existing(store, &replay.org, replay.delivery).await?;
    let old = row::delivery(&found)?;
    if !old.state.is_final() {
        return Err(conflict(&old, "one that has ended"));
    }
    let new = Delivery { expires_at: replay.expires_at, ..repeated(&old, replay.id, replay.now) };
    let mut document = row::delivery_document(&new, found.flag("fifo"));
    document.insert("stir", bin(old.lane.to_bytes()));
    let owed = replay.note().transpose()?;
    put(&mut document, "owed", owed.as_ref().map(note::owed));
    let known = batch::insert(store.lasting(DELIVERY), std::slice::from_ref(&document)).await?;
    if !known.is_empty() {
        let made = existing(store, &replay.org, replay.id).await?;
        note::pay(store, &made).await?;
        return Ok(row::delivery(&made)?);
    }
    if stay::keep(store, std::iter::once(new.event)).await?.is_empty() {
        // It was pruned meanwhile.
        let made = doc! { "_id": bin(new.id.to_bytes()), "state": "ready" };
        store.lasting(DELIVERY).delete_one(made).await?;
        return Err(not_found(replay.delivery));
    }
    sleep::stir(store, usize::MAX, replay.now).await?;
    note::pay(store, &document).await?;
    Ok(new)
}

async fn call_off(store: &MongoStore, cancel: &Cancel) -> Result<Delivery, Failure> {
    let Cancel { org, delivery: id, reason, now, .. } = cancel;
    let set = doc! {
        "state": DeliveryState::Cancelled.as_str(),
        "reason": row::reason(reason),
        "updated_at": ms(*now),
        "owed": note::owed(&cancel.note()?),
    };
    let ready = doc! { "_id": bin(id.to_bytes()), "org": org.as_str(), "state": "ready" };
    let done = sleep::end(store, ready, set, *now).await?;
    let found = existing(store, org, *id).await?;
    let delivery = row::delivery(&found)?;
    if done == 0 {
        return Err(conflict(&delivery, "a ready one"));
    }
    note::pay(store, &found).await?;
    Ok(delivery)
}

async fn list(
    store: &MongoStore,
    org: &OrgId,
    query: &DeliveryQuery,
) -> Result<Page<Delivery>, Failure> {
    let mut filter = doc! { "org": org.as_str() };
    put(&mut filter, "state", query.state.map(DeliveryState::as_str));
    put(&mut filter, "event", query.event.map(|id| bin(id.to_bytes())));
    put(&mut filter, "integration", query.integration.as_ref().map(|id| id.as_str().to_owned()));
    page(store, filter, query.page.after, query.page.limit).await
}

/// A page of what can be read, newest first. Where nothing can, there would be no place to go on
/// from.
pub(crate) async fn page(
    store: &MongoStore,
    mut filter: Document,
    after: Option<DeliveryId>,
    limit: usize,
) -> Result<Page<Delivery>, Failure> {
    put(&mut filter, "_id", after.map(|after| doc! { "$lt": bin(after.to_bytes()) }));
    let found: Vec<Document> = store
        .light(DELIVERY)
        .find(filter)
        .sort(doc! { "_id": -1 })
        .limit(more_than(limit))
        .projection(row::without_attempts())
        .await?
        .try_collect()
        .await?;
    let (mut items, mut fault) = (Vec::with_capacity(found.len()), None);
    for found in found.iter().take(limit) {
        match row::delivery(found) {
            Ok(delivery) => items.push(delivery),
            Err(error) => fault = Some(error),
        }
    }
    match fault {
        Some(error) if items.is_empty() => return Err(error.into()),
        Some(_) => tracing::warn!("deliveries that cannot be read are left out of a list"),
        None => {}
    }
    Ok(Page { items, more: found.len() > limit })
}

async fn attempts(
    store: &MongoStore,
    org: &OrgId,
    delivery: DeliveryId,
) -> Result<Vec<Attempt>, Failure> {
    let filter = doc! { "_id": bin(delivery.to_bytes()), "org": org.as_str() };
    let found = store.light(DELIVERY).find_one(filter).projection(doc! { "attempts": 1 }).await?;
    let Some(found) = found else { return Ok(Vec::new()) };
    let made = found.documents("attempts").into_iter().map(|made| row::attempt(delivery, made));
    let mut made = made.collect::<Result<Vec<_>, Failure>>()?;
    made.sort_by_key(|attempt| attempt.epoch);
    if made.windows(2).any(|pair| pair[0].epoch == pair[1].epoch) {
        return Err(corrupt("a delivery has two attempts of one lease").into());
    }
    Ok(made)
}

async fn lanes(
    store: &MongoStore,
    org: &OrgId,
    page: PageQuery<LaneId>,
) -> Result<Page<Lane>, Failure> {
    let mut filter = doc! { "org": org.as_str() };
    put(&mut filter, "_id", page.after.map(|after| doc! { "$gt": bin(after.to_bytes()) }));
    let found: Vec<Document> = store
        .light(LANE)
        .find(filter)
        .sort(doc! { "org": 1, "_id": 1 })
        .projection(lane::plain())
        .limit(more_than(page.limit))
        .await?
        .try_collect()
        .await?;
    let mut lanes = found.iter().map(row::lane).collect::<Result<Vec<_>, Failure>>()?;
    let held = place::held(store, org).await?;
    for lane in &mut lanes {
        lane.in_flight = held.get(&lane.id).copied().unwrap_or_default();
    }
    Ok(Page::cut(lanes, page.limit))
}
