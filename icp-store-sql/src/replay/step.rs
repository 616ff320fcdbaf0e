//! A batch of a replay.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use icp_core::delivery::{Lane, LaneId, LaneMode};
use icp_core::error::{Code, Error};
use icp_core::id::{EventId, OrgId};
use icp_core::replay::{NewReplay, ReplayJob, ReplayStep};
use icp_core::time::Timestamp;

use crate::error::Failure;
use crate::event;
use crate::ingest::{self, EVENTS_PRESENT};
use crate::lane::{self, Locked, Seen};
use crate::link::Conn;
use crate::replay;
use crate::rest;
use crate::statement::{Script, exact, padded};

pub(crate) async fn step(conn: &mut Conn<'_>, step: &ReplayStep) -> Result<ReplayJob, Failure> {
    let mut job = replay::existing(conn, step.job).await?;
    job.admit(step)?;
    let wanted = step.items.iter().map(|item| item.new.lane.id.to_bytes());
    let locked = lane::lock(conn, wanted).await?;
    let items = current(conn, &job.org, &step.items).await?;
    if !items.is_empty() {
        let mut script = Script::default();
        write(&mut script, &job, &items, step.now);
        let (old, new) = lanes(conn, &job.org, &items, &locked, step.now).await?;
        lane::charge(&mut script, &old);
        lane::put(&mut script, &new)?;
        if !script.execute(conn).await? {
            // Another node may have made a lane since it was looked for.
            if conn.dialect().is_shared() {
                return Err(Failure::Raced);
            }
            let message = "a batch of a replay was not written as it was meant to be";
            return Err(Error::new(Code::Internal, message).into());
        }
    }
    job.advance(step, items.len() as u64);
    replay::save(conn, &job).await?;
    Ok(job)
}

/// The items whose event is there and was not replayed by somebody else meanwhile.
async fn current<'a>(
    conn: &mut Conn<'_>,
    org: &OrgId,
    items: &'a [NewReplay],
) -> Result<Vec<&'a NewReplay>, Failure> {
    let events: BTreeSet<EventId> = items.iter().map(|item| item.event).collect();
    let events: Vec<EventId> = events.into_iter().collect();
    event::hold(conn, org, &events).await?;
    let newest = replay::newest(replay::standings(conn, org, &events).await?);
    let named: Vec<_> = events.into_iter().map(|event| (org.clone(), event)).collect();
    let present: HashSet<EventId> = ingest::present(conn, EVENTS_PRESENT, &named).await?;
    let is_current = |item: &&NewReplay| {
        let key = (item.event, item.new.integration.clone());
        present.contains(&item.event) && newest.get(&key).copied() == item.replay_of
    };
    Ok(items.iter().filter(is_current).collect())
}

pub(crate) const PUT: (&str, &str) = (
    "WITH v (id, event, integration, lane, fifo, due_at, replay_of) AS (VALUES ",
    ") INSERT OR FAIL INTO icp_delivery (id, org, event, integration, lane, fifo, state, due_at, \
     replay_of, epoch, tries, throttles, rescues, created_at, updated_at) \
     SELECT id, ?, event, integration, lane, fifo, 0, due_at, replay_of, 0, 0, 0, 0, ?, ? FROM v",
);
pub(crate) const LINK: (&str, &str) =
    ("INSERT OR FAIL INTO icp_replay_delivery (job, delivery) VALUES ", "");
pub(crate) const FAN_OUT: (&str, &str) = (
    "UPDATE icp_event AS e SET fan_out = e.fan_out + v.column2 FROM (VALUES ",
    ") AS v WHERE e.org = ? AND e.id = v.column1",
);

fn write(script: &mut Script, job: &ReplayJob, items: &[&NewReplay], now: Timestamp) {
    for chunk in exact(items) {
        script.rows(PUT.0, chunk.len(), 7, PUT.1);
        for NewReplay { event, replay_of, new } in chunk {
            script
                .bind(new.id.to_bytes().to_vec())
                .bind(event.to_bytes().to_vec())
                .bind(new.integration.shared())
                .bind(new.lane.id.to_bytes().to_vec())
                .bind(new.lane.mode == LaneMode::Fifo)
                .bind(new.due_at.as_millis())
                .bind(replay_of.map(|old| old.to_bytes().to_vec()));
        }
        script.bind(job.org.shared()).bind(now.as_millis()).bind(now.as_millis());
    }
    for chunk in exact(items) {
        script.rows(LINK.0, chunk.len(), 2, LINK.1);
        for item in chunk {
            script.bind(job.id.to_bytes().to_vec()).bind(item.new.id.to_bytes().to_vec());
        }
    }
    script.expect(2 * items.len());
    let mut further: BTreeMap<EventId, i64> = BTreeMap::new();
    for item in items.iter().filter(|item| item.replay_of.is_none()) {
        *further.entry(item.event).or_default() += 1;
    }
    let further: Vec<_> = further.into_iter().collect();
    for chunk in padded(&further) {
        script.rows(FAN_OUT.0, chunk.len(), 2, FAN_OUT.1);
        for (event, count) in chunk {
            script.bind(event.to_bytes().to_vec()).bind(*count);
        }
        script.bind(job.org.shared());
    }
    script.expect(further.len());
}

/// The lanes of the items, those there are and those to be made, as they tell of the items.
async fn lanes(
    conn: &mut Conn<'_>,
    org: &OrgId,
    items: &[&NewReplay],
    locked: &Locked,
    now: Timestamp,
) -> Result<(Vec<Lane>, Vec<Lane>), Failure> {
    let wanted: BTreeMap<[u8; 16], LaneId> =
        items.iter().map(|item| (item.new.lane.id.to_bytes(), item.new.lane.id)).collect();
    let wanted: Vec<_> = wanted.into_values().map(|id| (id, org.clone())).collect();
    let (seen, _) = lane::look_up(conn, &wanted, locked, None).await?;
    let mut seen: HashMap<LaneId, Seen> = seen.into_iter().collect();
    let known: HashSet<LaneId> =
        seen.iter().filter(|(_, seen)| seen.lane.is_some()).map(|(id, _)| *id).collect();
    if known.len() < wanted.len() {
        rest::hold(conn).await?;
    }
    for NewReplay { new, .. } in items {
        let Some(seen) = seen.get_mut(&new.lane.id) else { continue };
        let lane = seen.lane.get_or_insert_with(|| ingest::sprout(org, new, false));
        ingest::enqueue(lane, new.due_at, seen.floor, now);
    }
    let lanes = seen.into_values().filter_map(|seen| seen.lane);
    Ok(lanes.partition(|lane| known.contains(&lane.id)))
}
