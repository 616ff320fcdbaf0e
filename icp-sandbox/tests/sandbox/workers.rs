//! Workers that die, lie or idle, and programs that keep killing them.

use std::time::Duration;

use icp_core::transform::Transformer;
use icp_sandbox::{Limits, Sandbox};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::time::Instant;

use crate::fake::{is_gone, until};
use crate::fixture::{builder, function, org, outcome, plan, run, sandbox, script};

fn script_of() -> icp_core::transform::Plan {
    script("return 1")
}

#[tokio::test]
async fn a_worker_that_cannot_start_is_told_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("worker");
    std::fs::write(&path, "no program").unwrap();
    let sandbox = Sandbox::builder().program(&path).build().unwrap();
    let error = run(&sandbox, "a", &script_of(), "{}").await.unwrap_err();
    assert_eq!((error.code, error.retryable), ("unavailable", true));
    assert!(sandbox.probe().await.is_err());
    assert!(crate::fixture::sandbox().probe().await.is_ok());
}

#[tokio::test]
async fn a_worker_that_is_killed_fails_one_call_at_most() {
    let mut limits = Limits::default();
    limits.deadline_ms = 1_000;
    let sandbox = builder().limits(limits).build().unwrap();
    // While idle: nobody notices.
    assert_eq!(outcome(&sandbox, "a", &script_of(), "{}").await, "1");
    let (_, idle) = sandbox.idle_workers().pop().unwrap();
    kill(idle.unwrap());
    until("the worker is gone", || {
        let at = format!("/proc/{}", idle.unwrap());
        let threads = std::fs::read_dir(format!("{at}/task")).unwrap().count();
        threads == 1 && std::fs::read_to_string(at + "/stat").unwrap().contains(") Z ")
    })
    .await;
    assert_eq!(outcome(&sandbox, "a", &script_of(), "{}").await, "1");
    // In the middle of a call.
    let (_, pid) = sandbox.idle_workers().pop().unwrap();
    let looping = script("for (;;) {}");
    let call = outcome(&sandbox, "a", &looping, "{}");
    let killer = async {
        until("the call began", || sandbox.idle_workers().is_empty()).await;
        kill(pid.unwrap());
    };
    let (found, ()) = tokio::join!(call, killer);
    assert_eq!(found, "!crashed");
    assert_eq!(outcome(&sandbox, "a", &script_of(), "{}").await, "1");
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_call_that_is_dropped_takes_its_worker_along() {
    let mut limits = Limits::default();
    limits.deadline_ms = 1_000;
    let sandbox = builder().limits(limits).build().unwrap();
    assert_eq!(outcome(&sandbox, "a", &script_of(), "{}").await, "1");
    let (_, pid) = sandbox.idle_workers().pop().unwrap();
    let looping = script("for (;;) {}");
    tokio::select! {
        found = outcome(&sandbox, "a", &looping, "{}") => panic!("{found}"),
        () = until("the call began", || sandbox.idle_workers().is_empty()) => {}
    }
    until("the worker is gone", || is_gone(pid.unwrap())).await;
    assert_eq!(outcome(&sandbox, "a", &script_of(), "{}").await, "1");
}

#[tokio::test]
async fn workers_end_with_their_sandbox() {
    let sandbox = sandbox();
    for name in ["a", "b"] {
        assert_eq!(outcome(&sandbox, name, &script_of(), "{}").await, "1");
    }
    let idle = sandbox.idle_workers();
    assert_eq!(idle.len(), 2);
    drop(sandbox);
    for (_, pid) in idle {
        until("the worker is gone", || is_gone(pid.unwrap())).await;
    }
}

#[tokio::test]
async fn an_organization_keeps_its_worker_and_shares_it_with_nobody() {
    let sandbox = builder().workers(2).build().unwrap();
    let only = |sandbox: &Sandbox, name: &str| {
        let of = |(owner, pid): (_, Option<u32>)| (owner == org(name)).then_some(pid.unwrap());
        sandbox.idle_workers().into_iter().find_map(of)
    };
    assert_eq!(outcome(&sandbox, "a", &script_of(), "{}").await, "1");
    let a = only(&sandbox, "a").unwrap();
    assert_eq!(outcome(&sandbox, "a", &script_of(), "{}").await, "1");
    assert_eq!(only(&sandbox, "a"), Some(a));
    assert_eq!(outcome(&sandbox, "b", &script_of(), "{}").await, "1");
    assert_ne!(only(&sandbox, "b"), Some(a));
    // A third organization takes the place of the worker that was idle longest.
    assert_eq!(outcome(&sandbox, "c", &script_of(), "{}").await, "1");
    assert_eq!(only(&sandbox, "a"), None);
    assert!(only(&sandbox, "b").is_some() && only(&sandbox, "c").is_some());
    until("the worker is gone", || is_gone(a)).await;
}

#[tokio::test]
async fn a_program_that_keeps_killing_workers_is_suspended_alone() {
    let sandbox = sandbox();
    let deadly = script("Array.prototype.reverse.call({ length: 2 ** 53 - 1 })");
    for _ in 0..5 {
        assert_eq!(outcome(&sandbox, "a", &deadly, "{}").await, "!timeout_hard");
    }
    let error = run(&sandbox, "a", &deadly, "{}").await.unwrap_err();
    assert_eq!((error.code, error.retryable), ("suspended", true));
    assert_eq!(error.pointer.as_deref(), Some("/transform/0/javascript/source"));
    let with_it = plan(json!([
        { "jmespath": { "source": "@" } },
        { "javascript": { "source": "Array.prototype.reverse.call({ length: 2 ** 53 - 1 })" } },
    ]));
    assert_eq!(outcome(&sandbox, "a", &with_it, "{}").await, "!suspended");
    assert_eq!(outcome(&sandbox, "a", &script_of(), "{}").await, "1");
    assert_eq!(outcome(&sandbox, "b", &deadly, "{}").await, "!timeout_hard");
}

#[tokio::test]
async fn the_deadly_step_of_a_plan_is_named() {
    let steps = plan(json!([
        { "jmespath": { "source": "@" } },
        { "map": {} },
        { "javascript": { "source": "Array.prototype.reverse.call({ length: 2 ** 53 - 1 })" } },
    ]));
    let error = run(&sandbox(), "a", &steps, "{}").await.unwrap_err();
    assert_eq!(error.code, "timeout_hard");
    assert_eq!(error.pointer.as_deref(), Some("/transform/2/javascript/source"));
}

#[tokio::test]
async fn calls_beyond_the_queue_are_refused_for_now() {
    let mut limits = Limits::default();
    (limits.running_per_org, limits.waiting_per_org) = (1, 2);
    let sandbox = builder().limits(limits).build().unwrap();
    let slow = function("for (let i = 0; i < 1e5; i++); return 1");
    let calls = (0..6).map(|_| run(&sandbox, "a", &slow, "{}"));
    let all = futures_util::future::join_all(calls);
    let quick = script_of();
    let other = outcome(&sandbox, "b", &quick, "{}");
    let (found, other) = tokio::join!(all, other);
    assert_eq!(other, "1");
    let refused: Vec<_> = found.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(refused.iter().all(|error| error.code == "overloaded" && error.retryable));
    assert_eq!((found.len() - refused.len(), refused.len()), (3, 3));
}

#[tokio::test]
async fn a_neighbour_is_served_while_another_organization_hangs() {
    let sandbox = builder().workers(4).build().unwrap();
    let began = Instant::now();
    let hanging = (0..8).map(|n| {
        let deadly = format!("Array.prototype.reverse.call({{ length: 2 ** 53 - 1 }}) // {n}");
        let (sandbox, deadly) = (sandbox.clone(), script(&deadly));
        async move { outcome(&sandbox, "villain", &deadly, "{}").await }
    });
    let served = async {
        for n in 0..50 {
            let input = format!("{{\"n\":{n}}}");
            let found = outcome(&sandbox, "neighbour", &function("return payload.n"), &input).await;
            assert_eq!(found, n.to_string());
        }
        began.elapsed()
    };
    let (hung, served) = tokio::join!(futures_util::future::join_all(hanging), served);
    assert!(hung.iter().all(|found| found == "!timeout_hard"), "{hung:?}");
    assert!(served < Duration::from_secs(10), "{served:?}");
}

#[tokio::test]
async fn many_organizations_share_few_workers_and_nobody_starves() {
    // Nobody is late here, however busy the machine.
    let mut limits = Limits::default();
    limits.deadline_ms = Limits::MAX.deadline_ms;
    let sandbox = builder().workers(2).limits(limits).build().unwrap();
    let orgs = (0..60).map(|n| {
        let sandbox = sandbox.clone();
        async move {
            let (name, input) = (format!("org-{n}"), n.to_string());
            for _ in 0..2 {
                let found = outcome(&sandbox, &name, &function("return payload"), &input).await;
                assert_eq!(found, input, "{name}");
                assert!(sandbox.idle_workers().len() <= 2);
            }
        }
    });
    futures_util::future::join_all(orgs).await;
    let idle = sandbox.idle_workers();
    assert_eq!(idle.len(), 2);
    assert_ne!(idle[0].0, idle[1].0);
}

#[tokio::test]
async fn more_plans_than_a_worker_holds_are_run_all_the_same() {
    let sandbox = sandbox();
    for round in 0..2 {
        for n in 0..80 {
            let found = outcome(&sandbox, "a", &script(&format!("return {n}")), "{}").await;
            assert_eq!(found, n.to_string(), "round {round}");
        }
    }
    assert_eq!(sandbox.idle_workers().len(), 1);
}

#[tokio::test]
async fn programs_are_checked_where_they_run() {
    let sandbox = sandbox();
    let broken = plan(json!([
        { "javascript": { "source": "return (" } },
        { "jmespath": { "source": "a" } },
        { "jsonata": { "source": "a[" } },
        { "map": {} },
        { "schema": { "type": "strange" } },
    ]));
    let found = sandbox.check(&broken, &org("a")).await.unwrap_err();
    let found: Vec<_> = found.iter().map(|e| (e.code, e.pointer.as_deref().unwrap())).collect();
    assert_eq!(
        found,
        [
            ("compile", "/transform/0/javascript/source"),
            ("compile", "/transform/2/jsonata/source"),
            ("compile", "/transform/4/schema/type"),
        ]
    );
    let mut limits = Limits::default();
    limits.jmespath_bytes = 8;
    let strict = builder().limits(limits).build().unwrap();
    let long = plan(json!([{ "jmespath": { "source": "a.b.c.d.e" } }]));
    assert_eq!(strict.check(&long, &org("a")).await.unwrap_err()[0].code, "compile");
    assert!(sandbox.check(&long, &org("a")).await.is_ok());
}
