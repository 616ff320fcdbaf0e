//! When workers end by themselves: idle for long, used for long, or grown.

use std::time::Duration;

use icp_sandbox::{Limits, Sandbox};
use rustix::process::{Pid, getpriority_process};
use serde_json::json;

use crate::fake::{Fake, frame, good, is_gone, until};
use crate::fixture::{builder, outcome, plan, report, script};

fn only_worker(sandbox: &Sandbox) -> u32 {
    let idle = sandbox.idle_workers();
    assert_eq!(idle.len(), 1, "{idle:?}");
    idle[0].1.unwrap()
}

async fn call(sandbox: &Sandbox, name: &str) {
    assert_eq!(outcome(sandbox, name, &script("return 1"), "{}").await, "1");
}

/// Moves the clock while nothing is under way.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn an_idle_worker_ends_though_nobody_calls() {
    let sandbox = builder().idle(Duration::from_millis(50)).build().unwrap();
    call(&sandbox, "a").await;
    let workers = sandbox.idle_workers();
    until("no worker is kept", || sandbox.idle_workers().is_empty()).await;
    for (_, worker) in workers {
        until("the worker is gone", || is_gone(worker.unwrap())).await;
    }
    call(&sandbox, "a").await;
}

#[tokio::test]
async fn idle_workers_are_kept_for_two_minutes() {
    let sandbox = builder().build().unwrap();
    call(&sandbox, "a").await;
    let first = only_worker(&sandbox);
    pass(Duration::from_secs(110)).await;
    assert!(!is_gone(first));
    call(&sandbox, "a").await;
    assert_eq!(only_worker(&sandbox), first);
    pass(Duration::from_secs(110)).await;
    assert_eq!(only_worker(&sandbox), first);
    pass(Duration::from_secs(11)).await;
    until("the worker is gone", || is_gone(first)).await;
    assert!(sandbox.idle_workers().is_empty());
}

#[tokio::test]
async fn a_worker_is_renewed_after_ten_minutes() {
    let sandbox = builder().idle(Duration::from_secs(3_600)).build().unwrap();
    call(&sandbox, "a").await;
    let first = only_worker(&sandbox);
    pass(Duration::from_secs(590)).await;
    call(&sandbox, "a").await;
    assert_eq!(only_worker(&sandbox), first);
    pass(Duration::from_secs(11)).await;
    // It still answers this one.
    call(&sandbox, "a").await;
    until("the worker is gone", || is_gone(first)).await;
    assert!(sandbox.idle_workers().is_empty());
    call(&sandbox, "a").await;
    assert_ne!(only_worker(&sandbox), first);
}

#[tokio::test]
async fn a_worker_is_renewed_after_ten_thousand_calls() {
    let sandbox = builder().idle(Duration::from_secs(3_600)).build().unwrap();
    let quick = plan(json!([{ "jmespath": { "source": "@" } }]));
    let mut first = None;
    for n in 1..=10_000 {
        assert_eq!(outcome(&sandbox, "a", &quick, "7").await, "7");
        if n == 1 || n == 9_999 {
            let worker = only_worker(&sandbox);
            assert_eq!(*first.get_or_insert(worker), worker, "call {n}");
        }
    }
    assert!(sandbox.idle_workers().is_empty());
    call(&sandbox, "a").await;
    assert_ne!(Some(only_worker(&sandbox)), first);
}

/// How nice each thread of a process is to others.
fn niceness(process: u32) -> Vec<i32> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let of = |name: std::ffi::OsString| name.to_str().unwrap().parse().unwrap();
    let threads = threads.map(|thread| Pid::from_raw(of(thread.unwrap().file_name())));
    threads.map(|thread| getpriority_process(thread).unwrap()).collect()
}

/// It yields to others by then, and cannot take that back.
#[tokio::test]
async fn a_worker_whose_program_takes_long_yields_and_ends() {
    let mut limits = Limits::default();
    limits.deadline_ms = Limits::MAX.deadline_ms;
    let sandbox = builder().limits(limits).build().unwrap();
    let long = "for (let n = 0; n < payload; n++) JSON.parse('[1,2,3,4,5,6,7,8,9]'); return 1";
    let calls = async |program: &str, times: &str| {
        report(&sandbox, "a", &script(program), times).await.unwrap().cpu
    };
    let long_enough = Duration::from_millis(100);
    assert!(calls(long, "1").await < Duration::from_millis(20));
    let first = only_worker(&sandbox);
    let own = getpriority_process(None).unwrap();
    assert_eq!(niceness(first), [own, own]);
    assert!(calls(long, "300000").await > long_enough);
    until("the worker is gone", || is_gone(first)).await;
    assert!(sandbox.idle_workers().is_empty());
    // One that compiled the program in that call is kept: the next would have to do so again. It
    // yields once, however often it takes long.
    for program in [long.to_owned(), format!("{long} // another"), format!("{long} // a third")] {
        assert!(calls(&program, "300000").await > long_enough);
        assert_eq!(niceness(only_worker(&sandbox)), [(own + 5).min(19); 2]);
    }
    let second = only_worker(&sandbox);
    calls(long, "1").await;
    assert_eq!(only_worker(&sandbox), second);
}

/// A worker that holds more than 64 MiB is found out within sixteen calls.
#[tokio::test]
async fn a_worker_that_has_grown_is_renewed() {
    let answers: Vec<_> = (1..=20).flat_map(|n| frame(&good(n), "7")).collect();
    let grow = "X=$(head -c 70000000 /dev/zero | tr '\\0' x)\ncat $AT/ready $AT/answer; read LINE";
    for (script, renewed) in [(grow, true), ("cat $AT/ready $AT/answer; read LINE", false)] {
        let fake = Fake::raw(script, &answers);
        let sandbox = fake.sandbox();
        let plan = plan(json!([{ "jmespath": { "source": "@" } }]));
        for n in 1..=16 {
            assert_eq!(outcome(&sandbox, "a", &plan, "7").await, "7", "call {n}");
            assert_eq!(sandbox.idle_workers().is_empty(), n == 16 && renewed, "call {n}");
        }
    }
}
