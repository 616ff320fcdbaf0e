//! What a worker cannot do, and what many of them leave behind. One process for each trial, and
//! nothing else at the same time, so that descriptors and children can be counted.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a child tells its parent")]

use std::fs::{self, File};
use std::io::{Read, Write, pipe};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, Stdio, exit};
use std::time::Duration;

use icp_core::event::EventType;
use icp_core::id::{EventId, OrgId};
use icp_core::lookup::Lookups;
use icp_core::time::Timestamp;
use icp_core::transform::{PlanSpec, TransformContext, Transformer};
use icp_sandbox::{Limits, Sandbox, worker};
use libtest_mimic::{Arguments, Trial};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// The argument that makes this executable try something in confinement.
const TRY: &str = "--try";

/// What is tried, and the signal that ends it on Linux; none where it is allowed.
const ATTEMPTS: &[(&str, Option<i32>)] = &[
    ("compute", None),
    ("open a file", Some(SIGSYS)),
    ("list a directory", Some(SIGSYS)),
    ("create a file", Some(SIGSYS)),
    ("connect", Some(SIGSYS)),
    ("listen", Some(SIGSYS)),
    ("send a datagram", Some(SIGSYS)),
    ("connect to a local socket", Some(SIGSYS)),
    ("run a program", Some(SIGSYS)),
    ("start a thread", Some(SIGSYS)),
    ("take much memory", Some(SIGABRT)),
];

/// How long to wait before something is looked at again.
const BEAT: Duration = Duration::from_millis(1);

const SIGSYS: i32 = 31;
const SIGABRT: i32 = 6;

fn main() -> ExitCode {
    worker::run_if_asked();
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(TRY) {
        attempt(&arguments.next().unwrap());
        exit(0);
    }
    let mut trials = vec![
        trial("descriptors_are_closed", descriptors_are_closed),
        trial("an_orphan_ends", an_orphan_ends),
        trial("kills_leave_nothing_behind", kills_leave_nothing_behind),
        trial("a_host_that_begins_with_it_is_its_own_worker", own_worker),
    ];
    if cfg!(target_os = "linux") {
        trials.extend(ATTEMPTS.iter().map(|(name, ended)| {
            trial(&format!("confined: {name}"), move || confined(name, *ended))
        }));
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &str, run: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name.to_owned(), move || {
        run();
        Ok(())
    })
}

fn attempt(name: &str) {
    worker::confine().unwrap();
    let done = match name {
        "compute" => {
            let text: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
            writeln!(std::io::stdout(), "{}", text.concat().len()).is_ok()
        }
        "open a file" => File::open("/etc/hostname").is_ok(),
        "list a directory" => fs::read_dir("/").is_ok(),
        "create a file" => File::create("/tmp/never").is_ok(),
        "connect" => TcpStream::connect("127.0.0.1:9").is_ok(),
        "listen" => TcpListener::bind("127.0.0.1:0").is_ok(),
        "send a datagram" => UdpSocket::bind("127.0.0.1:0").is_ok(),
        "connect to a local socket" => UnixStream::connect("/tmp/never").is_ok(),
        "run a program" => Command::new("/bin/true").spawn().is_ok(),
        "start a thread" => std::thread::Builder::new().spawn(|| ()).is_ok(),
        "take much memory" => vec![1_u8; 1 << 30].iter().all(|byte| *byte == 1),
        "wait" => {
            println!("confined");
            std::io::stdin().read_to_end(&mut Vec::new()).is_ok()
        }
        other => panic!("nobody knows how to {other}"),
    };
    // Only a lack of confinement leads here, but for what is allowed.
    exit(if done && ["compute", "wait"].contains(&name) { 0 } else { 3 });
}

fn myself(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(Stdio::null());
    command
}

fn confined(name: &str, ended: Option<i32>) {
    let status = myself(&[TRY, name]).status().unwrap();
    match ended {
        None => assert_eq!(status.code(), Some(0)),
        Some(signal) => assert_eq!(status.signal(), Some(signal), "{status}"),
    }
}

/// A descriptor that a host forgot to keep to itself is closed: the last writer of the pipe is
/// gone while the worker lives on.
fn descriptors_are_closed() {
    let (mut reader, writer) = pipe().unwrap();
    fcntl_setfd(&writer, FdFlags::empty()).unwrap();
    let mut child = myself(&[TRY, "wait"]).spawn().unwrap();
    let mut told = [0; 8];
    child.stdout.as_mut().unwrap().read_exact(&mut told).unwrap();
    drop(writer);
    assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap(), 0);
    assert!(child.try_wait().unwrap().is_none());
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

