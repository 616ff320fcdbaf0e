//! What crossing into another language costs: the same work asked for by programs in C, Node and
//! Python through the library, and by one in Rust that is no part of the runtime.
//!
//! Each is a process of its own that lives as long as the run, and all take turns, as a machine's
//! speed changes from second to second. Of each the best turn counts: what disturbs a turn makes
//! it slower.

mod native;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

pub(crate) use native::serve;

use crate::report::{Goal, Report, Row};
use crate::{Result, usage};

/// Operations under way at once, and events of one call that takes several.
const IN_FLIGHT: usize = 256;
/// How often each arm has its turn.
const TURNS: usize = 7;

/// Programs in other languages on the library, beside one in Rust.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A program in one of the languages, as `c=<command and its arguments>`; `c`, `node` or
    /// `python`. It reads and answers lines as those in `benches/boundary` do. Repeatable.
    #[arg(long = "host", required = true)]
    hosts: Vec<Program>,
}

#[derive(Clone, Debug)]
struct Program {
    language: String,
    command: Vec<String>,
}

impl FromStr for Program {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (language, command) = text.split_once('=').ok_or("write it as `c=./host`")?;
        if !["c", "node", "python"].contains(&language) {
            return Err(format!("`{language}` is not one of c, node, python"));
        }
        let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if command.is_empty() {
            return Err(format!("say what runs `{language}`"));
        }
        Ok(Self { language: language.to_owned(), command })
    }
}

/// What a program is asked to do.
struct Line {
    arm: String,
    count: usize,
}

impl FromStr for Line {
    type Err = String;

    fn from_str(line: &str) -> std::result::Result<Self, String> {
        let (arm, count) = line.split_once(' ').ok_or("write it as `publish 1000`")?;
        let count = count.parse().map_err(|_| format!("`{count}` is no number"))?;
        Ok(Self { arm: arm.to_owned(), count })
    }
}

/// What one turn took.
#[derive(Clone, Copy, Debug)]
struct Turn {
    wall: Duration,
    cpu: Duration,
    /// Of one call, where they come one after the other.
    median: Duration,
}

impl Turn {
    fn since((wall, cpu): (Duration, Duration), median: Duration) -> Self {
        let (wall, cpu) = (usage::now().saturating_sub(wall), usage::cpu().saturating_sub(cpu));
        Self { wall, cpu, median }
    }

    #[expect(clippy::print_stdout, reason = "the answer of the program")]
    fn print(self) {
        let Self { wall, cpu, median } = self;
        println!("{} {} {}", wall.as_nanos(), cpu.as_nanos(), median.as_nanos());
    }
}

impl FromStr for Turn {
    type Err = String;

    fn from_str(line: &str) -> std::result::Result<Self, String> {
        let mut numbers = line.split_whitespace().map(|number| {
            number.parse().map(Duration::from_nanos).map_err(|_| format!("answered `{line}`"))
        });
        let mut next = || numbers.next().ok_or_else(|| format!("answered `{line}`"))?;
        Ok(Self { wall: next()?, cpu: next()?, median: next()? })
    }
}

/// What is asked for: how often, and of whom.
struct Arm {
    name: &'static str,
    /// What it is called in the report.
    title: &'static str,
    count: usize,
    /// Programs in Rust and C have no part in it.
    of_packages: bool,
}

const ARMS: [Arm; 6] = [
    Arm { name: "publish", title: "publish", count: 100 * IN_FLIGHT, of_packages: false },
    Arm { name: "many", title: "publish many", count: 200 * IN_FLIGHT, of_packages: false },
    Arm { name: "durable", title: "publish, SQLite", count: 50 * IN_FLIGHT, of_packages: false },
    Arm { name: "one", title: "one at a time", count: 2_000, of_packages: false },
    Arm { name: "handler", title: "handler", count: 50 * IN_FLIGHT, of_packages: true },
    Arm { name: "close", title: "close", count: 1, of_packages: true },
];

/// For an arm and a language: the least of the baseline's rate, and the most processor time
/// beyond it in microseconds.
const GOALS: [(&str, &str, f64, f64); 9] = [
    ("publish", "c", 0.70, 1.0),
    ("publish", "node", 0.15, 8.0),
    ("publish", "python", 0.10, 12.0),
    ("many", "c", 0.70, 1.0),
    ("many", "node", 0.35, 3.0),
    ("many", "python", 0.15, 6.0),
    ("durable", "c", 0.90, 1.0),
    ("durable", "node", 0.80, 8.0),
    ("durable", "python", 0.60, 12.0),
];

