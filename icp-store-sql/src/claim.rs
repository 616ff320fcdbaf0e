use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use icp_core::delivery::{
    Claim, Claimed, ClaimedDelivery, Delivery, DeliveryState, EndReason, Lane, LaneMode, Lease,
    Next, Settle, Settlement,
};
use icp_core::error::{Code, Error};
use icp_core::event::Event;
use icp_core::id::{EventId, OrgId};
use icp_core::time::Timestamp;

use crate::dialect::Dialect;
use crate::error::{Failure, corrupt};
use crate::link::Conn;
use crate::meter::Meters;
use crate::row::{self, DELIVERY, DeliveryRow, EVENT, EventRow, LANE, LaneRow};
use crate::statement::{Script, padded, statement, values};
use crate::{lane, session};

/// What a claim leased, its events still to be read.
pub(crate) struct Leased {
    deliveries: Vec<Delivery>,
    next_due: Option<Timestamp>,
    probes: u64,
    throttled: u64,
}

impl Leased {
    pub(crate) fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// Adds the events; answers beside it what has lost its event.
    pub(crate) fn with(self, events: &HashMap<EventId, Arc<Event>>) -> (Claimed, Vec<Delivery>) {
        let Self { deliveries, next_due, probes, throttled } = self;
        let (mut whole, mut lost) = (Vec::with_capacity(deliveries.len()), Vec::new());
        for delivery in deliveries {
            match events.get(&delivery.event).cloned() {
                Some(event) => whole.push(ClaimedDelivery { delivery, event }),
                None => lost.push(delivery),
            }
        }
        (Claimed { deliveries: whole, next_due, probes, throttled }, lost)
    }
}

/// Leases due deliveries of the lanes that go first.
pub(crate) async fn lease(conn: &mut Conn<'_>, claim: &Claim) -> Result<Leased, Failure> {
    session::hold(conn, claim.session).await?;
    turn_on(conn, claim).await?;
    let mut taken: Vec<Delivery> = Vec::new();
    let (mut probes, mut throttled) = (0, 0);
    while taken.len() < claim.limit {
        let lanes = eligible(conn, claim.now, claim.limit - taken.len()).await?;
        if lanes.is_empty() {
            break;
        }
        let before = taken.len();
        let mut meters = Meters::load(conn, lanes.iter().map(|(lane, _)| lane)).await?;
        let changed = take(conn, claim, lanes, &mut meters, &mut taken).await?;
        probes += changed.iter().filter(|lane| is_probed(lane)).count() as u64;
        throttled += changed.iter().filter(|lane| lane.blocked_until.is_some()).count() as u64;
        let mut script = Script::default();
        meters.write(&mut script);
        lane::charge(&mut script, &changed);
        write_leases(&mut script, claim, &mut taken[before..]);
        if !script.execute(conn).await? {
            return Err(corrupt("a ready delivery or its lane is not there").into());
        }
        // What was left out by `per_lane` is for the next claim, so that lanes take turns.
        if taken.len() > before {
            break;
        }
    }
    // Who got all that was asked for asks again at once.
    let full = taken.len() == claim.limit;
    let next_due = if full { None } else { next_due(conn).await? };
    Ok(Leased { deliveries: taken, next_due, probes, throttled })
}

/// Reads the events of what was leased. Nothing locks them, so that others claim meanwhile: a
/// leased delivery keeps its event, and one erased in between is seen to be.
pub(crate) async fn complete(
    conn: &mut Conn<'_>,
    leased: Leased,
) -> Result<(Claimed, Vec<Delivery>), Failure> {
    let found = match events(conn, &leased.deliveries).await {
        Err(failure) if failure.is_corrupt() => readable(conn, &leased.deliveries).await?,
        found => found?,
    };
    Ok(leased.with(&found))
}

/// The events that can be read, one by one.
async fn readable(
    conn: &mut Conn<'_>,
    deliveries: &[Delivery],
) -> Result<HashMap<EventId, Arc<Event>>, Failure> {
    let mut readable = HashMap::new();
    for delivery in deliveries {
        match events(conn, std::slice::from_ref(delivery)).await {
            Err(failure) if failure.is_corrupt() => {}
            found => readable.extend(found?),
        }
    }
    Ok(readable)
}

