//! What somebody does to the audit log by other ways than the store's is found and named.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use icp_core::id::{OrgId, ResourceId};
use icp_core::resource::{Actor, AuditFault, Note, NoteStore, verify_audit};
use icp_core::retention::{Prune, RetentionStore, What};
use icp_core::time::Timestamp;
use icp_store_sql::sqlite::SqliteStore;
use sqlx::{AssertSqlSafe, Connection, Executor, SqliteConnection};

const ROWS: i64 = 6;

fn org(name: &str) -> OrgId {
    OrgId::new(name).unwrap()
}

async fn log(store: &SqliteStore) {
    for secs in 1..=ROWS {
        for name in ["acme", "other"] {
            let note = Note {
                org: org(name),
                actor: Actor { acting_as: Some("user:bob".into()), ..Actor::host() },
                action: "look".into(),
                kind: "integration".into(),
                id: ResourceId::new("crm").unwrap(),
                note: Some(format!("{secs}")),
                now: Timestamp::from_millis(secs * 1_000),
            };
            store.note(note).await.unwrap();
        }
    }
}

/// Where the log is found broken after `sql`, by the number that the row had, and how. The rows of
/// the two organizations take turns, so that number `n` has revision `2n - 1`.
async fn found(pruned: i64, sql: &str) -> Option<(u64, AuditFault)> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("icp.db");
    let store = SqliteStore::open(&path).await.unwrap();
    log(&store).await;
    if pruned > 0 {
        let before = Timestamp::from_millis((pruned + 1) * 1_000);
        let (what, now) = (What::Audit { before }, Timestamp::from_millis(99_000));
        let prune = Prune { org: org("acme"), what, after: None, limit: 100, now };
        assert_eq!(store.prune(&prune).await.unwrap().audit, pruned.unsigned_abs());
    }
    assert_eq!(verify_audit(&store, &org("acme")).await.unwrap().broken, None);
    let mut host =
        SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    host.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    let other = verify_audit(&store, &org("other")).await.unwrap();
    assert_eq!((other.entries, other.broken), (ROWS.unsigned_abs(), None), "{sql}");
    let broken = verify_audit(&store, &org("acme")).await.unwrap().broken?;
    Some((broken.revision.0.div_ceil(2), broken.fault))
}

#[tokio::test]
async fn every_way_to_change_the_log_is_named() {
    use AuditFault::{Changed, CutOff, HeadLost, MissingBefore};
    let set = |column: &str, value: &str| {
        format!("UPDATE icp_audit SET {column} = {value} WHERE org = 'acme' AND number = 3")
    };
    for (sql, expected) in [
        (set("at", "1"), (3, Changed)),
        (set("actor", "'key:other'"), (3, Changed)),
        (set("acting_as", "NULL"), (3, Changed)),
        (set("request_id", "'req'"), (3, Changed)),
        (set("action", "'leave'"), (3, Changed)),
        (set("kind", "'lookup'"), (3, Changed)),
        (set("id", "'erp'"), (3, Changed)),
        (set("spec_before", "'x'"), (3, Changed)),
        (set("spec_after", "'x'"), (3, Changed)),
        (set("note", "''"), (3, Changed)),
        (set("chain", "'x'"), (3, Changed)),
        (set("number", "2"), (3, Changed)),
        ("DELETE FROM icp_audit WHERE org = 'acme' AND number = 3".into(), (4, MissingBefore)),
        ("DELETE FROM icp_audit WHERE org = 'acme' AND number < 3".into(), (3, MissingBefore)),
        ("DELETE FROM icp_audit WHERE org = 'acme' AND number > 3".into(), (6, CutOff)),
        ("DELETE FROM icp_audit WHERE org = 'acme'".into(), (6, CutOff)),
        (
            "UPDATE icp_audit SET revision = 100 WHERE org = 'acme' AND number = 2; \
             UPDATE icp_audit SET revision = 3 WHERE org = 'acme' AND number = 5; \
             UPDATE icp_audit SET revision = 9 WHERE revision = 100"
                .into(),
            (2, MissingBefore),
        ),
        ("DELETE FROM icp_audit_head WHERE org = 'acme'".into(), (6, HeadLost)),
        (
            "UPDATE icp_audit_head SET (revision, number, chain) = (SELECT revision, number, chain \
             FROM icp_audit WHERE org = 'acme' AND number = 4) WHERE org = 'acme'"
                .into(),
            (6, HeadLost),
        ),
    ] {
        assert_eq!(found(0, &sql).await, Some(expected), "{sql}");
    }
}

#[tokio::test]
async fn a_log_that_was_pruned_tells_what_is_taken_off_its_front() {
    use AuditFault::MissingBefore;
    let none = "DELETE FROM icp_audit WHERE org = 'acme' AND number = 0";
    assert_eq!(found(2, none).await, None);
    let front = "DELETE FROM icp_audit WHERE org = 'acme' AND number = 3";
    assert_eq!(found(2, front).await, Some((4, MissingBefore)));
}

#[tokio::test]
async fn a_row_of_one_organization_is_none_of_another() {
    let moved = "UPDATE icp_audit SET org = 'third' WHERE org = 'acme' AND number = 6";
    assert_eq!(found(0, moved).await, Some((6, AuditFault::CutOff)));
}
