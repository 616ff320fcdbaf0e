use std::collections::{BTreeMap, HashMap, HashSet};

use icp_core::delivery::health::{LaneHealth, Pace};
use icp_core::delivery::{Lane, LaneId, LaneMode};
use icp_core::event::{Direct, Event, Ingest, IngestItem, Ingested, LaneSeed, NewDelivery};
use icp_core::id::{DeliveryId, EventId, OrgId};
use icp_core::time::Timestamp;

use crate::dialect::Dialect;
use crate::error::{Failure, corrupt};
use crate::lane::{self, Seen};
use crate::link::Conn;
use crate::meter::Meters;
use crate::rest;
use crate::row::{self, Hex, PLAIN_EVENT, WHOLE_EVENT};
use crate::session;
use crate::statement::{Script, exact, fitted, padded, text, values};

/// Takes in events of which none is in the store; answers nothing where one is. That needs no look
/// before, as the insert tells.
pub(crate) async fn fresh(
    conn: &mut Conn<'_>,
    batch: &Ingest,
) -> Result<Option<Vec<Ingested>>, Failure> {
    let known = Known::besides_events(conn, batch).await?;
    write(conn, batch, known).await
}

/// Takes in events that may be in the store already.
pub(crate) async fn any(conn: &mut Conn<'_>, batch: &Ingest) -> Result<Vec<Ingested>, Failure> {
    let mut known = Known::besides_events(conn, batch).await?;
    let ids: Vec<_> =
        batch.items.iter().map(|item| (item.event.org.clone(), item.event.id)).collect();
    known.events = present(conn, EVENTS_PRESENT, &ids).await?;
    match write(conn, batch, known).await? {
        Some(answers) => Ok(answers),
        None if conn.dialect().is_shared() => Err(Failure::Raced),
        None => Err(corrupt("an event, delivery or lane is there and not there").into()),
    }
}

/// Judges the events by what is `known` and writes what follows; answers nothing, and has to be
/// undone, where one of them is in the store and not known.
async fn write(
    conn: &mut Conn<'_>,
    batch: &Ingest,
    mut known: Known,
) -> Result<Option<Vec<Ingested>>, Failure> {
    let mut answers: Vec<Ingested> =
        batch.items.iter().map(|item| known.judge(item, batch.now)).collect();
    let accepted: Vec<&IngestItem> = batch
        .items
        .iter()
        .zip(&answers)
        .filter_map(|(item, answer)| matches!(answer, Ingested::Accepted { .. }).then_some(item))
        .collect();
    let done: Vec<EventId> = batch
        .items
        .iter()
        .zip(&answers)
        .filter(|(_, answer)| !matches!(answer, Ingested::Conflict { .. } | Ingested::Gone))
        .filter_map(|(item, _)| item.outbox)
        .collect();
    let mut script = Script::default();
    write_events(&mut script, &accepted);
    let keys = keyed(&accepted);
    if conn.dialect() == Dialect::MySql {
        forget_lapsed(conn, &keys, &known, batch.now).await?;
        write_keys(&mut script, &keys, NEW_KEYS, batch.now);
    } else {
        write_keys(&mut script, &keys, PUT_KEYS, batch.now);
    }
    let leased = write_deliveries(conn, &mut script, &accepted, batch).await?;
    forget_outbox(&mut script, &done);
    if !script.execute(conn).await? {
        return Ok(None);
    }
    for (item, answer) in batch.items.iter().zip(&mut answers) {
        if let Ingested::Accepted { leased: own } = answer {
            own.extend(item.deliveries.iter().map(|d| d.id).filter(|id| leased.contains(id)));
        }
    }
    Ok(Some(answers))
}

/// What is in the store of the events of a batch, kept up to date while it is judged.
struct Known {
    events: HashSet<EventId>,
    outbox: HashSet<EventId>,
    keys: HashMap<(String, String), (EventId, Vec<u8>)>,
    /// Whether one of the keys was there once.
    lapsed: bool,
}

impl Known {
    /// All but which events are there.
    async fn besides_events(conn: &mut Conn<'_>, batch: &Ingest) -> Result<Self, Failure> {
        let rows: Vec<_> = batch
            .items
            .iter()
            .filter_map(|item| Some((item.event.org.clone(), item.outbox?)))
            .collect();
        let outbox = present(conn, OUTBOX_PRESENT, &rows).await?;
        let (mut keys, mut lapsed) = (HashMap::new(), false);
        let named: Vec<(&OrgId, &str)> = batch
            .items
            .iter()
            .filter_map(|item| Some((&item.event.org, item.event.idempotency_key.as_deref()?)))
            .collect();
        for chunk in padded(&named) {
            let mut query = values(KEYS.0, chunk.len(), 2, KEYS.1);
            for (org, key) in chunk {
                query.bind(org.shared()).bind(text(key));
            }
            for found in query.fetch_all(&mut *conn).await? {
                if row::time(&found, 4)? > batch.now {
                    let event = EventId::from_bytes(row::bytes(&found, 2)?);
                    let key = (found.try_get(0)?, found.try_get(1)?);
                    keys.insert(key, (event, found.try_get(3)?));
                } else {
                    lapsed = true;
                }
            }
        }
        Ok(Self { events: HashSet::new(), outbox, keys, lapsed })
    }

