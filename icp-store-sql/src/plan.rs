//! What an engine asks all day, heard as it is asked, beside a hundred thousand of everything.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use icp_core::analytics::{AnalyticsStore, Grain, RollupBy, RollupQuery};
use icp_core::delivery::health::LaneRules;
use icp_core::delivery::*;
use icp_core::erasure::ErasureStore;
use icp_core::event::*;
use icp_core::id::*;
use icp_core::letter::{Judgement, LetterStore, Verdict};
use icp_core::replay::{ReplayClaim, ReplayStore};
use icp_core::resource::{ListQuery, ResourceStore, Revision};
use icp_core::retention::{Cutoffs, Prune, RetentionStore, RollupCutoffs, What};
use icp_core::store::PageQuery;
use icp_core::time::Timestamp;
use sqlx::Database;

use crate::dialect::Dialect;
use crate::statement::Script;
use crate::store::SqlStore;
use crate::value::Value;

/// How many rows there are of each kind that grows.
pub(crate) const ROWS: u32 = 100_000;
const LANES: u32 = ROWS;
/// How long the server may be busy with the rows just written, on a slow disk.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
const ORGS: u32 = 500;
const NOW: Timestamp = Timestamp::from_millis(1_795_232_700_000);
const SESSION: SessionId = SessionId::from_bytes([7; 16]);

