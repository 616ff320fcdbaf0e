use std::time::Duration;

use clap::Args;
use icp::time::{Clock, SystemClock, Timestamp};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::Org;
use crate::client::{Call, Client, Remote};
use crate::failure::{Failure, Result};
use crate::output::{self, cell};

const LOOK: Duration = Duration::from_millis(500);

/// Which events are sent again.
#[derive(Args, Debug)]
pub(crate) struct Replay {
    #[command(flatten)]
    org: Org,
    /// From when on: a time such as 2026-11-21T03:45:00Z, or how long ago, as in 2h.
    #[arg(long, value_parser = moment)]
    since: Timestamp,
    /// Until when; now where it is left out.
    #[arg(long, value_parser = moment)]
    until: Option<Timestamp>,
    /// Only events whose type this pattern takes.
    #[arg(long = "type", value_name = "PATTERN")]
    event_type: Option<String>,
    /// Only to this integration; may be given several times.
    #[arg(long = "integration", short, value_name = "ID")]
    integrations: Vec<String>,
    /// Only what last ended so, as in `dead`; may be given several times.
    #[arg(long = "state", value_name = "STATE")]
    states: Vec<String>,
    /// To whom: `original`, `current` or `missing`.
    #[arg(long, default_value = "original")]
    mode: String,
    /// How many deliveries in a second.
    #[arg(long, default_value_t = 10)]
    rate: u32,
    /// Why, for people.
    #[arg(long)]
    reason: Option<String>,
    /// Counts what it would do, and does nothing.
    #[arg(long)]
    preview: bool,
    /// Ends when the replay has begun.
    #[arg(long, conflicts_with = "preview")]
    detach: bool,
    #[command(flatten)]
    remote: Remote,
}

fn moment(text: &str) -> Result<Timestamp, String> {
    moment_at(text, SystemClock.now())
}

/// A time, or how long before `now`: a number and `s`, `m`, `h` or `d`.
fn moment_at(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let seconds = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)].into_iter().find_map(
        |(unit, seconds)| Some(text.strip_suffix(unit)?.parse::<u32>().ok()? as u64 * seconds),
    );
    match seconds {
        Some(seconds) => Ok(now - Duration::from_secs(seconds)),
        None => text.parse().map_err(|_| {
            "use a time such as 2026-11-21T03:45:00Z, or how long ago, as in 2h".to_owned()
        }),
    }
}

pub(crate) async fn run(command: &Replay) -> Result<()> {
    let client = command.remote.client()?;
    let (org, body) = (command.org.org.as_str(), body(command));
    if command.preview {
        let path = ["organizations", org, "replays", "preview"];
        let counted = client.send(Call::post(&path, &body)).await?;
        return output::print(&output::document(&counted, output::Format::Yaml)?);
    }
    let job = client.send(Call::post(&["organizations", org, "replays"], &body)).await?;
    let id = cell(&job, "/id");
    if command.detach {
        return output::print(&format!("{id}\n"));
    }
    output::note(&format!("replay {id}; ctrl-c stops watching it, and not the replay"));
    tokio::select! {
        ended = watch(&client, org, &id) => ended,
        stopped = tokio::signal::ctrl_c() => {
            stopped.map_err(|fault| Failure::Wanting(format!("no signals: {fault}")))?;
            output::print(&format!("replay {id} goes on\n"))
        }
    }
}

fn body(command: &Replay) -> Value {
    let mut body = json!({
        "since": command.since,
        "mode": command.mode,
        "rate": command.rate,
    });
    let list = |items: &[String]| (!items.is_empty()).then(|| json!(items));
    for (name, value) in [
        ("until", command.until.map(|until| json!(until))),
        ("event_type", command.event_type.as_ref().map(|pattern| json!(pattern))),
        ("integrations", list(&command.integrations)),
        ("states", list(&command.states)),
        ("reason", command.reason.as_ref().map(|reason| json!(reason))),
    ] {
        if let Some(value) = value {
            body[name] = value;
        }
    }
    body
}

/// Shows how far the replay is until it ends.
async fn watch(client: &Client, org: &str, id: &str) -> Result<()> {
    let bar = ProgressBar::new(100);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3}%  {msg}") {
        bar.set_style(style);
    }
    loop {
        let job = client.send(Call::get(&["organizations", org, "replays", id])).await?;
        let count = |field: &str| cell(&job, &format!("/progress/{field}"));
        let told = format!("{} made, {} skipped", count("created"), count("skipped"));
        bar.set_position(job["percent"].as_u64().unwrap_or_default());
        bar.set_message(told.clone());
        match job["state"].as_str().unwrap_or_default() {
            "done" => {
                bar.finish_and_clear();
                return output::print(&format!("replay {id} is done: {told}\n"));
            }
            state @ ("cancelled" | "failed") => {
                bar.finish_and_clear();
                let why = cell(&job, "/error/message");
                return Err(Failure::Unfinished(format!("replay {id} is {state}: {why}; {told}")));
            }
            _ => tokio::time::sleep(LOOK).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_how_long_ago() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        for (text, moment) in [
            ("30s", "2026-11-21T11:59:30Z"),
            ("5m", "2026-11-21T11:55:00Z"),
            ("2h", "2026-11-21T10:00:00Z"),
            ("1d", "2026-11-20T12:00:00Z"),
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ] {
            assert_eq!(moment_at(text, now).unwrap(), moment.parse().unwrap(), "{text}");
        }
        for bad in ["", "2", "h", "-2h", "2 h", "yesterday", "99999999999h"] {
            assert!(moment_at(bad, now).is_err(), "{bad}");
        }
    }
}