/// A worker whose host is gone ends even in the middle of a program that never does.
fn an_orphan_ends() {
    let mut child = myself(&["--icp-sandbox-worker"]).spawn().unwrap();
    let frame = |head: serde_json::Value, body: &str| {
        let head = head.to_string();
        let length = |text: &str| u32::try_from(text.len()).unwrap().to_le_bytes();
        [&length(&head)[..], &length(body), head.as_bytes(), body.as_bytes()].concat()
    };
    // Of several programs it is told which one begins.
    let plan = json!(["/t", 0, [
        { "javascript": { "source": "Array.prototype.reverse.call({ length: 2 ** 53 - 1 })" } },
        { "jmespath": { "source": "@" } },
    ]]);
    let scene = json!({
        "org": "acme", "event": EventId::from_bytes([7; 16]).to_string(), "event_type": "a.b",
        "received_at": "2026-11-21T03:45:00.123Z", "attempt": 1,
        "integration": null, "vars": {}, "measure": false,
    });
    let input = child.stdin.as_mut().unwrap();
    for bytes in [
        frame(json!({ "limits": {} }), ""),
        frame(json!({ "plan": { "slot": 0 } }), &plan.to_string()),
        frame(json!({ "run": { "number": 1, "slot": 0, "scene": scene } }), "{}"),
    ] {
        input.write_all(&bytes).unwrap();
    }
    let output = child.stdout.as_mut().unwrap();
    for said in ["\"ready\"", r#"{"begins":{"number":1,"program":0}}"#] {
        let mut frame = vec![0; 8 + said.len()];
        output.read_exact(&mut frame).unwrap();
        assert!(frame.ends_with(said.as_bytes()), "{}", String::from_utf8_lossy(&frame));
    }
    drop(child.stdin.take());
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn code(sandbox: &Sandbox, source: &str) -> Result<(), &'static str> {
    code_of(sandbox, "acme", source).await
}

async fn code_of(sandbox: &Sandbox, name: &str, source: &str) -> Result<(), &'static str> {
    let spec = json!([{ "javascript": { "source": source } }]);
    let plan = serde_json::from_value::<PlanSpec>(spec).unwrap().compile("/transform").unwrap();
    let org = OrgId::new(name).unwrap();
    let lookups = Lookups::default();
    let event_type = EventType::new("order.paid").unwrap();
    let cx = TransformContext::new(
        &org,
        EventId::from_bytes([7; 16]),
        &event_type,
        Timestamp::EPOCH,
        lookups.view(None),
    );
    sandbox.run(&plan, "{}".into(), &cx).await.map(drop).map_err(|error| error.code)
}

fn own_worker() {
    let sandbox = Sandbox::builder().own_executable().build().unwrap();
    runtime().block_on(async {
        sandbox.probe().await.unwrap();
        assert_eq!(code(&sandbox, "return 1").await, Ok(()));
    });
}

/// More than a thousand workers are killed: for what their programs do, while idle, and in the
/// middle of a call.
fn kills_leave_nothing_behind() {
    let until = |deadline_ms, grace_ms| {
        let mut limits = Limits::default();
        (limits.deadline_ms, limits.grace_ms) = (deadline_ms, grace_ms);
        Sandbox::builder().own_executable().limits(limits).build().unwrap()
    };
    // Of the patient one, the worker is killed by this test, which a busy machine makes late.
    let (hasty, patient) = (until(10, 1), until(1_000, 100));
    runtime().block_on(async {
        let kill_some = async |round| {
            let one = kill_thirty(&hasty, &patient, "acme", round);
            tokio::join!(one, kill_thirty(&hasty, &patient, "umbrella", round))
        };
        kill_some(0).await;
        let before = (descriptors(), children());
        for round in 1..=17 {
            kill_some(round).await;
        }
        let settled = tokio::time::timeout(Duration::from_secs(10), async {
            while (descriptors(), children()) > before {
                tokio::time::sleep(BEAT).await;
            }
        });
        assert!(settled.await.is_ok(), "{before:?}, then {:?}", (descriptors(), children()));
    });
}

async fn kill_thirty(hasty: &Sandbox, patient: &Sandbox, org: &str, round: u32) {
    for n in 0..10 {
        // Another program each time, or it would be suspended.
        let hang =
            format!("Array.prototype.reverse.call({{ length: 2 ** 53 - 1 }}) // {round} {n}");
        assert_eq!(code_of(hasty, org, &hang).await, Err("timeout_hard"));
        assert_eq!(code_of(patient, org, "return 1").await, Ok(()));
        let worker = idle(patient, org).unwrap();
        kill(worker);
        while is_running(worker) {
            tokio::time::sleep(BEAT).await;
        }
        assert_eq!(code_of(patient, org, "return 1").await, Ok(()));
        let worker = idle(patient, org).unwrap();
        let killer = async {
            while idle(patient, org).is_some() {
                tokio::time::sleep(BEAT).await;
            }
            kill(worker);
        };
        let endless = format!("for (;;) {{}} // {round} {n}");
        let (found, ()) = tokio::join!(code_of(patient, org, &endless), killer);
        assert_eq!(found, Err("crashed"));
    }
}

fn idle(sandbox: &Sandbox, name: &str) -> Option<u32> {
    let of = |(org, worker): (OrgId, _)| if org.as_str() == name { worker } else { None };
    sandbox.idle_workers().into_iter().find_map(of)
}

fn kill(worker: u32) {
    let worker = Pid::from_raw(i32::try_from(worker).unwrap()).unwrap();
    kill_process(worker, Signal::KILL).unwrap();
}

/// Whether it has threads that run, or is there at all.
fn is_running(worker: u32) -> bool {
    let at = format!("/proc/{worker}");
    let threads = fs::read_dir(format!("{at}/task")).map_or(0, Iterator::count);
    threads > 1 || fs::read_to_string(at + "/stat").is_ok_and(|stat| !stat.contains(") Z "))
}

fn descriptors() -> usize {
    fs::read_dir("/dev/fd").unwrap().count()
}

/// The processes, living and not waited for, that this one started.
fn children() -> usize {
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let parent =
        |stat: String| Some(stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.to_owned());
    stats.filter(|stat| parent(stat.clone()).as_ref() == Some(&own)).count()
}
