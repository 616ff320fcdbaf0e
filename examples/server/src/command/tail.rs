use std::collections::HashSet;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::Org;
use crate::client::{Call, Client, Remote};
use crate::failure::{Failure, Result};
use crate::output::{self, cell, plain};

/// How many deliveries are looked at in each round, from the newest on.
const DEPTH: usize = 200;

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
    /// How many seconds lie between two looks.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    #[command(flatten)]
    remote: Remote,
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Seen {
    /// A delivery and when it last changed: nothing new happened to it since.
    deliveries: HashSet<(String, String)>,
    /// A delivery and the lease of an attempt.
    attempts: HashSet<(String, u64)>,
}

pub(crate) async fn run(command: &Tail) -> Result<()> {
    let client = command.remote.client()?;
    // A wrong name would show nothing for ever.
    client.send(Call::get(&["organizations", &command.org.org])).await?;
    let mut seen = Seen::default();
    loop {
        match look(command, &client, &mut seen).await {
            Ok(lines) => output::print(&lines)?,
            // A server that restarts is waited for.
            Err(failure @ Failure::Unreachable(_)) if !command.once => {
                output::note(&failure.to_string());
            }
            Err(failure) => return Err(failure),
        }
        if command.once {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(command.interval)) => {}
            stopped = tokio::signal::ctrl_c() => {
                return stopped.map_err(|fault| Failure::Wanting(format!("no signals: {fault}")));
            }
        }
    }
}

/// The attempts that are new, oldest first.
async fn look(command: &Tail, client: &Client, seen: &mut Seen) -> Result<String> {
    let org = command.org.org.as_str();
    let mut filters = Vec::new();
    if let Some(integration) = &command.integration {
        filters.push(("integration", integration.clone()));
    }
    let path = ["organizations", org, "deliveries"];
    let deliveries = client.list(&path, &filters, Some(DEPTH)).await?;
    let present: HashSet<_> = deliveries.iter().map(version).collect();
    let mut fresh = Vec::new();
    for delivery in
        deliveries.iter().filter(|delivery| !seen.deliveries.contains(&version(delivery)))
    {
        let id = cell(delivery, "/id");
        let path = ["organizations", org, "deliveries", &id, "attempts"];
        let attempts = match client.send(Call::get(&path)).await {
            // It was pruned meanwhile.
            Err(Failure::Refused(refusal)) if refusal.status == 404 => continue,
            other => other?,
        };
        for attempt in attempts["items"].as_array().into_iter().flatten() {
            let lease = attempt["epoch"].as_u64().unwrap_or_default();
            if seen.attempts.insert((id.clone(), lease)) && (!command.failed || failed(attempt)) {
                fresh.push((cell(attempt, "/started_at"), line(command, delivery, attempt)));
            }
        }
    }
    let still: HashSet<&str> = present.iter().map(|(id, _)| id.as_str()).collect();
    seen.attempts.retain(|(id, _)| still.contains(id.as_str()));
    seen.deliveries = present;
    fresh.sort();
    Ok(fresh.into_iter().map(|(_, line)| line + "\n").collect())
}

fn version(delivery: &Value) -> (String, String) {
    let state = [cell(delivery, "/updated_at"), cell(delivery, "/state"), cell(delivery, "/tries")];
    (cell(delivery, "/id"), state.join(" "))
}

fn failed(attempt: &Value) -> bool {
    outcome(attempt).starts_with("failed")
}

/// `delivered`, `skipped`, or `failed` and its class.
fn outcome(attempt: &Value) -> String {
    match attempt["outcome"]["failed"].as_str() {
        Some(class) => format!("failed {class}"),
        None => cell(attempt, "/outcome"),
    }
}

fn line(command: &Tail, delivery: &Value, attempt: &Value) -> String {
    if command.json {
        let mut told = attempt.clone();
        told["delivery"] = delivery["id"].clone();
        told["event"] = delivery["event"].clone();
        told["integration"] = delivery["integration"].clone();
        return told.to_string();
    }
    let millis = attempt["timings"]["total"].as_u64().unwrap_or_default() as f64 / 1_000.0;
    let told = format!(
        "{}  {}  {}  #{}  {}  {}  {millis:.1} ms  {}",
        cell(attempt, "/started_at"),
        cell(delivery, "/integration"),
        cell(delivery, "/id"),
        cell(attempt, "/number"),
        cell(attempt, "/status"),
        outcome(attempt),
        attempt["message"].as_str().unwrap_or_default(),
    );
    plain(told.trim_end())
}
