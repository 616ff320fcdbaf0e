//! Bad days: full disks, damaged files, other processes and killed ones.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use icp_core::Code;
use icp_core::delivery::*;
use icp_core::event::*;
use icp_core::id::*;
use icp_core::store::PageQuery;
use icp_store_sql::sqlite::SqliteStore;
use sqlx::{Connection, Executor, SqliteConnection};

use fixture::{NOW, batch, claim, event, id, settle};

#[tokio::test]
async fn a_delivery_that_lost_its_event_ends_and_holds_up_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("icp.db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.ingest(batch(0..6)).await.unwrap();
    let file = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut hand = SqliteConnection::connect_with(&file).await.unwrap();
    let delete = sqlx::query("DELETE FROM icp_event WHERE id = ?").bind(id(2).to_vec());
    hand.execute(delete).await.unwrap();
    let garble = sqlx::query("UPDATE icp_event SET event_type = '!' WHERE id = ?");
    hand.execute(garble.bind(id(4).to_vec())).await.unwrap();
    let session = SessionId::from_bytes([7; 16]);
    store.open_session(session, NOW).await.unwrap();
    let claimed = store.claim(claim(session)).await.unwrap();
    let got: Vec<_> = claimed.deliveries.iter().map(|c| c.delivery.id.to_bytes()).collect();
    assert_eq!(got, [id(0), id(1), id(3), id(5)]);
    store.settle(settle(&claimed)).await.unwrap();
    let counts = store.counts().await.unwrap();
    assert_eq!(counts, [(DeliveryState::Delivered, 4), (DeliveryState::Dead, 2)]);
    let lost = DeliveryId::from_bytes(id(2));
    let lost = store.delivery(&OrgId::new("acme").unwrap(), lost).await.unwrap().unwrap();
    assert_eq!(lost.reason.unwrap().code, "event_lost");
}

#[tokio::test]
async fn a_full_database_refuses_and_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("icp.db");
    let small = SqliteStore::builder(&path).max_pages(120).open().await.unwrap();
    let mut taken = 0;
    let error = loop {
        match small.ingest(batch(taken..taken + 50)).await {
            Ok(_) => taken += 50,
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::StoreFull);
    for _ in 0..3 {
        let error = small.ingest(batch(taken..taken + 50)).await.unwrap_err();
        assert_eq!(error.code(), Code::StoreFull);
    }
    // Where one row alone does not fit, SQLite ends the transaction by itself.
    let mut serial = 0_u128;
    let mut refused = 0;
    while refused < 3 {
        serial += 1;
        let session = SessionId::from_bytes(serial.to_be_bytes());
        if let Err(error) = small.open_session(session, NOW).await {
            assert_eq!(error.code(), Code::StoreFull);
            refused += 1;
        }
    }
    let ready = u64::try_from(taken).unwrap();
    assert!(ready > 0);
    assert_eq!(small.counts().await.unwrap(), [(DeliveryState::Ready, ready)]);
    assert!(small.audit().await.unwrap().is_clean());
    drop(small);
    let large = SqliteStore::open(&path).await.unwrap();
    large.ingest(batch(taken..taken + 50)).await.unwrap();
    assert_eq!(large.counts().await.unwrap(), [(DeliveryState::Ready, ready + 50)]);
    assert!(large.audit().await.unwrap().is_clean());
}

#[tokio::test]
async fn outcomes_without_their_lane_are_refused_and_kept_for_later() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("icp.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let session = SessionId::from_bytes([1; 16]);
    store.open_session(session, NOW).await.unwrap();
    store.ingest(batch(0..3)).await.unwrap();
    let claimed = store.claim(claim(session)).await.unwrap();
    assert!(!claimed.deliveries.is_empty());
    let leased = store.counts().await.unwrap();
    let mut raw = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    let hide = "CREATE TABLE kept AS SELECT * FROM icp_lane; DELETE FROM icp_lane";
    raw.execute(hide).await.unwrap();
    for _ in 0..2 {
        let error = store.settle(settle(&claimed)).await.unwrap_err();
        assert_eq!(error.code(), Code::StoreCorrupt);
        assert_eq!(store.counts().await.unwrap(), leased, "nothing of it stays");
    }
    raw.execute("INSERT INTO icp_lane SELECT * FROM kept; DROP TABLE kept").await.unwrap();
    let settled = store.settle(settle(&claimed)).await.unwrap();
    assert!(settled.iter().all(|settled| *settled == Settled::Recorded));
    assert!(store.audit().await.unwrap().is_clean());
}