thread_local! {
    static HEARD: RefCell<BTreeMap<String, Vec<Value>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Notes what is run on this thread, each text once.
pub(crate) fn hear(script: &Script) {
    HEARD.with_borrow_mut(|heard| {
        for (sql, values) in script.statements() {
            heard.entry(sql.to_owned()).or_insert_with(|| values.to_vec());
        }
    });
}

/// The statements that fill the tables.
pub(crate) fn fill(dialect: Dialect) -> Vec<String> {
    let postgres = dialect == Dialect::Postgres;
    let id = |n: &str| match postgres {
        true => format!("decode(lpad(to_hex({n}), 32, '0'), 'hex')"),
        false => format!("unhex(lpad(hex({n}), 32, '0'))"),
    };
    let rows = |count: u32| match postgres {
        true => format!("generate_series(1, {count}) AS s (n)"),
        false => format!("(SELECT seq AS n FROM seq_1_to_{count}) AS s"),
    };
    let key = if postgres { "key" } else { "`key`" };
    let (now, own) = (NOW.as_millis(), id("n"));
    let past = format!("{now} - ({ROWS} - n) * 1000");
    let (all, lanes) = (rows(ROWS), rows(LANES));
    let org = format!("concat('org-', n % {LANES} % {ORGS})");
    let of_lane = format!("concat('crm-', n % {LANES} % 40)");
    let event = "org, event_type, content_type, received_at, config_revision, fan_out, body";
    let event_row = format!("{org}, 'order.paid', 'application/json', {past}, 0, 1, 'body'");
    let state = "CASE WHEN n % 20 < 2 THEN 0 WHEN n % 20 = 2 THEN 3 WHEN n % 200 = 3 THEN 1 \
         ELSE 2 END";
    let lane = id(&format!("n % {LANES} + 1"));
    let session = match postgres {
        true => "decode(repeat('07', 16), 'hex')",
        false => "unhex(repeat('07', 16))",
    };
    vec![
        format!("INSERT INTO icp_event (id, {event}) SELECT {own}, {event_row} FROM {all}"),
        format!(
            "INSERT INTO icp_delivery (id, org, event, integration, lane, fifo, state, due_at, \
             epoch, tries, throttles, rescues, owner, lease_until, created_at, updated_at, \
             letter, letter_due) SELECT {own}, {org}, {own}, {of_lane}, {lane}, \
             CASE WHEN n % {LANES} % 10 = 0 THEN 1 ELSE 0 END, {state}, {past}, 1, 1, 0, 0, \
             CASE WHEN n % 200 = 3 THEN {session} END, \
             CASE WHEN n % 200 = 3 THEN {now} + 60000 END, {past}, {past}, n % 3, \
             CASE WHEN n % 20 = 2 THEN {past} + 90000000 END FROM {all}"
        ),
        format!(
            "INSERT INTO icp_attempt (delivery, epoch, number, started_at, outcome, status, \
             total) SELECT {own}, 1, 1, {past}, '{{\"failed\":\"status_500\"}}', 500, 9 FROM {all}"
        ),
        format!(
            "INSERT INTO icp_idempotency (org, {key}, event, body_hash, expires_at) \
             SELECT {org}, {}, {own}, {own}, {past} + 90000000 FROM {all}",
            if postgres { "concat('key-', n)" } else { "CAST(concat('key-', n) AS BINARY)" }
        ),
        format!(
            "INSERT INTO icp_outbox (id, {event}) SELECT {}, {event_row} FROM {all}",
            id("n + 1000000")
        ),
        format!(
            "INSERT INTO icp_lane (id, org, integration, fifo, weight, pass, runnable, next_due, \
             in_flight, max_in_flight, blocked_until, paused, allowed) \
             SELECT {}, concat('org-', n % {ORGS}), concat('crm-', n % 40), \
             CASE WHEN n % 10 = 0 THEN 1 ELSE 0 END, 1, n, CASE WHEN n % 4 = 0 THEN 1 ELSE 0 END, \
             CASE WHEN n % 4 = 1 THEN {now} + n END, 0, 100, CASE WHEN n % 50 = 7 THEN {now} + n \
             END, 0, 100 FROM {lanes}",
            id("n + 1")
        ),
        // Lanes of keys that have no deliveries.
        format!(
            "INSERT INTO icp_lane (id, org, integration, order_key, fifo, weight, pass, runnable, \
             in_flight, max_in_flight, paused, allowed) SELECT {}, 'org-30', 'crm-30', 'key', 1, \
             1, 0, 0, 0, 1, 0, 1 FROM {}",
            id("n + 1000000"),
            rows(100)
        ),
        format!(
            "INSERT INTO icp_history (revision, org, kind, id, labels, spec, status, version, \
             created_at, updated_at, deleted) SELECT n, {org}, 'integration', {of_lane}, '{{}}', \
             '{{}}', '{{}}', 1, {past}, {past}, 0 FROM {all}"
        ),
        format!(
            "INSERT INTO icp_resource (kind, org, id, revision, deleted) SELECT 'integration', \
             {org}, concat('crm-', n), n, 0 FROM {all}"
        ),
        format!(
            "INSERT INTO icp_audit (revision, at, actor, action, org, kind, id, number, chain) \
             SELECT n, {past}, 'host', 'update', {org}, 'integration', {of_lane}, n, '' FROM {all}"
        ),
        format!(
            "INSERT INTO icp_audit_head (org, revision, number, chain, pruned_revision, \
             pruned_number, pruned_chain) SELECT concat('org-', n - 1), {ROWS}, n, '', 0, 0, '' \
             FROM {}",
            rows(ORGS)
        ),
        format!(
            "INSERT INTO icp_letter (delivery, at, actor, code, message) \
             SELECT {own}, {past}, 'host', 'given_up', '' FROM {all}"
        ),
        format!(
            "INSERT INTO icp_letter_note (delivery, at, author, text) \
             SELECT {own}, {past}, 'host', 'note' FROM {all}"
        ),
        format!(
            "INSERT INTO icp_replay (id, org, state, next_at, ended_at, job) \
             SELECT {own}, {org}, 3, 0, {past}, '{{}}' FROM {all}"
        ),
        format!("INSERT INTO icp_replay_delivery (job, delivery) SELECT {own}, {own} FROM {all}"),
        format!(
            "INSERT INTO icp_rollup (org, grain, begins, integration, delivered) \
             SELECT {org}, n % 2, {past}, {of_lane}, 1 FROM {all}"
        ),
        format!(
            "INSERT INTO icp_rollup_failure (org, grain, begins, integration, class, failures) \
             SELECT {org}, n % 2, {past}, {of_lane}, 'status_500', 1 FROM {all}"
        ),
        format!("INSERT INTO icp_session (id, beat, beaten_at) VALUES ({session}, 1, {now})"),
    ]
}

/// Has the store do what an engine does all day; answers each statement that it ran, with what
/// was bound to it.
pub(crate) async fn day<D: Database>(store: &SqlStore<D>) -> BTreeMap<String, Vec<Value>> {
    HEARD.take();
    take_in(store).await;
    deliver(store).await;
    look_around(store).await;
    page(store).await;
    prune(store).await;
    HEARD.take()
}

/// New events, with keys and without, some handed over at once, and some that are there already.
async fn take_in<D: Database>(store: &SqlStore<D>) {
    let lease_until = NOW + Duration::from_secs(60);
    let direct = Some(Direct { session: SESSION, budget: 60, lease_until });
    for (ids, direct) in [(200_001..200_101, direct), (200_051..200_151, None)] {
        let items = ids.map(item).collect();
        store.ingest(Ingest { items, direct, now: NOW }).await.unwrap();
    }
    let rows = store.outbox(&[], 100).await.unwrap();
    let items = rows.into_iter().map(|row| IngestItem {
        outbox: Some(row.event.id),
        event: Arc::new(row.event),
        body_hash: [0; 32],
        idempotency_window: Duration::ZERO,
        deliveries: Vec::new(),
    });
    store.ingest(Ingest { items: items.collect(), direct: None, now: NOW }).await.unwrap();
}

/// Claims of every kind, their beats, and all ends that attempts come to.
async fn deliver<D: Database>(store: &SqlStore<D>) {
    store.beat(SESSION, NOW).await.unwrap();
    for moment in [NOW, NOW + Duration::from_millis(1_001), NOW + Duration::from_secs(9)] {
        let lease_until = moment + Duration::from_secs(60);
        let claim = Claim {
            session: SESSION,
            now: moment,
            lease_until,
            limit: 100,
            per_lane: 25,
            without: [].into(),
        };
        let claimed = store.claim(claim).await.unwrap().deliveries;
        assert!(claimed.len() > 10, "{}", claimed.len());
        let leases = claimed
            .iter()
            .map(|claimed| Lease { delivery: claimed.delivery.id, epoch: claimed.delivery.epoch });
        store.renew(Renew { leases: leases.collect(), until: lease_until }).await.unwrap();
        let settlements = claimed.iter().enumerate().map(|(at, claimed)| settled(at, claimed));
        let settle = Settle { settlements: settlements.collect(), now: moment };
        assert!(store.settle(settle.clone()).await.unwrap().contains(&Settled::Recorded));
        // Those are stale now, which takes a look at each.
        assert!(store.settle(settle).await.unwrap().contains(&Settled::Stale));
    }
}

fn settled(at: usize, claimed: &ClaimedDelivery) -> Settlement {
    let ClaimedDelivery { delivery, event } = claimed;
    let failed = AttemptOutcome::Failed("status_500".into());
    let (outcome, next) = match at % 8 {
        0 => (failed, Next::Retry { due_at: NOW + Duration::from_secs(30), reason: reason() }),
        1 => (failed, Next::Dead { reason: reason() }),
        _ => (AttemptOutcome::Delivered, Next::Delivered),
    };
    let attempt = Attempt {
        delivery: delivery.id,
        epoch: delivery.epoch,
        number: delivery.tries,
        started_at: NOW,
        outcome,
        status: Some(200),
        timings: AttemptTimings::default(),
        exchange: None,
        message: None,
        transcript: None,
    };
    let notice = matches!(next, Next::Dead { .. }).then(|| {
        let mut id = delivery.id.to_bytes();
        id[0] = 9;
        let mut notice = (**event).clone();
        notice.id = EventId::from_bytes(id);
        Arc::new(notice)
    });
    Settlement {
        lease: Lease { delivery: delivery.id, epoch: delivery.epoch },
        lane: delivery.lane,
        attempt: Some(attempt),
        next,
        block_lane_until: None,
        notice,
    }
}

fn reason() -> EndReason {
    EndReason::new("status_500", "for the test")
}

/// The duties that find nothing, or little, most of the time.
async fn look_around<D: Database>(store: &SqlStore<D>) {
    store.sessions().await.unwrap();
    for of in [RescueOf::Orphans { before: NOW }, RescueOf::Session(SESSION)] {
        store.rescue(Rescue { of, now: NOW, limit: 100, max_rescues: 3 }).await.unwrap();
    }
    store.open_session(SESSION, NOW).await.unwrap();
    store.sweep(Sweep { now: NOW, limit: 100 }).await.unwrap();
    store.lane_totals(NOW).await.unwrap();
    store.changes(Revision(99_990), 500).await.unwrap();
    store.finish_erasures(50, NOW).await.unwrap();
    let letters = store.due_letters(NOW, 50).await.unwrap();
    assert!(!letters.is_empty());
    let judgements = letters.iter().map(|letter| Judgement {
        delivery: letter.delivery.id,
        seen: letter.due_at,
        verdict: Verdict::Plan { due_at: NOW + Duration::from_secs(60) },
    });
    store.judge(&judgements.collect::<Vec<_>>(), NOW).await.unwrap();
    let lease_until = NOW + Duration::from_secs(60);
    store.claim_replay(ReplayClaim { session: SESSION, now: NOW, lease_until }).await.unwrap();
}

/// The pages that people turn.
async fn page<D: Database>(store: &SqlStore<D>) {
    let org = OrgId::new("org-7").unwrap();
    let (delivery, event) = (DeliveryId::from_bytes(id(7)), EventId::from_bytes(id(50_007)));
    for state in [None, Some(DeliveryState::Dead), Some(DeliveryState::Delivered)] {
        for integration in [None, ResourceId::new("crm-7").ok()] {
            for after in [None, Some(DeliveryId::from_bytes(id(60_000)))] {
                let page = PageQuery { after, limit: 50 };
                let integration = integration.clone();
                let query = DeliveryQuery { state, event: None, integration, page };
                store.deliveries(&org, &query).await.unwrap();
            }
        }
    }
    let query = DeliveryQuery { event: Some(event), ..DeliveryQuery::default() };
    store.deliveries(&org, &query).await.unwrap();
    store.delivery(&org, delivery).await.unwrap();
    store.attempts(&org, delivery).await.unwrap();
    store.event(&org, event).await.unwrap();
    for after in [None, Some(LaneId::from_bytes(id(7)))] {
        let lanes = store.lanes(&org, PageQuery { after, limit: 50 }).await.unwrap().items;
        let lanes: Vec<LaneId> = lanes.iter().map(|lane| lane.id).collect();
        assert!(!lanes.is_empty());
        store.backlogs(&org, &lanes).await.unwrap();
    }
    for after in [None, Some(event)] {
        let page = PageQuery { after, limit: 50 };
        for idempotency_key in [None, Some("key-7".to_owned())] {
            let query = EventQuery { idempotency_key, page, ..EventQuery::default() };
            store.events(&org, &query).await.unwrap();
        }
    }
    store.resources(&org, "integration", &ListQuery::default()).await.unwrap();
    for integration in [None, ResourceId::new("crm-7").ok()] {
        for by in [RollupBy::Time, RollupBy::Integration] {
            let since = NOW - Duration::from_secs(7_200);
            let integration = integration.clone();
            let query = RollupQuery { grain: Grain::Hour, since, until: NOW, integration, by };
            store.rollups(&org, &query).await.unwrap();
            store.rolled_failures(&org, &query, 100).await.unwrap();
        }
    }
}

async fn prune<D: Database>(store: &SqlStore<D>) {
    let org = store.next_organization(OrgId::new("org-3").ok().as_ref()).await.unwrap().unwrap();
    let before = NOW - Duration::from_secs(90_000);
    let cutoffs = Cutoffs { events: before, deliveries: before, dead_letters: before };
    for what in [
        What::Keys,
        What::Records(cutoffs),
        What::Audit { before },
        What::History { before },
        What::Replays { before },
        What::Rollups(RollupCutoffs { hours: before, days: before }),
        What::Lanes,
    ] {
        let limit = if what == What::Lanes { 1_000 } else { 100 };
        let prune = Prune { org: org.clone(), what, after: None, limit, now: NOW };
        let pruned = store.prune(&prune).await.unwrap();
        assert!(pruned.by_kind().iter().any(|(_, count)| *count > 0), "{what:?}");
    }
}

/// A statement in few words, for people.
pub(crate) fn brief(sql: &str) -> String {
    sql.replace("?,", "").replace("(?),", "")
}

fn item(n: u32) -> IngestItem {
    let org = OrgId::new(format!("org-{}", n % ORGS)).unwrap();
    let integration = ResourceId::new(format!("crm-{}", n % 40)).unwrap();
    // Every other lane is new.
    let lane = if n.is_multiple_of(2) { n } else { n % LANES };
    let event = Event::restore(
        EventId::from_bytes(id(n.into())),
        org,
        None,
        "order.paid".parse().unwrap(),
        JSON.into(),
        vec![b'1'; 64].into(),
        (!n.is_multiple_of(3)).then(|| format!("key-{n}").into()),
        None,
        NOW,
        None,
        None,
        None,
        Revision::ZERO,
    );
    let lane = LaneSeed {
        id: LaneId::from_bytes(id((lane + 1).into())),
        order_key: None,
        mode: LaneMode::Parallel,
        max_in_flight: 100,
        weight: 1,
        rules: LaneRules::default(),
    };
    let id = DeliveryId::from_bytes(id(n.into()));
    IngestItem {
        event: Arc::new(event),
        body_hash: [0; 32],
        idempotency_window: Duration::from_secs(60),
        deliveries: vec![NewDelivery { id, integration, lane, due_at: NOW, at_once: true }],
        outbox: None,
    }
}

fn id(n: u128) -> [u8; 16] {
    n.to_be_bytes()
}