/// Ends what has lost its event: nothing else can come of it, and it would be claimed again and
/// again.
pub(crate) fn give_up(lost: &[Delivery], now: Timestamp) -> Settle {
    let settlements = lost.iter().map(|delivery| Settlement {
        lease: Lease { delivery: delivery.id, epoch: delivery.epoch },
        lane: delivery.lane,
        attempt: None,
        next: Next::Dead {
            reason: EndReason::new("event_lost", "its event is not there or cannot be read"),
        },
        block_lane_until: None,
        notice: None,
    });
    Settle { settlements: settlements.collect(), now }
}

/// Whether an eligible lane gave a probe: it gives one at a time.
fn is_probed(lane: &Lane) -> bool {
    lane.health.breaker.is_open() && lane.in_flight > 0
}

pub(crate) const SLEEPERS: &str = "SELECT EXISTS (SELECT 1 FROM icp_session WHERE id = ?), \
     (SELECT min(next_due) FROM icp_lane WHERE next_due IS NOT NULL), \
     (SELECT min(blocked_until) FROM icp_lane WHERE blocked_until IS NOT NULL)";

/// What to do with lanes one of whose moments has come, and which moment.
type Turn = (&'static str, &'static str);

/// What rested was not a claim to more later: it goes on where the others are by then.
pub(crate) const UNBLOCK: Turn = (
    "UPDATE icp_lane SET blocked_until = NULL, \
     pass = MAX(pass, coalesce((SELECT min(pass) FROM icp_lane WHERE runnable = 1 \
     AND paused = 0 AND blocked_until IS NULL), pass)) WHERE ",
    "blocked_until <= ?",
);
pub(crate) const WAKE: Turn = (
    "UPDATE icp_lane SET runnable = 1, next_due = NULL, \
     pass = MAX(pass, coalesce((SELECT min(pass) FROM icp_lane WHERE runnable = 1 \
     AND paused = 0 AND blocked_until IS NULL), pass)) WHERE ",
    "next_due <= ?",
);
/// How many lanes are turned on at once where others write at the same time, those first whose
/// moment is the earliest.
const TURNS: i64 = 256;

/// Turns on lanes whose moment has come. Those that another node is busy with are left to it,
/// mostly.
async fn turn(conn: &mut Conn<'_>, turn: Turn, now: Timestamp) -> Result<(), Failure> {
    let (change, come) = turn;
    if !conn.dialect().is_shared() {
        statement(format!("{change}{come}")).bind(now.as_millis()).execute(conn).await?;
        return Ok(());
    }
    let skip = if waits(now) { "" } else { " SKIP LOCKED" };
    let moment = come.trim_end_matches(" <= ?");
    let first = format!("SELECT id FROM icp_lane WHERE {come} ORDER BY {moment} LIMIT {TURNS}");
    let free = format!("SELECT l.id FROM icp_lane l WHERE l.id IN (SELECT v.id FROM ({first}) v)");
    let found = statement(format!("{free} AND l.{come} ORDER BY l.id FOR UPDATE{skip}"))
        .bind(now.as_millis())
        .bind(now.as_millis())
        .fetch_all(&mut *conn)
        .await?;
    let ids = found.iter().map(|found| row::bytes(found, 0)).collect::<Result<Vec<_>, _>>()?;
    let head = format!("{change}id IN (VALUES ");
    for chunk in padded(&ids) {
        let mut query = values(&head, chunk.len(), 1, ")");
        for id in chunk {
            query.bind(*id);
        }
        query.changes(&mut *conn).await?;
    }
    Ok(())
}

async fn turn_on(conn: &mut Conn<'_>, claim: &Claim) -> Result<(), Failure> {
    let found =
        statement(SLEEPERS).bind(claim.session.to_bytes().to_vec()).fetch_one(&mut *conn).await?;
    if !found.try_get::<bool>(0)? {
        return Err(Error::new(
            Code::LeaseLost,
            "the session is not known any more; open a new one before claiming",
        )
        .into());
    }
    let over = |moment: Option<Timestamp>| moment.is_some_and(|moment| moment <= claim.now);
    if over(row::maybe_time(&found, 2)?) {
        turn(conn, UNBLOCK, claim.now).await?;
    }
    if over(row::maybe_time(&found, 1)?) {
        turn(conn, WAKE, claim.now).await?;
    }
    Ok(())
}

