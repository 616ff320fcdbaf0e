//! Measures the engine beside the bare client it is built on, in one run on one machine.
//!
//! Latency counts from the moment an event was scheduled, not from when it was sent, so a
//! publisher that falls behind does not hide it. Every run ends with a ledger; a run whose ledger
//! does not close is void.
#![forbid(unsafe_code)]

mod api;
mod bare;
mod boundary;
mod engine;
mod ledger;
mod neighbours;
mod nodes;
mod plot;
mod receiver;
mod report;
mod scenario;
mod servers;
mod shapes;
mod stores;
mod timing;
mod transforms;
mod usage;
mod wire;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use report::Report;

/// Webhook bodies come and go on many threads, which the system allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The benchmark harness of icp.
#[derive(Debug, Parser)]
#[command(name = "icp-harness", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The scenarios to run; all by default.
    #[arg(long, value_delimiter = ',')]
    only: Vec<scenario::Name>,
    /// Multiplies the number of events and the length of timed runs; 0.1 is a quick look.
    #[arg(long, global = true, default_value_t = 1.0)]
    scale: f64,
    /// The address of a database that the scenario `stores` measures beside SQLite; repeatable.
    #[arg(long)]
    store: Vec<String>,
    /// Where the result is written as JSON.
    #[arg(long, global = true)]
    json: Option<std::path::PathBuf>,
    /// Where its picture is written as SVG.
    #[arg(long, global = true)]
    svg: Option<std::path::PathBuf>,
    /// Fails when a goal is missed.
    #[arg(long, global = true)]
    gate: bool,
    /// How far beyond its bound a figure may be for that, as a factor: for builds and machines that
    /// are not for figures.
    #[arg(long, global = true, default_value_t = 1.0)]
    slack: f64,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The receiver that the harness starts beside itself.
    #[command(hide = true)]
    Receiver,
    Servers(servers::Arguments),
    Boundary(boundary::Arguments),
    /// The program in Rust that those in other languages are measured beside.
    #[command(hide = true)]
    Native,
    /// The server of the scenario `api`.
    #[command(hide = true)]
    Api,
    /// A node that the harness starts beside itself, on the store it is given.
    #[command(hide = true)]
    Node,
}

fn main() -> ExitCode {
    icp::sandbox::worker::run_if_asked();
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            report::failed(&*error);
            ExitCode::FAILURE
        }
    }
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn run(arguments: &Arguments) -> Result<bool> {
    if let Some(Command::Native) = arguments.command {
        return boundary::serve().map(|()| true);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match (&arguments.command, arguments.store.first()) {
        (Some(Command::Receiver), _) => {
            return runtime.block_on(receiver::serve()).map(|()| true);
        }
        (Some(Command::Api), _) => return runtime.block_on(api::serve()).map(|()| true),
        (Some(Command::Node), Some(url)) => {
            return runtime.block_on(nodes::run(url)).map(|()| true);
        }
        (Some(Command::Node), None) => return Err("a node needs a store".into()),
        _ => {}
    }
    let report: Report = runtime.block_on(async {
        match &arguments.command {
            Some(Command::Servers(which)) => servers::run(which, arguments.scale).await,
            Some(Command::Boundary(hosts)) => boundary::run(hosts, arguments.scale),
            _ => scenario::run(&arguments.only, arguments.scale, &arguments.store).await,
        }
    })?;
    report.print();
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)?;
    }
    if let Some(path) = &arguments.svg {
        std::fs::write(path, plot::svg(report.rows(), report.curves())?)?;
    }
    let missed = arguments.gate && report.misses_a_goal(arguments.slack);
    Ok(!report.is_void() && !missed)
}
