//! Accepted means ended, through kills, freezes and orderly stops: processes end in the middle of
//! their work, at named points of it and at any moment, and nothing they were answered for is
//! lost. On every store.
//!
//! `ICP_KILL_ROUNDS` says how many rounds each scenario goes; without it they are few.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod account;
mod child;
mod crash;
mod database;
mod freeze;
mod host;
mod node;
mod nodes;
mod outbox;
mod point;
mod replay;
#[path = "../database/mod.rs"]
mod servers;
mod stop;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use database::Kind;
use libtest_mimic::{Arguments, Trial};

/// How long something may take that a test waits for.
const PATIENCE: Duration = icp_testkit::receiver::PATIENCE;

type Scenario = fn(Kind) -> Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! scenarios {
    ($($noun:ident::$name:ident,)+) => {
        [$((
            concat!(stringify!($noun), "::", stringify!($name)),
            (|kind| Box::pin($noun::$name(kind))) as Scenario,
        ),)+]
    };
}

fn main() {
    if let Some(part) = child::Part::of_this_process() {
        runtime().block_on(part.play());
    }
    let arguments = Arguments::from_args();
    let scenarios = scenarios![
        crash::loses_nothing_at_any_moment,
        freeze::past_its_lease_records_nothing,
        nodes::go_on_when_one_of_three_is_killed,
        outbox::emits_what_was_committed_and_nothing_else,
        replay::goes_on_without_repeats,
        stop::under_load_finishes_or_gives_back,
    ];
    let mut trials = Vec::new();
    for kind in Kind::all() {
        for (name, scenario) in scenarios {
            trials.push(trial(format!("{kind}::{name}"), move || scenario(kind)));
        }
        for point in point::POINTS {
            let name = format!("{kind}::crash::at_{}", point.operation);
            trials.push(trial(name, move || Box::pin(crash::at_point(kind, point))));
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn trial(
    name: String,
    scenario: impl FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + 'static,
) -> Trial {
    Trial::test(name, move || {
        runtime().block_on(scenario());
        Ok(())
    })
}

/// How many rounds a scenario goes that goes `usual` ones where nothing else is said.
fn rounds(usual: u64) -> u64 {
    variable("ICP_KILL_ROUNDS").map_or(usual, |rounds| rounds.parse().unwrap())
}

#[expect(clippy::disallowed_methods, reason = "a test and its children are told by environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}