pub(crate) const ELIGIBLE: &str =
    "runnable = 1 AND paused = 0 AND blocked_until IS NULL AND in_flight < allowed";

/// [`ELIGIBLE`], as the index of such lanes is found by; MySQL keeps it as a column.
fn is_eligible(dialect: Dialect) -> &'static str {
    if dialect == Dialect::MySql { "eligible = 1" } else { ELIGIBLE }
}

/// Lanes that may give something, lowest pass first, with their organization's runnable lanes.
pub(crate) fn eligible_sql() -> String {
    format!(
        "WITH p AS MATERIALIZED (SELECT id, org, pass FROM icp_lane \
            INDEXED BY icp_lane_eligible WHERE {ELIGIBLE} \
            ORDER BY pass, id LIMIT ?), \
         o (org, busy) AS MATERIALIZED (SELECT org, (SELECT count(*) FROM icp_lane r \
            WHERE r.org = p.org AND r.runnable = 1 AND r.paused = 0 \
            AND r.blocked_until IS NULL) FROM p GROUP BY org) \
         SELECT json_group_array(json_array({LANE}, (SELECT busy FROM o WHERE o.org = p.org))) \
         FROM p CROSS JOIN icp_lane l ON l.id = p.id"
    )
}

async fn eligible(
    conn: &mut Conn<'_>,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<(Lane, u32)>, Failure> {
    if conn.dialect().is_shared() {
        return free(conn, now, limit).await;
    }
    let found = statement(eligible_sql()).bind(most(limit)).fetch_one(&mut *conn).await?;
    let lanes: Vec<(LaneRow<'_>, u32)> = row::array(&found, 0)?;
    let lanes = lanes.into_iter().map(|(lane, busy)| Ok((lane.read()?, busy)));
    let mut lanes = lanes.collect::<Result<Vec<_>, Failure>>()?;
    lanes.sort_by_key(|(lane, _)| (lane.pass, lane.id.to_bytes()));
    Ok(lanes)
}

/// As many lanes are locked by a claim at the most, so that other nodes find some too.
const LOCKED: usize = 64;
/// Of so many claims, one waits for lanes that others are busy with.
const WAITS: i64 = 8;

/// Whether a claim waits for lanes that others are busy with. Publishers that keep a lane busy wait
/// for their turn, so claims that never did would not get one.
fn waits(now: Timestamp) -> bool {
    now.as_millis() % WAITS == 0
}

/// Eligible lanes that nobody holds; they are locked.
pub(crate) fn free_sql(dialect: Dialect) -> String {
    let eligible = is_eligible(dialect);
    format!(
        "SELECT {LANE} FROM icp_lane l INDEXED BY icp_lane_eligible WHERE {eligible} \
         ORDER BY pass, id LIMIT ? FOR UPDATE SKIP LOCKED"
    )
}

pub(crate) fn first_sql(dialect: Dialect) -> String {
    let eligible = is_eligible(dialect);
    format!(
        "SELECT id FROM icp_lane INDEXED BY icp_lane_eligible WHERE {eligible} \
         ORDER BY pass, id LIMIT 1"
    )
}

/// Waits for the eligible lane that goes first.
async fn wait_for_first(conn: &mut Conn<'_>) -> Result<bool, Failure> {
    let found = statement(first_sql(conn.dialect())).fetch_optional(&mut *conn).await?;
    let Some(found) = found else { return Ok(false) };
    lane::lock(conn, [row::bytes(&found, 0)?]).await?;
    Ok(true)
}

async fn unlocked(conn: &mut Conn<'_>, limit: usize) -> Result<Vec<Lane>, Failure> {
    let free = statement(free_sql(conn.dialect())).bind(most(limit.min(LOCKED)));
    free.fetch_all(conn).await?.iter().map(row::lane).collect()
}

pub(crate) const BUSY: (&str, &str) = (
    "SELECT org, count(*) FROM icp_lane \
     WHERE runnable = 1 AND paused = 0 AND blocked_until IS NULL AND org IN (VALUES ",
    ") GROUP BY org",
);

/// As [`eligible`], but only lanes that no other node is busy with; they are locked.
async fn free(
    conn: &mut Conn<'_>,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<(Lane, u32)>, Failure> {
    let waited = waits(now) && wait_for_first(conn).await?;
    let mut lanes = unlocked(conn, limit).await?;
    if lanes.is_empty() && !waited && wait_for_first(conn).await? {
        lanes = unlocked(conn, limit).await?;
    }
    let orgs: BTreeSet<OrgId> = lanes.iter().map(|lane| lane.org.clone()).collect();
    let orgs: Vec<OrgId> = orgs.into_iter().collect();
    let mut busy: HashMap<OrgId, u32> = HashMap::new();
    for chunk in padded(&orgs) {
        let mut query = values(BUSY.0, chunk.len(), 1, BUSY.1);
        for org in chunk {
            query.bind(org.shared());
        }
        for found in query.fetch_all(&mut *conn).await? {
            busy.insert(row::org(&found, 0)?, found.try_get(1)?);
        }
    }
    let busy = |lane: &Lane| busy.get(&lane.org).copied().unwrap_or(1);
    Ok(lanes.into_iter().map(|lane| (busy(&lane), lane)).map(|(busy, lane)| (lane, busy)).collect())
}

fn most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Picks due deliveries off `lanes` until the claim is full; answers the lanes as they are then.
async fn take(
    conn: &mut Conn<'_>,
    claim: &Claim,
    lanes: Vec<(Lane, u32)>,
    meters: &mut Meters,
    taken: &mut Vec<Delivery>,
) -> Result<Vec<Lane>, Failure> {
    let mut changed = Vec::with_capacity(lanes.len());
    let mut lanes = lanes.into_iter().peekable();
    while lanes.peek().is_some() && taken.len() < claim.limit {
        let group: Vec<(Lane, u32)> = lanes.by_ref().take(16).collect();
        let left = claim.limit - taken.len();
        let most = group.iter().map(|(lane, _)| room(lane)).max().unwrap_or_default();
        let depth = most.min(claim.per_lane).min(left) + 1;
        let mut heads = heads(conn, &group, depth).await?;
        for (mut lane, busy) in group {
            let left = claim.limit - taken.len();
            if left == 0 {
                break;
            }
            let queue = heads.remove(&lane.id.to_bytes()).unwrap_or_default();
            let most = room(&lane).min(meters.room(&lane, claim.now)).min(claim.per_lane).min(left);
            let due = queue.iter().take(most).take_while(|d| d.due_at <= claim.now).count();
            let next = queue.get(due).map(|delivery| delivery.due_at);
            lane.in_flight += u32::try_from(due).unwrap_or(u32::MAX);
            let strides = i64::try_from(due).unwrap_or(i64::MAX);
            lane.pass += Lane::stride(lane.weight, busy) * strides;
            lane.runnable = next.is_some_and(|next| next <= claim.now);
            lane.next_due = next.filter(|_| !lane.runnable);
            meters.spend(&mut lane, due, claim.now);
            taken.extend(queue.into_iter().take(due));
            changed.push(lane);
        }
    }
    Ok(changed)
}

fn room(lane: &Lane) -> usize {
    usize::try_from(lane.room()).unwrap_or(usize::MAX)
}

/// Which of a lane's ready deliveries go, and in which order.
pub(crate) const PARALLEL: (&str, &str) = ("", "q.due_at, q.id");
pub(crate) const FIFO: (&str, &str) = ("AND q.fifo = 1", "q.id");

pub(crate) const HEADS: &str = "WITH v (id) AS (VALUES ";

pub(crate) fn heads_sql(dialect: Dialect, (only, order): (&str, &str)) -> String {
    let queue = format!(
        "FROM icp_delivery q WHERE q.lane = v.id AND q.state = 0 {only} ORDER BY {order} LIMIT ?"
    );
    let join = match dialect {
        Dialect::Sqlite => format!("icp_delivery d ON d.id IN (SELECT q.id {queue})"),
        _ => format!("LATERAL (SELECT * {queue}) d ON true"),
    };
    format!(
        ") SELECT json_group_array({DELIVERY}) FROM (SELECT DISTINCT id FROM v) AS v \
         CROSS JOIN {join}"
    )
}

/// The first `depth` ready deliveries of each lane, in the order in which they go.
async fn heads(
    conn: &mut Conn<'_>,
    lanes: &[(Lane, u32)],
    depth: usize,
) -> Result<HashMap<[u8; 16], Vec<Delivery>>, Failure> {
    let mut heads: HashMap<_, Vec<Delivery>> = HashMap::new();
    for (mode, order) in [(LaneMode::Parallel, PARALLEL), (LaneMode::Fifo, FIFO)] {
        let lanes: Vec<&Lane> = lanes.iter().map(|(l, _)| l).filter(|l| l.mode == mode).collect();
        for delivery in waiting(conn, &lanes, order, most(depth)).await? {
            heads.entry(delivery.lane.to_bytes()).or_default().push(delivery);
        }
        for lane in lanes {
            let Some(queue) = heads.get_mut(&lane.id.to_bytes()) else { continue };
            match mode {
                LaneMode::Parallel => queue.sort_unstable_by_key(|d| (d.due_at, d.id)),
                LaneMode::Fifo => queue.sort_unstable_by_key(|d| d.id),
            }
        }
    }
    Ok(heads)
}

/// The first `depth` ready deliveries of each lane.
async fn waiting(
    conn: &mut Conn<'_>,
    lanes: &[&Lane],
    order: (&str, &str),
    depth: i64,
) -> Result<Vec<Delivery>, Failure> {
    if conn.dialect() == Dialect::MySql {
        return queues(conn, lanes, order, depth).await;
    }
    let mut waiting = Vec::new();
    let tail = heads_sql(conn.dialect(), order);
    for chunk in padded(lanes) {
        let mut query = values(HEADS, chunk.len(), 1, &tail);
        for lane in chunk {
            query.bind(lane.id.to_bytes().to_vec());
        }
        query.bind(depth);
        let found = query.fetch_one(&mut *conn).await?;
        for delivery in row::array::<DeliveryRow<'_>>(&found, 0)? {
            waiting.push(delivery.read()?);
        }
    }
    Ok(waiting)
}