    fn judge(&mut self, item: &IngestItem, now: Timestamp) -> Ingested {
        let event = &item.event;
        if item.outbox.is_some_and(|id| !self.outbox.contains(&id)) {
            return Ingested::Gone;
        }
        let key = event.idempotency_key.as_deref();
        let key = key.map(|key| (event.org.as_str().to_owned(), key.to_owned()));
        let holder = key.as_ref().and_then(|key| self.keys.get(key));
        let answer = match holder {
            Some((with, hash)) if *hash != item.body_hash => {
                return Ingested::Conflict { with: *with };
            }
            Some((of, _)) => Ingested::Duplicate { of: *of },
            None if self.events.contains(&event.id) => Ingested::Duplicate { of: event.id },
            None => {
                self.events.insert(event.id);
                let lives = now + item.idempotency_window > now;
                if let Some(key) = key.filter(|_| lives) {
                    self.keys.insert(key, (event.id, item.body_hash.to_vec()));
                }
                Ingested::Accepted { leased: Vec::new() }
            }
        };
        if let Some(id) = item.outbox {
            self.outbox.remove(&id);
        }
        answer
    }
}

pub(crate) const KEYS: (&str, &str) = (
    "WITH v (org, key) AS (VALUES ",
    ") SELECT i.org, i.key, i.event, i.body_hash, i.expires_at FROM v CROSS JOIN \
     icp_idempotency i ON i.org = v.org AND i.key = v.key",
);
pub(crate) const PRESENT: &str = "WITH v (org, id) AS (VALUES ";
pub(crate) const EVENTS_PRESENT: &str = ") SELECT json_group_array(hex(e.id)) \
     FROM v CROSS JOIN icp_event e ON e.org = v.org AND e.id = v.id";
pub(crate) const OUTBOX_PRESENT: &str = ") SELECT json_group_array(hex(e.id)) \
     FROM v CROSS JOIN icp_outbox e ON e.org = v.org AND e.id = v.id";

pub(crate) async fn present(
    conn: &mut Conn<'_>,
    tail: &str,
    ids: &[(OrgId, EventId)],
) -> Result<HashSet<EventId>, Failure> {
    let mut present = HashSet::new();
    for chunk in padded(ids) {
        let mut query = values(PRESENT, chunk.len(), 2, tail);
        for (org, id) in chunk {
            query.bind(org.shared()).bind(id.to_bytes().to_vec());
        }
        let found = query.fetch_one(&mut *conn).await?;
        for id in row::array::<Hex>(&found, 0)? {
            present.insert(EventId::from_bytes(id.some()?));
        }
    }
    Ok(present)
}

/// Writes the events that are not there.
fn write_events(script: &mut Script, items: &[&IngestItem]) {
    let (plain, whole): (Vec<&IngestItem>, Vec<&IngestItem>) =
        items.iter().partition(|item| row::is_plain(&item.event));
    let mut write =
        |items: &[&IngestItem], (columns, width), bind: fn(&mut Script, &Event, usize)| {
            let head = format!("INSERT OR FAIL INTO icp_event ({columns}) VALUES ");
            for chunk in fitted(items) {
                script.rows(&head, chunk.len(), width, " ON CONFLICT (org, id) DO NOTHING");
                for item in chunk {
                    bind(script, &item.event, item.deliveries.len());
                }
            }
            script.expect(items.len());
        };
    write(&plain, PLAIN_EVENT, row::bind_plain_event);
    write(&whole, WHOLE_EVENT, row::bind_event);
}

pub(crate) const PUT_KEYS: (&str, &str) = (
    "INSERT INTO icp_idempotency (org, key, event, body_hash, expires_at) VALUES ",
    " ON CONFLICT (org, key) DO UPDATE SET event = excluded.event, \
     body_hash = excluded.body_hash, expires_at = excluded.expires_at \
     WHERE icp_idempotency.expires_at <= ?",
);

/// Where a key that lapsed cannot be written again by the same statement.
const NEW_KEYS: (&str, &str) = (PUT_KEYS.0, " ON CONFLICT (org, key) DO NOTHING");

const LAPSED: (&str, &str) =
    ("DELETE FROM icp_idempotency WHERE (org, key) IN (VALUES ", ") AND expires_at <= ?");