#[tokio::test]
async fn a_damaged_page_is_told_and_gives_no_wrong_data() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("icp.db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.ingest(batch(0..300)).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    let mut raw = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").await.unwrap();
    raw.close().await.unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mut told = 0;
    for page in (2..whole.len() / 4096).step_by(5) {
        let path = dir.path().join(format!("{page}.db"));
        let mut damaged = whole.clone();
        damaged[page * 4096..(page + 1) * 4096].fill(0xff);
        std::fs::write(&path, damaged).unwrap();
        told += read_all(&path).await;
    }
    assert!(told > 0);
}

/// Reads what was taken in, and counts the reads that tell of damage.
async fn read_all(path: &Path) -> u32 {
    let store = match SqliteStore::open(path).await {
        Ok(store) => store,
        Err(error) => {
            assert_eq!(error.code(), Code::StoreCorrupt);
            return 1;
        }
    };
    let mut told = 0;
    let org = OrgId::new("acme").unwrap();
    for n in 0..300 {
        match store.event(&org, EventId::from_bytes(id(n))).await {
            Ok(found) => assert_eq!(found, Some(event(n))),
            Err(error) => {
                assert_eq!(error.code(), Code::StoreCorrupt);
                told += 1;
            }
        }
    }
    let page = PageQuery { after: None, limit: 300 };
    match store.deliveries(&org, &DeliveryQuery { page, ..DeliveryQuery::default() }).await {
        Ok(found) => {
            let ids: Vec<_> = found.items.iter().map(|delivery| delivery.id.to_bytes()).collect();
            assert_eq!(ids, (0..300).rev().map(id).collect::<Vec<_>>());
        }
        Err(error) => {
            assert_eq!(error.code(), Code::StoreCorrupt);
            told += 1;
        }
    }
    told
}

#[tokio::test]
async fn tables_of_another_version_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("icp.db");
    SqliteStore::open(&path).await.unwrap();
    let mut raw = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    raw.execute("INSERT INTO icp_migration (version, checksum) VALUES (99, x'00')").await.unwrap();
    assert_eq!(SqliteStore::open(&path).await.unwrap_err().code(), Code::StoreTooNew);
    raw.execute("DELETE FROM icp_migration WHERE version = 99").await.unwrap();
    SqliteStore::open(&path).await.unwrap();
    raw.execute("UPDATE icp_migration SET checksum = x'00'").await.unwrap();
    assert_eq!(SqliteStore::open(&path).await.unwrap_err().code(), Code::StoreCorrupt);
}

#[tokio::test]
async fn another_process_that_keeps_the_lock_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("icp.db");
    let store = SqliteStore::builder(&path).busy_timeout(Duration::from_millis(20));
    let store = store.open().await.unwrap();
    let mut other = Other::start("lock", &path, 0);
    assert_eq!(other.line().as_deref(), Some("locked"));
    assert_eq!(store.ingest(batch(0..9)).await.unwrap_err().code(), Code::StoreLocked);
    other.kill();
    store.ingest(batch(0..9)).await.unwrap();
    assert!(store.audit().await.unwrap().is_clean());
}

#[tokio::test]
async fn two_processes_claim_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("icp.db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.ingest(batch(0..2_000)).await.unwrap();
    let mut others = [Other::start("drain", &path, 1), Other::start("drain", &path, 2)];
    let mut seen = HashSet::new();
    for other in &mut others {
        while let Some(line) = other.line() {
            assert!(seen.insert(line));
        }
    }
    assert_eq!(seen.len(), 2_000);
    assert_eq!(store.counts().await.unwrap(), [(DeliveryState::Delivered, 2_000)]);
    assert!(store.audit().await.unwrap().is_clean());
}