/// As [`waiting`], where no table can be joined with the first rows of another.
async fn queues(
    conn: &mut Conn<'_>,
    lanes: &[&Lane],
    (only, order): (&str, &str),
    depth: i64,
) -> Result<Vec<Delivery>, Failure> {
    if lanes.is_empty() {
        return Ok(Vec::new());
    }
    let queue = format!(
        "SELECT {DELIVERY} FROM (SELECT * FROM icp_delivery q WHERE q.lane = ? AND q.state = 0 \
         {only} ORDER BY {order} LIMIT ?) d"
    );
    let mut query = statement(vec![queue; lanes.len()].join(" UNION ALL "));
    for lane in lanes {
        query = query.bind(lane.id.to_bytes()).bind(depth);
    }
    query.fetch_all(conn).await?.iter().map(row::delivery).collect()
}

pub(crate) const LEASE: (&str, &str) = (
    "WITH v (id) AS (VALUES ",
    ") UPDATE icp_delivery AS d SET state = 1, epoch = d.epoch + 1, tries = d.tries + 1, \
     owner = ?, lease_until = ?, updated_at = ? FROM v WHERE d.id = v.id AND d.state = 0",
);

/// Leases `taken`, which were read as ready within this transaction.
fn write_leases(script: &mut Script, claim: &Claim, taken: &mut [Delivery]) {
    for chunk in padded(taken) {
        script.rows(LEASE.0, chunk.len(), 1, LEASE.1);
        for delivery in chunk {
            script.bind(delivery.id.to_bytes().to_vec());
        }
        script
            .bind(claim.session.to_bytes().to_vec())
            .bind(claim.lease_until.as_millis())
            .bind(claim.now.as_millis());
    }
    script.expect(taken.len());
    for delivery in taken {
        delivery.state = DeliveryState::Leased;
        delivery.epoch += 1;
        delivery.tries += 1;
        delivery.owner = Some(claim.session);
        delivery.lease_until = Some(claim.lease_until);
        delivery.updated_at = claim.now;
    }
}