fn keyed<'a>(items: &[&'a IngestItem]) -> Vec<(&'a IngestItem, &'a str)> {
    let keyed = items.iter().map(|item| Some((*item, item.event.idempotency_key.as_deref()?)));
    keyed.flatten().collect()
}

/// Forgets those of the keys that have lapsed.
async fn forget_lapsed(
    conn: &mut Conn<'_>,
    keyed: &[(&IngestItem, &str)],
    known: &Known,
    now: Timestamp,
) -> Result<(), Failure> {
    if !known.lapsed {
        return Ok(());
    }
    for chunk in padded(keyed) {
        let mut query = values(LAPSED.0, chunk.len(), 2, LAPSED.1);
        for (item, key) in chunk {
            query.bind(item.event.org.shared()).bind(text(key));
        }
        query.bind(now.as_millis());
        query.changes(&mut *conn).await?;
    }
    Ok(())
}

fn write_keys(
    script: &mut Script,
    keyed: &[(&IngestItem, &str)],
    (head, tail): (&str, &str),
    now: Timestamp,
) {
    for chunk in exact(keyed) {
        script.rows(head, chunk.len(), 5, tail);
        for (item, key) in chunk {
            script
                .bind(item.event.org.shared())
                .bind(text(key))
                .bind(item.event.id.to_bytes().to_vec())
                .bind(item.body_hash.to_vec())
                .bind((now + item.idempotency_window).as_millis());
        }
        if tail == PUT_KEYS.1 {
            script.bind(now.as_millis());
        }
    }
    script.expect(keyed.len());
}

pub(crate) const FORGET_OUTBOX: &str = "DELETE FROM icp_outbox WHERE id IN (VALUES ";

fn forget_outbox(script: &mut Script, ids: &[EventId]) {
    for chunk in padded(ids) {
        script.rows(FORGET_OUTBOX, chunk.len(), 1, ")");
        for id in chunk {
            script.bind(id.to_bytes().to_vec());
        }
    }
    script.expect(ids.len());
}

/// Adds to `script` the deliveries and their lanes; answers which are leased at once.
async fn write_deliveries(
    conn: &mut Conn<'_>,
    script: &mut Script,
    items: &[&IngestItem],
    batch: &Ingest,
) -> Result<HashSet<DeliveryId>, Failure> {
    let all: Vec<(&Event, &NewDelivery)> = items
        .iter()
        .flat_map(|item| item.deliveries.iter().map(|delivery| (&*item.event, delivery)))
        .collect();
    if all.is_empty() {
        return Ok(HashSet::new());
    }
    let wanted: BTreeMap<[u8; 16], (LaneId, OrgId)> = all
        .iter()
        .map(|(event, d)| (d.lane.id.to_bytes(), (d.lane.id, event.org.clone())))
        .collect();
    let wanted: Vec<_> = wanted.into_values().collect();
    let locked = lane::lock(conn, wanted.iter().map(|(id, _)| id.to_bytes())).await?;
    let session = batch.direct.map(|direct| direct.session);
    if let Some(session) = session {
        session::hold(conn, session).await?;
    }
    let (seen, known) = lane::look_up(conn, &wanted, &locked, session).await?;
    let mut seen: HashMap<LaneId, Seen> = seen.into_iter().collect();
    let direct = batch.direct.filter(|_| known);
    let known: HashSet<LaneId> =
        seen.iter().filter(|(_, seen)| seen.lane.is_some()).map(|(id, _)| *id).collect();
    if known.len() < wanted.len() {
        rest::hold(conn).await?;
    }
    let resting =
        if direct.is_some() { resting(conn, &all, &known).await? } else { HashSet::new() };
    let mut left = direct.map_or(0, |direct| direct.budget);
    let mut meters = if left > 0 {
        let new = all.iter().map(|(event, new)| (&event.org, &new.integration, &new.lane.rules));
        let old = seen.values().filter_map(|seen| seen.lane.as_ref());
        let old = old.map(|lane| (&lane.org, &lane.integration, &lane.rules));
        Meters::of(conn, new.chain(old)).await?
    } else {
        Meters::default()
    };
    let mut leased = HashSet::new();
    for (event, new) in &all {
        let Some(seen) = seen.get_mut(&new.lane.id) else { continue };
        let (floor, busy) = (seen.floor, seen.runnable);
        let rests = resting.contains(&new.lane.id);
        let lane = seen.lane.get_or_insert_with(|| sprout(&event.org, new, rests));
        if left > 0 && fits(lane, new, batch.now) && meters.room(lane, batch.now) > 0 {
            left -= 1;
            leased.insert(new.id);
            lane.in_flight += 1;
            lane.pass = lane.pass.max(floor.unwrap_or(lane.pass));
            lane.pass += Lane::stride(lane.weight, busy + 1);
            meters.spend(lane, 1, batch.now);
        } else {
            enqueue(lane, new.due_at, floor, batch.now);
        }
    }
    insert(script, &all, &leased, direct, batch.now);
    let lanes = seen.into_values().filter_map(|seen| seen.lane);
    let (old, new): (Vec<Lane>, Vec<Lane>) = lanes.partition(|lane| known.contains(&lane.id));
    lane::charge(script, &old);
    lane::put(script, &new)?;
    meters.write(script);
    Ok(leased)
}

