//! The HTTP API over a real listener, beside a bare handler that answers the same bytes.
//!
//! The server is a process of its own, so that the CPU of who asks does not count as its own. The
//! arms take turns, as a machine's speed changes from second to second; reported is the median.

mod client;
mod server;

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use icp::time::{Clock, SystemClock};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::report::{Goal, Report, Row};

pub(crate) use server::serve;

/// How often each arm has its turn.
const TURNS: usize = 5;
/// Connections that ask as fast as they are answered.
const CALLERS: usize = 32;
/// Requests a second where latency is what counts.
const RATE: u32 = 1_000;

/// Where a started server is, and what it knows.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Address {
    /// The bare handlers, and `/cpu`.
    bare: String,
    /// The API.
    api: String,
    key: String,
}

/// What is asked for, over and over.
struct Arm {
    name: &'static str,
    address: String,
    request: String,
    /// Whether it may be sent at a rate beside the others: it only reads.
    reads: bool,
}

/// One turn of an arm.
#[derive(Clone, Copy)]
struct Turn {
    requests: u64,
    cpu: f64,
    wall: f64,
    /// p50, p95 and p99.
    latency_ms: [f64; 3],
}

impl Turn {
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    fn cpu_each(&self) -> f64 {
        self.cpu / self.requests as f64
    }
}

pub(crate) async fn run(report: &mut Report, scale: f64) -> Result<()> {
    let server = Server::start()?;
    let arms = arms(&server.address);
    let length = Duration::from_secs_f64((2.0 * scale).max(0.2));
    for arm in &arms {
        turn(&server, arm, length / 4).await?;
    }
    let mut turns: Vec<Vec<Turn>> = arms.iter().map(|_| Vec::new()).collect();
    for _ in 0..TURNS {
        for (arm, turns) in arms.iter().zip(&mut turns) {
            turns.push(turn(&server, arm, length).await?);
        }
    }
    for (number, arm) in arms.iter().enumerate().skip(2) {
        // The bare arm of the same size of answer.
        let bare = &turns[usize::from(arm.name == "list of 20")];
        let ratios =
            turns[number].iter().zip(bare).map(|(own, bare)| own.cpu_each() / bare.cpu_each());
        let ratio = median(ratios.collect());
        if arm.name == "get" {
            report.goal(Goal::at_most("api: CPU of a read over a bare handler", ratio, 3.0));
        } else {
            report.note(format!("api: CPU of `{}` over a bare handler: {ratio:.2}", arm.name));
        }
    }
    for (arm, turns) in arms.iter().zip(&mut turns) {
        turns.sort_by(|one, other| one.cpu_each().total_cmp(&other.cpu_each()));
        let turn = turns[TURNS / 2];
        let row = row(arm.name, &turn);
        if arm.name == "get" {
            report.goal(Goal::at_least("api: reads a second", row.per_second, 10_000.0));
        }
        report.row(row);
    }
    for arm in arms.iter().filter(|arm| arm.reads) {
        let turn = paced(&server, arm, length * 2).await?;
        if arm.name == "get" {
            let what = format!("api: p99 of a read at {RATE} a second, ms");
            report.goal(Goal::at_most(what, turn.latency_ms[2], 5.0));
        }
        report.row(row(&format!("{}, {RATE} a second", arm.name), &turn));
    }
    Ok(())
}

fn arms(address: &Address) -> Vec<Arm> {
    let key = format!("authorization: Bearer {}\r\n", address.key);
    let get = |path: &str, key: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n{key}\r\n");
    let integrations = "/api/v1/organizations/org-0/integrations";
    // So late that nothing is delivered while it is measured.
    let due_at = SystemClock.now() + Duration::from_secs(300 * 86_400);
    let body =
        format!("{{\"type\":\"order.paid\",\"data\":{{\"order\":17}},\"due_at\":\"{due_at}\"}}");
    let publish = format!(
        "POST /api/v1/organizations/org-0/events HTTP/1.1\r\nhost: a\r\n{key}content-type: \
         application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let arm = |name, address: &str, request, reads| Arm {
        name,
        address: address.to_owned(),
        request,
        reads,
    };
    vec![
        arm("bare, as get", &address.bare, get("/one", ""), false),
        arm("bare, as list", &address.bare, get("/many", ""), false),
        arm("get", &address.api, get(&format!("{integrations}/hook"), &key), true),
        arm("list of 20", &address.api, get(&format!("{integrations}?limit=20"), &key), true),
        arm("publish", &address.api, publish, false),
    ]
}

async fn turn(server: &Server, arm: &Arm, length: Duration) -> Result<Turn> {
    let before = server.cpu().await?;
    let asked = client::ask(&arm.address, &arm.request, CALLERS, length).await?;
    Ok(Turn {
        requests: asked.requests,
        cpu: server.cpu().await? - before,
        wall: asked.wall.as_secs_f64(),
        latency_ms: asked.latency_ms,
    })
}

async fn paced(server: &Server, arm: &Arm, length: Duration) -> Result<Turn> {
    let before = server.cpu().await?;
    let asked = client::pace(&arm.address, &arm.request, RATE, length).await?;
    Ok(Turn {
        requests: asked.requests,
        cpu: server.cpu().await? - before,
        wall: asked.wall.as_secs_f64(),
        latency_ms: asked.latency_ms,
    })
}

fn row(name: &str, turn: &Turn) -> Row {
    let (cpu, wall) = (Duration::from_secs_f64(turn.cpu), Duration::from_secs_f64(turn.wall));
    Row::of_requests(&format!("api: {name}"), turn.requests, cpu, wall, turn.latency_ms)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A started server; ends with this value.
#[derive(Debug)]
struct Server {
    child: Child,
    address: Address,
}

impl Server {
    fn start() -> Result<Self> {
        let mut child = std::process::Command::new(std::env::current_exe()?)
            .arg("api")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let out = child.stdout.take().ok_or("the server has no output")?;
        BufReader::new(out).read_line(&mut line)?;
        Ok(Self { child, address: serde_json::from_str(&line)? })
    }

    /// The CPU seconds that it has used.
    async fn cpu(&self) -> Result<f64> {
        let answer = crate::bare::get(&format!("http://{}/cpu", self.address.bare)).await?;
        Ok(std::str::from_utf8(&answer)?.parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