#[tokio::test]
async fn a_killed_process_loses_nothing_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("icp.db");
    SqliteStore::open(&path).await.unwrap();
    let org = OrgId::new("acme").unwrap();
    for round in 0..20_u8 {
        let mut other = Other::start("work", &path, round);
        let mut lines: Vec<String> = (0..=round).filter_map(|_| other.line()).collect();
        assert_eq!(lines.len(), usize::from(round) + 1);
        lines.extend(other.kill());
        let store = SqliteStore::open(&path).await.unwrap();
        assert!(store.audit().await.unwrap().is_clean());
        for line in lines {
            let Some(first) = line.strip_prefix("took ") else { continue };
            let first: u128 = first.parse().unwrap();
            for n in first..first + 20 {
                let found = store.event(&org, EventId::from_bytes(id(n))).await.unwrap();
                assert_eq!(found, Some(event(n)));
            }
        }
        let of = RescueOf::Session(session(round));
        let rescue = Rescue { of, now: NOW, limit: 10_000, max_rescues: 1_000 };
        store.rescue(rescue).await.unwrap();
        let leased = store.counts().await.unwrap();
        assert!(leased.iter().all(|(state, _)| *state != DeliveryState::Leased));
    }
}

fn session(n: u8) -> SessionId {
    SessionId::from_bytes([n + 1; 16])
}

/// Another process: this test binary, playing a part.
struct Other {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Other {
    fn start(part: &str, path: &Path, number: u8) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "part_of_another_process", "--ignored", "--nocapture"])
            .env("ICP_PART", part)
            .env("ICP_PATH", path)
            .env("ICP_NUMBER", number.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The next whole line of the part; what the test harness prints is left out.
    fn line(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            self.lines.read_line(&mut line).unwrap();
            let line = line.strip_suffix('\n')?;
            if let Some((_, said)) = line.split_once("> ") {
                return Some(said.to_owned());
            }
        }
    }

    /// Kills it as the kernel does, and gives what it had still said.
    fn kill(&mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.line()).collect()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(line: impl std::fmt::Display) {
    let mut out = std::io::stdout();
    writeln!(out, "> {line}").unwrap();
    out.flush().unwrap();
}

#[tokio::test]
#[ignore = "a part that other tests start in a process of its own"]
async fn part_of_another_process() {
    let of = |name| std::env::var_os(name).unwrap().into_string().unwrap();
    let (part, path) = (of("ICP_PART"), of("ICP_PATH"));
    let number: u8 = of("ICP_NUMBER").parse().unwrap();
    match part.as_str() {
        "lock" => {
            let mut raw = SqliteConnection::connect(&format!("sqlite://{path}")).await.unwrap();
            raw.execute("BEGIN IMMEDIATE").await.unwrap();
            say("locked");
            std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        }
        "drain" => drain(&path, number).await,
        _ => work(&path, number).await,
    }
}

async fn drain(path: &str, number: u8) {
    let store = SqliteStore::open(path).await.unwrap();
    store.open_session(session(number), NOW).await.unwrap();
    loop {
        let claimed = store.claim(claim(session(number))).await.unwrap();
        if claimed.deliveries.is_empty() {
            return;
        }
        let settled = store.settle(settle(&claimed)).await.unwrap();
        assert!(settled.iter().all(|settled| *settled == Settled::Recorded));
        claimed.deliveries.iter().for_each(|claimed| say(claimed.delivery.id));
    }
}

async fn work(path: &str, number: u8) {
    let store = SqliteStore::open(path).await.unwrap();
    store.open_session(session(number), NOW).await.unwrap();
    for round in 0.. {
        let first = u128::from(number) * 1_000_000 + round * 20;
        store.ingest(batch(first..first + 20)).await.unwrap();
        say(format_args!("took {first}"));
        let claimed = store.claim(claim(session(number))).await.unwrap();
        say("claimed");
        store.settle(settle(&claimed)).await.unwrap();
        say("settled");
    }
}
