use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::Org;
use crate::client::{Call, Client, Events, Remote};
use crate::failure::{Failure, Result};
use crate::output::{self, cell, plain};

/// In how many of the newest deliveries it is looked for attempts that were made before.
const DEPTH: usize = 200;

/// How many attempts are remembered as shown.
const REMEMBERED: usize = 10_000;

/// How long it waits before it opens a stream again that broke off.
const PAUSE: Duration = Duration::from_secs(1);

/// Whose attempts, and for how long.
#[derive(Args, Debug)]
pub(crate) struct Tail {
    #[command(flatten)]
    org: Org,
    /// Only those to this integration.
    #[arg(long, short, value_name = "ID")]
    integration: Option<String>,
    /// Only those that failed.
    #[arg(long)]
    failed: bool,
    /// Shows what is there and ends, in place of waiting for more.
    #[arg(long)]
    once: bool,
    /// Prints each attempt as a line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

/// What is shown, and what was.
#[derive(Debug)]
struct Watch<'a> {
    command: &'a Tail,
    client: Client,
    seen: Seen,
    /// Where the stream is to go on.
    last: Option<String>,
}

/// The attempts that were shown last: the delivery and epoch of each.
#[derive(Debug, Default)]
struct Seen {
    known: HashSet<(String, u64)>,
    order: VecDeque<(String, u64)>,
}

/// How a stream came to its end.
enum Ended {
    /// As every stream does after a while; the next one goes on after it.
    InOrder,
    /// There may have been more than it told.
    WithGap,
}

pub(crate) async fn run(command: &Tail) -> Result<()> {
    let client = command.remote.client()?;
    // A wrong name would show nothing for ever.
    client.send(Call::get(&["organizations", &command.org.org])).await?;
    let mut watch = Watch { command, client, seen: Seen::default(), last: None };
    if command.once {
        return watch.look().await;
    }
    tokio::select! {
        done = watch.follow() => done,
        stopped = tokio::signal::ctrl_c() => {
            stopped.map_err(|fault| Failure::Wanting(format!("no signals: {fault}")))
        }
    }
}

impl Watch<'_> {
    /// Shows attempts until it is stopped or refused. A server that restarts is waited for.
    async fn follow(&mut self) -> Result<()> {
        let mut complete = false;
        loop {
            match self.stream(complete).await {
                Ok(Ended::InOrder) => complete = self.last.is_some(),
                Ok(Ended::WithGap) => complete = false,
                Err(failure @ Failure::Unreachable(_)) => {
                    complete = false;
                    output::note(&failure.to_string());
                }
                Err(failure) => return Err(failure),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Shows what one stream tells; before it what was made until then, unless all of that was
    /// shown.
    async fn stream(&mut self, complete: bool) -> Result<Ended> {
        let path = ["organizations", &self.command.org.org, "live", "attempts"];
        let mut events = self.client.follow(&path, self.last.as_deref()).await?;
        if !complete {
            self.look().await?;
        }
        self.told(&mut events).await
    }

    async fn told(&mut self, events: &mut Events) -> Result<Ended> {
        while let Some(event) = events.next().await {
            let broken = |fault| Failure::Unreachable(format!("the stream broke off: {fault}"));
            let event = event.map_err(broken)?;
            match event.event.as_deref() {
                Some("gap") => return Ok(Ended::WithGap),
                Some("attempt") => {
                    let data = event.data.unwrap_or_default();
                    let attempt = serde_json::from_str(&data).unwrap_or_default();
                    self.show(&attempt)?;
                    self.last = event.id.or(self.last.take());
                }
                _ => {}
            }
        }
        Ok(Ended::InOrder)
    }

    /// Shows the attempts of the newest deliveries that were not shown yet, oldest first.
    async fn look(&mut self) -> Result<()> {
        let org = self.command.org.org.as_str();
        let wanted = self.command.integration.iter().cloned();
        let filters: Vec<_> = wanted.map(|id| ("integration", id)).collect();
        let path = ["organizations", org, "deliveries"];
        let mut attempts = Vec::new();
        for delivery in self.client.list(&path, &filters, Some(DEPTH)).await? {
            let id = cell(&delivery, "/id");
            let path = ["organizations", org, "deliveries", &id, "attempts"];
            match self.client.send(Call::get(&path)).await {
                Ok(made) => {
                    let made = made["items"].as_array().into_iter().flatten();
                    attempts.extend(made.map(|attempt| as_live(&delivery, attempt)));
                }
                // It was pruned meanwhile.
                Err(Failure::Refused(refusal)) if refusal.status == 404 => {}
                Err(failure) => return Err(failure),
            }
        }
        attempts.sort_by_key(|attempt| cell(attempt, "/started_at"));
        attempts.iter().try_for_each(|attempt| self.show(attempt))
    }

    fn show(&mut self, attempt: &Value) -> Result<()> {
        let epoch = attempt["epoch"].as_u64().unwrap_or_default();
        let is_new = self.seen.note((cell(attempt, "/delivery"), epoch));
        let Tail { integration, failed, json, .. } = self.command;
        let is_wanted = integration.as_ref().is_none_or(|id| attempt["integration"] == **id)
            && (!failed || outcome(attempt).starts_with("failed"));
        if !is_new || !is_wanted {
            return Ok(());
        }
        output::print(&if *json { format!("{attempt}\n") } else { line(attempt) + "\n" })
    }
}

impl Seen {
    /// Answers whether an attempt was not shown before.
    fn note(&mut self, attempt: (String, u64)) -> bool {
        if !self.known.insert(attempt.clone()) {
            return false;
        }
        self.order.push_back(attempt);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

/// A stored attempt in the form that streams have.
fn as_live(delivery: &Value, attempt: &Value) -> Value {
    json!({
        "integration": delivery["integration"],
        "delivery": delivery["id"],
        "epoch": attempt["epoch"],
        "number": attempt["number"],
        "started_at": attempt["started_at"],
        "took_us": attempt["timings"]["total"],
        "outcome": attempt["outcome"],
        "status": attempt["status"],
        "message": attempt["message"],
        "state": delivery["state"],
    })
}

/// `delivered`, `skipped`, or `failed` and its class.
fn outcome(attempt: &Value) -> String {
    match attempt["outcome"]["failed"].as_str() {
        Some(class) => format!("failed {class}"),
        None => cell(attempt, "/outcome"),
    }
}

fn line(attempt: &Value) -> String {
    let millis = attempt["took_us"].as_u64().unwrap_or_default() as f64 / 1_000.0;
    let told = format!(
        "{}  {}  {}  #{}  {}  {}  {millis:.1} ms  {}",
        cell(attempt, "/started_at"),
        cell(attempt, "/integration"),
        cell(attempt, "/delivery"),
        cell(attempt, "/number"),
        cell(attempt, "/status"),
        outcome(attempt),
        attempt["message"].as_str().unwrap_or_default(),
    );
    plain(told.trim_end())
}