pub(crate) const EVENTS: &str = "WITH v (org, id) AS (VALUES ";

/// Both aggregates see the rows in the same order, so the bodies can be told apart by length.
pub(crate) fn events_sql() -> String {
    format!(
        ") SELECT json_group_array({EVENT}), CAST(group_concat(e.body, '') AS BLOB) \
         FROM (SELECT DISTINCT org, id FROM v) AS v \
         CROSS JOIN icp_event e ON e.org = v.org AND e.id = v.id"
    )
}

fn event_rows_sql() -> String {
    format!(
        ") SELECT {EVENT}, e.body FROM (SELECT DISTINCT org, id FROM v) AS v \
         CROSS JOIN icp_event e ON e.org = v.org AND e.id = v.id"
    )
}

async fn events(
    conn: &mut Conn<'_>,
    deliveries: &[Delivery],
) -> Result<HashMap<EventId, Arc<Event>>, Failure> {
    let mut ids: Vec<(&OrgId, EventId)> = deliveries.iter().map(|d| (&d.org, d.event)).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut events = HashMap::with_capacity(ids.len());
    // A row costs SQLite's driver more than its columns do, so that few large values are cheaper;
    // servers send rows as they are, and MySQL would cut such a value off.
    let apart = conn.dialect().is_shared();
    let (tail, most) = if apart { (event_rows_sql(), 256) } else { (events_sql(), 16) };
    for chunk in ids.chunks(most).flat_map(padded) {
        let mut query = values(EVENTS, chunk.len(), 2, &tail);
        for (org, id) in chunk {
            query.bind(org.shared()).bind(id.to_bytes().to_vec());
        }
        if apart {
            for found in query.fetch_all(&mut *conn).await? {
                let event = row::event(&found)?;
                events.insert(event.id, Arc::new(event));
            }
            continue;
        }
        let found = query.fetch_one(&mut *conn).await?;
        let mut bodies: &[u8] = found.try_get(1)?;
        for event in row::array::<EventRow<'_>>(&found, 0)? {
            let event = event.read(&mut bodies)?;
            events.insert(event.id, Arc::new(event));
        }
    }
    Ok(events)
}

