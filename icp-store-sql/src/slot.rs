//! Values with an end.

use async_trait::async_trait;
use icp_core::error::Result;
use icp_core::slot::{NewSlot, Slot, SlotExpect, SlotStore};
use icp_core::time::Timestamp;
use sqlx::Database;

use crate::error::{Failure, corrupt};
use crate::link::Conn;
use crate::row::{self, more_than};
use crate::scope::Scope;
use crate::statement::{padded, statement, values};
use crate::store::{SqlStore, commit, read};

#[async_trait]
impl<D: Database> SlotStore for SqlStore<D> {
    async fn slot(&self, key: &str, now: Timestamp) -> Result<Option<Slot>> {
        let found = read!(self, Scope::Node, "read a slot", |conn| one(conn, key).await)?;
        Ok(found.filter(|slot| now < slot.expires_at))
    }

    async fn put_slot(&self, slot: NewSlot, expect: SlotExpect, now: Timestamp) -> Result<bool> {
        slot.check()?;
        commit!(self, Scope::Node, "put a slot", |tx| put(tx, &slot, expect, now).await)
    }

    async fn remove_slot(&self, key: &str, expect: Option<u64>) -> Result<bool> {
        commit!(self, Scope::Node, "remove a slot", |tx| remove(tx, key, expect).await)
    }

    async fn sweep_slots(&self, now: Timestamp, limit: usize) -> Result<u64> {
        commit!(self, Scope::Node, "sweep slots", |tx| sweep(tx, now, limit).await)
    }
}

pub(crate) const ONE: &str = "SELECT value, version, expires_at FROM icp_slot WHERE name = ?";
pub(crate) const NEW: &str = "INSERT INTO icp_slot (name, value, version, expires_at) \
     VALUES (?, ?, ?, ?) ON CONFLICT (name) DO NOTHING";
/// In place of one whose time is over.
pub(crate) const ANEW: &str = "UPDATE icp_slot SET value = ?, version = ?, expires_at = ? \
     WHERE name = ? AND expires_at <= ?";
pub(crate) const NEXT: &str = "UPDATE icp_slot SET value = ?, version = ?, expires_at = ? \
     WHERE name = ? AND version = ? AND expires_at > ?";

async fn one(conn: &mut Conn<'_>, key: &str) -> Result<Option<Slot>, Failure> {
    let found = statement(ONE).bind(key.as_bytes().to_vec()).fetch_optional(conn).await?;
    let Some(found) = found else { return Ok(None) };
    let value = String::from_utf8(found.try_get(0)?);
    Ok(Some(Slot {
        key: key.to_owned(),
        value: value.map_err(|_| corrupt("the value of a slot is not utf-8"))?,
        version: found.try_get::<i64>(1)?.cast_unsigned(),
        expires_at: row::time(&found, 2)?,
    }))
}

/// Whether it was put is told by what is there afterwards, so that a repetition is told the same.
async fn put(
    conn: &mut Conn<'_>,
    slot: &NewSlot,
    expect: SlotExpect,
    now: Timestamp,
) -> Result<bool, Failure> {
    let (name, value) = (slot.key.as_bytes().to_vec(), slot.value.as_bytes().to_vec());
    let version = NewSlot::version(expect, now).cast_signed();
    let ends = slot.expires_at.as_millis();
    let change = |sql| statement(sql).bind(value.clone()).bind(version).bind(ends);
    match expect {
        SlotExpect::Absent => {
            let anew = change(ANEW).bind(name.clone()).bind(now.as_millis());
            if anew.execute(&mut *conn).await? == 0 {
                let new = statement(NEW).bind(name).bind(value.clone());
                new.bind(version).bind(ends).execute(&mut *conn).await?;
            }
        }
        SlotExpect::Version(present) => {
            let next = change(NEXT).bind(name).bind(present.cast_signed()).bind(now.as_millis());
            next.execute(&mut *conn).await?;
        }
    }
    let found = one(conn, &slot.key).await?;
    Ok(found.is_some_and(|found| slot.made(&found, expect, now)))
}

async fn remove(conn: &mut Conn<'_>, key: &str, expect: Option<u64>) -> Result<bool, Failure> {
    let mut sql = statement("DELETE FROM icp_slot WHERE name = ");
    sql.push_bind(key.as_bytes().to_vec());
    if let Some(version) = expect {
        sql.push(" AND version = ").push_bind(version.cast_signed());
    }
    Ok(sql.execute(conn).await? > 0)
}

pub(crate) const OVER: &str =
    "SELECT name FROM icp_slot WHERE expires_at <= ? ORDER BY expires_at LIMIT +?";
pub(crate) const SWEEP: (&str, &str) =
    ("DELETE FROM icp_slot WHERE name IN (VALUES ", ") AND expires_at <= ?");

async fn sweep(conn: &mut Conn<'_>, now: Timestamp, limit: usize) -> Result<u64, Failure> {
    let over = statement(format!("{OVER}{}", conn.dialect().skip_locked()))
        .bind(now.as_millis())
        .bind(more_than(limit) - 1)
        .fetch_all(&mut *conn)
        .await?;
    let names = over.iter().map(|found| found.try_get(0));
    let names: Vec<Vec<u8>> = names.collect::<Result<_, _>>()?;
    let mut gone = 0;
    for chunk in padded(&names) {
        let mut sweep = values(SWEEP.0, chunk.len(), 1, SWEEP.1);
        for name in chunk {
            sweep.bind(name.clone());
        }
        sweep.bind(now.as_millis());
        gone += sweep.changes(&mut *conn).await?;
    }
    Ok(gone)
}