/// Which of the lanes to be made rest from the start, so that nothing is handed over. Only of
/// those that could be: the store itself lets every lane rest that has to.
async fn resting(
    conn: &mut Conn<'_>,
    all: &[(&Event, &NewDelivery)],
    known: &HashSet<LaneId>,
) -> Result<HashSet<LaneId>, Failure> {
    let made: Vec<_> = all
        .iter()
        .filter(|(_, new)| new.lane.mode == LaneMode::Parallel && !known.contains(&new.lane.id))
        .map(|(event, new)| (&event.org, &new.integration))
        .collect();
    if made.is_empty() {
        return Ok(HashSet::new());
    }
    let resting = rest::resting(conn, &made).await?;
    let rests = |event: &Event, new: &NewDelivery| {
        resting.contains(&(event.org.to_string(), new.integration.to_string()))
    };
    Ok(all.iter().filter(|(event, new)| rests(event, new)).map(|(_, new)| new.lane.id).collect())
}

pub(crate) fn sprout(org: &OrgId, new: &NewDelivery, paused: bool) -> Lane {
    let LaneSeed { id, order_key, mode, max_in_flight, weight, rules } = new.lane.clone();
    Lane {
        id,
        org: org.clone(),
        integration: new.integration.clone(),
        order_key,
        mode,
        weight,
        pass: 0,
        runnable: false,
        next_due: None,
        in_flight: 0,
        max_in_flight,
        blocked_until: None,
        paused,
        rules,
        health: LaneHealth::default(),
        pace: Pace::default(),
    }
}

/// Whether a new delivery can be handed over at once: nothing waits that it would overtake.
fn fits(lane: &Lane, new: &NewDelivery, now: Timestamp) -> bool {
    new.at_once
        && new.due_at <= now
        && lane.mode == LaneMode::Parallel
        && lane.room() > 0
        && !lane.paused
        && !lane.runnable
        && lane.blocked_until.is_none_or(|until| until <= now)
        && lane.next_due.is_none_or(|due| due > now)
}

/// Lets `lane` tell of a delivery that is ready from `due` on.
pub(crate) fn enqueue(lane: &mut Lane, due: Timestamp, floor: Option<i64>, now: Timestamp) {
    if lane.runnable {
        return;
    }
    if due <= now {
        lane.runnable = true;
        lane.next_due = None;
        lane.pass = lane.pass.max(floor.unwrap_or(lane.pass));
    } else {
        lane.next_due = Some(lane.next_due.map_or(due, |earlier| earlier.min(due)));
    }
}

pub(crate) const PUT: (&str, &str) = (
    "WITH v (id, org, event, integration, lane, fifo, leased, due_at, expires_at) AS (VALUES ",
    ") INSERT OR FAIL INTO icp_delivery (id, org, event, integration, lane, fifo, state, due_at, \
     expires_at, epoch, tries, throttles, rescues, owner, lease_until, created_at, updated_at) \
     SELECT id, org, event, integration, lane, fifo, leased, due_at, expires_at, leased, leased, \
     0, 0, CASE WHEN leased = 1 THEN ? END, CASE WHEN leased = 1 THEN ? END, ?, ? FROM v WHERE true \
     ON CONFLICT (id) DO NOTHING",
);

fn insert(
    script: &mut Script,
    all: &[(&Event, &NewDelivery)],
    leased: &HashSet<DeliveryId>,
    direct: Option<Direct>,
    now: Timestamp,
) {
    for chunk in fitted(all) {
        script.rows(PUT.0, chunk.len(), 9, PUT.1);
        for (event, new) in chunk {
            script
                .bind(new.id.to_bytes().to_vec())
                .bind(event.org.shared())
                .bind(event.id.to_bytes().to_vec())
                .bind(new.integration.shared())
                .bind(new.lane.id.to_bytes().to_vec())
                .bind(new.lane.mode == LaneMode::Fifo)
                .bind(leased.contains(&new.id))
                .bind(new.due_at.as_millis())
                .bind(event.expires_at.map(Timestamp::as_millis));
        }
        script
            .bind(direct.map(|direct| direct.session.to_bytes().to_vec()))
            .bind(direct.map(|direct| direct.lease_until.as_millis()))
            .bind(now.as_millis())
            .bind(now.as_millis());
    }
    script.expect(all.len());
}