/// Whether the session is known, whether a lane may give something now, and when the next wakes.
pub(crate) fn look_sql(dialect: Dialect) -> String {
    format!(
        "SELECT EXISTS (SELECT 1 FROM icp_session WHERE id = ?), {}, {WAKES}",
        some_eligible(dialect)
    )
}

/// Looks for something to claim; answers as a claim that finds nothing does, where there is none.
pub(crate) async fn look(conn: &mut Conn<'_>, claim: &Claim) -> Result<Option<Claimed>, Failure> {
    let look = statement(look_sql(conn.dialect())).bind(claim.session.to_bytes());
    let found = look.fetch_one(conn).await?;
    let (known, eligible): (bool, bool) = (found.try_get(0)?, found.try_get(1)?);
    let next_due = row::maybe_time(&found, 2)?;
    let nothing = known && !eligible && next_due.is_none_or(|due| due > claim.now);
    Ok(nothing.then(|| Claimed { deliveries: Vec::new(), next_due, probes: 0, throttled: 0 }))
}

fn some_eligible(dialect: Dialect) -> String {
    let eligible = is_eligible(dialect);
    format!("EXISTS (SELECT 1 FROM icp_lane INDEXED BY icp_lane_eligible WHERE {eligible})")
}

/// Each by its index: in its order up to the first, and of those that are blocked.
const WAKES: &str = "(SELECT min(at) FROM (\
       SELECT (SELECT next_due FROM icp_lane INDEXED BY icp_lane_due \
         WHERE next_due IS NOT NULL AND paused = 0 AND blocked_until IS NULL \
         ORDER BY next_due LIMIT 1) AS at \
       UNION ALL SELECT min(MAX(blocked_until, coalesce(next_due, 0))) FROM icp_lane \
         INDEXED BY icp_lane_blocked WHERE blocked_until IS NOT NULL AND paused = 0 \
         AND (runnable = 1 OR next_due IS NOT NULL)) v)";

/// When the next lane wakes; `None` where one may give something now.
pub(crate) fn next_due_sql(dialect: Dialect) -> String {
    format!("SELECT CASE WHEN {} THEN NULL ELSE {WAKES} END", some_eligible(dialect))
}

async fn next_due(conn: &mut Conn<'_>) -> Result<Option<Timestamp>, Failure> {
    let found = statement(next_due_sql(conn.dialect())).fetch_one(conn).await?;
    row::maybe_time(&found, 0)
}
