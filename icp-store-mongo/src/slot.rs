//! Values with an end.

use async_trait::async_trait;
use futures_util::TryStreamExt;
use icp_core::error::Result;
use icp_core::slot::{NewSlot, Slot, SlotExpect, SlotStore};
use icp_core::time::Timestamp;
use mongodb::bson::{Document, doc};

use super::batch;
use super::error::{Failure, told};
use super::row::{Fields, count, ms};
use super::store::{MongoStore, SLOT};

#[async_trait]
impl SlotStore for MongoStore {
    async fn slot(&self, key: &str, now: Timestamp) -> Result<Option<Slot>> {
        let found = told("read a slot", one(self, key).await)?;
        Ok(found.filter(|slot| now < slot.expires_at))
    }

    async fn put_slot(&self, slot: NewSlot, expect: SlotExpect, now: Timestamp) -> Result<bool> {
        slot.check()?;
        told("put a slot", put(self, &slot, expect, now).await)
    }

    async fn remove_slot(&self, key: &str, expect: Option<u64>) -> Result<bool> {
        told("remove a slot", remove(self, key, expect).await)
    }

    async fn sweep_slots(&self, now: Timestamp, limit: usize) -> Result<u64> {
        told("sweep slots", sweep(self, now, limit).await)
    }
}

async fn one(store: &MongoStore, key: &str) -> Result<Option<Slot>, Failure> {
    let found = store.light(SLOT).find_one(doc! { "_id": key }).await?;
    let slot = found.map(|found| {
        Ok::<_, Failure>(Slot {
            key: key.to_owned(),
            value: found.text("value")?.to_owned(),
            version: found.int("version")?.cast_unsigned(),
            expires_at: found.time("expires_at")?,
        })
    });
    slot.transpose()
}

/// Whether it was put is told by what is there afterwards, so that a repetition is told the same.
async fn put(
    store: &MongoStore,
    slot: &NewSlot,
    expect: SlotExpect,
    now: Timestamp,
) -> Result<bool, Failure> {
    let new = doc! {
        "value": &slot.value,
        "version": NewSlot::version(expect, now).cast_signed(),
        "expires_at": ms(slot.expires_at),
    };
    let slots = store.lasting(SLOT);
    match expect {
        SlotExpect::Absent => {
            let over = doc! { "_id": &slot.key, "expires_at": { "$lte": ms(now) } };
            let anew = slots.update_one(over, doc! { "$set": new.clone() }).await?;
            if anew.matched_count == 0 {
                let mut first = doc! { "_id": &slot.key };
                first.extend(new);
                batch::insert(slots, &[first]).await?;
            }
        }
        SlotExpect::Version(present) => {
            let same = doc! {
                "_id": &slot.key,
                "version": present.cast_signed(),
                "expires_at": { "$gt": ms(now) },
            };
            slots.update_one(same, doc! { "$set": new }).await?;
        }
    }
    let found = one(store, &slot.key).await?;
    Ok(found.is_some_and(|found| slot.made(&found, expect, now)))
}

async fn remove(store: &MongoStore, key: &str, expect: Option<u64>) -> Result<bool, Failure> {
    let mut same = doc! { "_id": key };
    if let Some(version) = expect {
        same.insert("version", version.cast_signed());
    }
    Ok(store.lasting(SLOT).delete_one(same).await?.deleted_count > 0)
}

async fn sweep(store: &MongoStore, now: Timestamp, limit: usize) -> Result<u64, Failure> {
    let over = doc! { "$lte": ms(now) };
    let found: Vec<Document> = store
        .light(SLOT)
        .find(doc! { "expires_at": over.clone() })
        .sort(doc! { "expires_at": 1 })
        .projection(doc! { "_id": 1 })
        .limit(count(limit.max(1)))
        .await?
        .try_collect()
        .await?;
    if found.is_empty() {
        return Ok(0);
    }
    let ids: Vec<_> = found.into_iter().filter_map(|mut slot| slot.remove("_id")).collect();
    let still = doc! { "_id": { "$in": ids }, "expires_at": over };
    Ok(store.light(SLOT).delete_many(still).await?.deleted_count)
}
