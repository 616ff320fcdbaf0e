//! Delivers real webhooks to receivers that fail in every way, and accounts for each of them.
//!
//! ```sh
//! scripts/fetch-payloads target/payloads
//! cargo run --example deliver_webhooks -- target/payloads
//! ```
//!
//! Three organizations publish every payload to eight endpoints, which fail 30 % of all calls:
//! 500, 503, 429 with `Retry-After`, no answer, a reset, a body that never ends; one answers 410
//! in the middle. Every signature is checked by an independent implementation. The ledger at the
//! end closes, or the exit code is 1.
#![forbid(unsafe_code)]

mod endpoints;
mod ledger;
mod payloads;
mod progress;
mod scenario;

use std::io::{IsTerminal, Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use scenario::{Result, Scenario};

/// Delivers real webhooks to receivers that fail in every way, and accounts for each of them.
#[derive(Debug, Parser)]
struct Args {
    /// A folder of payloads (`<event>/<name>.json`, or one `index.json`), or a `.tgz` of one.
    payloads: PathBuf,
    /// A new SQLite file; kept. Default: one in a temporary folder, removed at the end.
    #[arg(long)]
    database: Option<PathBuf>,
    /// What the receivers' failures are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let folder = tempfile::tempdir()?;
    let database = args.database.unwrap_or_else(|| folder.path().join("icp.db"));
    let payloads = payloads::read(&args.payloads)?;
    let mut out = stdout();
    writeln!(out, "{} payloads from {}", payloads.len(), args.payloads.display())?;
    let terminal = out.is_terminal();
    let scenario = Scenario { payloads, database: &database, seed: args.seed };
    let ledger = scenario.run(&mut out, terminal).await?;
    ledger.write(&mut out)?;
    Ok(if ledger.closes() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