pub(crate) fn run(arguments: &Arguments, scale: f64) -> Result<Report> {
    let own = std::env::current_exe()?.to_string_lossy().into_owned();
    let mut programs =
        vec![Program { language: "rust".to_owned(), command: vec![own, "native".to_owned()] }];
    programs.extend(arguments.hosts.iter().cloned());
    let mut hosts = programs.iter().map(Host::start).collect::<Result<Vec<_>>>()?;
    let mut report = Report::default();
    for arm in &ARMS {
        let count = scaled(arm, scale);
        for _ in 0..TURNS {
            for host in hosts.iter_mut().filter(|host| host.takes_part(arm)) {
                host.turn(arm.name, count)?;
            }
        }
        tell(&mut report, arm, count, &hosts);
        hosts.iter_mut().for_each(|host| host.turns.clear());
    }
    Ok(report)
}

/// Whole calls of many events.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are small"
)]
fn scaled(arm: &Arm, scale: f64) -> usize {
    if arm.count < IN_FLIGHT {
        return arm.count;
    }
    let calls = (arm.count as f64 * scale / IN_FLIGHT as f64).ceil() as usize;
    calls.max(2) * IN_FLIGHT
}

fn tell(report: &mut Report, arm: &Arm, count: usize, hosts: &[Host]) {
    let base = hosts.iter().find(|host| host.language == "rust").map(Host::best);
    for host in hosts.iter().filter(|host| !host.turns.is_empty()) {
        let best = host.best();
        let name = format!("{}, {}", arm.title, host.language);
        let p50 = best.median.as_secs_f64() * 1e3;
        report.row(Row::of_requests(&name, count as u64, best.cpu, best.wall, [p50; 3]));
        for goal in goals(arm, &host.language, best, base.unwrap_or(best), count) {
            report.goal(goal.named(&name));
        }
    }
}

/// What is to be reached; processor time is steadier than what a clock on the wall tells.
#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn goals(arm: &Arm, language: &str, best: Turn, base: Turn, count: usize) -> Vec<Goal> {
    let (wall, each) = (best.wall.as_secs_f64(), 1e6 / count as f64);
    match arm.name {
        "one" => vec![Goal::at_most("p50, us", best.median.as_secs_f64() * 1e6, 50.0).ungated()],
        "close" => vec![Goal::at_most("ms beyond its time", wall * 1e3, 100.0).ungated()],
        "handler" => {
            let least = if language == "node" { 80_000.0 } else { 50_000.0 };
            vec![Goal::at_least("answers a second", count as f64 / wall, least).ungated()]
        }
        name => GOALS
            .iter()
            .filter(|(of, to, ..)| *of == name && *to == language)
            .flat_map(|(_, _, rate, most)| {
                let ratio = base.wall.as_secs_f64() / wall;
                let beyond = (best.cpu.as_secs_f64() - base.cpu.as_secs_f64()) * each;
                [
                    Goal::at_least("rate over Rust's", ratio, *rate).ungated(),
                    Goal::at_most("CPU beyond Rust's, us", beyond, *most),
                ]
            })
            .collect(),
    }
}

/// A program that takes its turns.
struct Host {
    language: String,
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
    turns: Vec<Turn>,
}

impl Host {
    fn start(program: &Program) -> Result<Self> {
        let mut words = program.command.iter();
        let path = words.next().ok_or("a program without a name")?;
        let mut child = Command::new(path)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{path}: {error}"))?;
        let (Some(mut asks), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a program without pipes".into());
        };
        writeln!(asks, "{}", event())?;
        let answers = BufReader::new(answers);
        Ok(Self { language: program.language.clone(), child, asks, answers, turns: Vec::new() })
    }

    fn takes_part(&self, arm: &Arm) -> bool {
        !arm.of_packages || ["node", "python"].contains(&&*self.language)
    }

    fn turn(&mut self, arm: &str, count: usize) -> Result<()> {
        writeln!(self.asks, "{arm} {count}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        let turn = answer.parse();
        self.turns.push(turn.map_err(|error: String| format!("{}: {error}", self.language))?);
        Ok(())
    }

    /// The least of each.
    fn best(&self) -> Turn {
        let least = |of: fn(&Turn) -> Duration| self.turns.iter().map(of).min().unwrap_or_default();
        let (wall, cpu) = (least(|turn| turn.wall), least(|turn| turn.cpu));
        Turn { wall, cpu, median: least(|turn| turn.median) }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An order of some 490 bytes.
fn event() -> String {
    let item = |sku: &str| serde_json::json!({ "sku": sku, "quantity": 2, "price": "12.50", "currency": "EUR" });
    let order = serde_json::json!({
        "org": "acme",
        "type": "order.paid",
        "data": {
            "order": 17,
            "customer": { "id": "c-4711", "name": "Ada Lovelace", "mail": "ada@example.com" },
            "address": { "street": "12 St James's Square", "city": "London", "zip": "SW1Y 4JH" },
            "items": [item("A-100"), item("B-200"), item("C-300")],
            "note": "leave it with the neighbours",
        },
    });
    order.to_string()
}
