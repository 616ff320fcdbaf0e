//! Accepted means ended, through `kill -9`: a worker process is killed again and again in the
//! middle of its work, and nothing that it was answered for is lost.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod replay;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use icp_testkit::receiver::Receiver;
use libtest_mimic::{Arguments, Trial};

/// What stands in a worker's environment: where its database is, and where to send to.
const DATABASE: &str = "ICP_KILL_DATABASE";
const TARGET: &str = "ICP_KILL_TARGET";
/// Set where the worker has only to replay.
const REPLAY: &str = "ICP_KILL_REPLAY";

const ROUNDS: u64 = 12;

fn main() {
    if let (Ok(database), Ok(target)) = (variable(DATABASE), variable(TARGET)) {
        if variable(REPLAY).is_ok() {
            replay::run(Path::new(&database));
        }
        worker::run(Path::new(&database), &target);
    }
    let arguments = Arguments::from_args();
    let trials = vec![
        Trial::test("nothing_is_lost_when_a_worker_is_killed", || {
            runtime().block_on(nothing_is_lost_when_a_worker_is_killed());
            Ok(())
        }),
        Trial::test("a_replay_goes_on_without_repeats_when_its_worker_is_killed", || {
            runtime().block_on(replay::goes_on_without_repeats_when_its_worker_is_killed());
            Ok(())
        }),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

#[expect(
    clippy::disallowed_methods,
    reason = "the worker is this program, told by its environment"
)]
fn variable(name: &str) -> Result<String, std::env::VarError> {
    std::env::var(name)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

async fn nothing_is_lost_when_a_worker_is_killed() {
    let receiver = Receiver::start().await;
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("icp.db");
    worker::prepare(&database, &receiver.url("/hook")).await;
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUNDS {
        acknowledged.extend(one_life(&database, &receiver, round).await);
    }
    assert!(acknowledged.len() > 100, "the workers published only {}", acknowledged.len());
    worker::finish(&database).await;

    let received = receiver.seen().ids("/hook");
    let lost: Vec<_> = acknowledged.iter().filter(|id| !received.contains_key(*id)).collect();
    assert!(lost.is_empty(), "{} of {} were lost: {lost:?}", lost.len(), acknowledged.len());
    let again: usize = received.values().map(|times| times - 1).sum();
    let bound = usize::try_from(ROUNDS).unwrap() * worker::MOST_UNDER_WAY;
    assert!(again <= bound, "{again} were sent again, at most {bound} may be");
    epochs_tell_repeated_sends_apart(&receiver);
}

/// Starts a worker, lets it work until it has published some, and kills it.
async fn one_life(database: &Path, receiver: &Receiver, round: u64) -> BTreeSet<String> {
    let mut child = spawn(database, &receiver.url("/hook"));
    let before = receiver.seen().count("/hook");
    // Another moment of its life each time: from its first deliveries to hundreds later.
    let enough = before + usize::try_from(round * round * 3 + 5).unwrap();
    receiver.wait_until(|seen| seen.count("/hook") >= enough).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    // The last line may be cut in the middle.
    out.lines().map_while(Result::ok).filter(|line| line.len() == 30).collect()
}

fn spawn(database: &Path, target: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .env(DATABASE, database)
        .env(TARGET, target)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn epochs_tell_repeated_sends_apart(receiver: &Receiver) {
    let mut epochs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for request in receiver.requests("/hook") {
        let fresh = epochs
            .entry(request.header("icp-delivery").to_owned())
            .or_default()
            .insert(request.header("icp-epoch").to_owned());
        assert!(fresh, "one epoch was sent twice: {}", request.header("icp-delivery"));
    }
}

/// How long the last worker has to end everything.
const PATIENCE: Duration = Duration::from_secs(60);
