//! A database behind row-level security, and rows of an organization in every table.

use icp_core::id::*;
use icp_core::replay::{ReplayJob, ReplayProgress, ReplayRequest, ReplayState};
use icp_core::resource::Actor;
use icp_store_sql::postgres::{Builder, PostgresStore};
use sqlx::PgConnection;

use crate::database::run;
use crate::fixture::{NOW, id};
use crate::role::Role;
use crate::scratch::Scratch;

/// A database whose tables and policies the user of the test server owns, and a role for the
/// engine. The database goes before the role.
pub(crate) struct Walled {
    pub(crate) scratch: Scratch,
    pub(crate) role: Role,
}

impl Walled {
    pub(crate) async fn database() -> Self {
        let (scratch, role) = (Scratch::database().await, Role::create().await);
        let owner = PostgresStore::builder(&scratch.url);
        owner.migrations().unwrap().apply().await.unwrap();
        owner.row_security().unwrap().apply(&role.name).await.unwrap();
        Self { scratch, role }
    }

    /// The address for the engine's role.
    pub(crate) fn url(&self) -> String {
        self.role.log_in(&self.scratch.url)
    }

    pub(crate) fn builder(&self) -> Builder {
        PostgresStore::builder(&self.url()).row_level_security(true).max_connections(2)
    }
}

fn hex(n: u128) -> String {
    let digits: String = id(n).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("'\\x{digits}'::bytea")
}

/// The job that stands in `icp_replay`.
pub(crate) fn job(org: &OrgId, n: u128) -> ReplayJob {
    ReplayJob {
        id: ReplayId::from_bytes(id(n)),
        org: org.clone(),
        request: ReplayRequest::since(NOW).until(NOW),
        actor: Actor::host(),
        state: ReplayState::Paused,
        progress: ReplayProgress::default(),
        cursor: None,
        fence: 0,
        owner: None,
        lease_until: None,
        next_at: NOW,
        error: None,
        created_at: NOW,
        started_at: None,
        ended_at: None,
        updated_at: NOW,
    }
}

/// Writes a row of `org` into every table that has rows of organizations: an event `n`, its dead
/// delivery `n` and its ready delivery `n + 1`, and the rest around them.
pub(crate) async fn write(url: &str, org: &str, n: u128) {
    let (one, two, now) = (hex(n), hex(n + 1), NOW.as_millis());
    let job = serde_json::to_string(&job(&OrgId::new(org).unwrap(), n)).unwrap();
    let event = "event_type, content_type, received_at, config_revision, fan_out, subject, body";
    let values = format!("'order.paid', 'application/json', {now}, 0, 1, 'ada', '{{}}'");
    let delivery = "id, org, event, integration, lane, fifo, state, due_at, epoch, tries, \
                    throttles, rescues, created_at, updated_at";
    let values_of = |id: &str, state: u8| {
        format!("({id}, '{org}', {one}, 'crm', {one}, 0, {state}, {now}, 1, 1, 0, 0, {now}, {now})")
    };
    let (dead, ready) = (values_of(&one, 3), values_of(&two, 0));
    let sql = format!(
        "INSERT INTO icp_event (id, org, {event}) VALUES ({one}, '{org}', {values});
         INSERT INTO icp_outbox (id, org, {event}) VALUES ({two}, '{org}', {values});
         INSERT INTO icp_idempotency VALUES ('{org}', 'key', {one}, {one} || {one}, {now} + 1000);
         INSERT INTO icp_delivery ({delivery}) VALUES {dead}, {ready};
         INSERT INTO icp_attempt (delivery, epoch, number, started_at, outcome, total)
             VALUES ({one}, 1, 1, {now}, '{{\"failed\":\"timeout\"}}', 1);
         INSERT INTO icp_letter VALUES ({one}, {now}, 'host', 'given_up', '');
         INSERT INTO icp_letter_note VALUES ({one}, {now}, 'host', 'secret');
         INSERT INTO icp_erasing VALUES ({one});
         INSERT INTO icp_lane (id, org, integration, fifo, weight, pass, runnable, in_flight,
             max_in_flight, paused, allowed) VALUES ({one}, '{org}', 'crm', 0, 1, {n}, 1, 0, 9, 0, 9);
         INSERT INTO icp_rest VALUES ('{org}', 'erp', 1);
         INSERT INTO icp_meter VALUES ('{org}', 'crm', 1);
         INSERT INTO icp_replay VALUES ({one}, '{org}', 2, {now}, NULL, NULL, {now}, '{job}');
         INSERT INTO icp_replay_delivery VALUES ({one}, {one});
         INSERT INTO icp_history VALUES
             ({n}, '{org}', 'integration', 'crm', NULL, '{{}}', '{{}}', 'null', 1, {now}, {now}, 0);
         INSERT INTO icp_resource VALUES ('integration', '{org}', 'crm', {n}, 0);
         INSERT INTO icp_handle VALUES ({one}, '{org}', 'integration', 'crm');
         INSERT INTO icp_audit VALUES
             ({n}, {now}, 'host', NULL, 'create', '{org}', 'integration', 'crm', NULL, NULL, NULL,
                 NULL, 1, 'c');
         INSERT INTO icp_audit_head VALUES ('{org}', {n}, 1, 'c', 0, 0, '');
         INSERT INTO icp_rollup (org, grain, begins, integration) VALUES ('{org}', 0, {now}, 'crm');
         INSERT INTO icp_rollup_failure VALUES ('{org}', 0, {now}, 'crm', 'status_500', 1);"
    );
    run(url, &sql).await;
}

/// The tables whose rows are of no organization.
pub(crate) const OF_NODE: [&str; 1] = ["icp_slot"];

/// Which rows of `table` are of `org`, as a condition.
pub(crate) fn of(table: &str, org: &str) -> String {
    let parent = |column: &str, parent: &str| {
        format!("{column} IN (SELECT id FROM {parent} WHERE org = '{org}')")
    };
    match table {
        "icp_attempt" | "icp_letter" | "icp_letter_note" | "icp_erasing" => {
            parent("delivery", "icp_delivery")
        }
        "icp_replay_delivery" => parent("job", "icp_replay"),
        table if OF_NODE.contains(&table) => "false".to_owned(),
        _ => format!("org = '{org}'"),
    }
}

/// The tables that hold rows of organizations, by what the catalog says.
pub(crate) async fn guarded(conn: &mut PgConnection) -> Vec<String> {
    let sql = "SELECT relname::text FROM pg_class WHERE relkind = 'r' \
               AND relnamespace = 'public'::regnamespace \
               AND relname NOT IN ('icp_head', 'icp_migration', 'icp_rollup_seen', \
                                   'icp_session') ORDER BY 1";
    sqlx::query_scalar(sql).fetch_all(conn).await.unwrap()
}
