//! The standalone icp server, and the commands that work with one.
#![forbid(unsafe_code)]

mod client;
mod command;
mod config;
mod diff;
mod failure;
mod key_file;
mod kinds;
mod listen;
mod location;
mod manifest;
mod output;
mod plan;
mod schema;
mod serve;
mod store;
mod telemetry;
mod welcome;
mod yaml;

use std::process::ExitCode;

use clap::Parser;
use command::{Cli, Command};
use config::Config;
use failure::Result;
use icp::{Code, Error};
use tokio::runtime::Runtime;

/// Webhook bodies come and go on many threads, which the system allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything else: the sandbox starts this executable as its worker.
    icp::sandbox::worker::run_if_asked();
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::note(&format!("icp-server: {failure}"));
            failure.exit()
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let config = || Config::load(cli.config.as_deref(), std::env::vars_os());
    match cli.command.as_ref().unwrap_or(&Command::Serve) {
        Command::Serve => serve(&config()?),
        Command::Migrate(migrate) => {
            runtime()?.block_on(command::migrate::run(migrate, &config()?))
        }
        Command::Doctor(doctor) => runtime()?.block_on(command::doctor::run(doctor, config())),
        Command::Apply(apply) => runtime()?.block_on(command::apply::run(apply)),
        Command::Get(get) => runtime()?.block_on(command::get::run(get)),
        Command::Export(export) => runtime()?.block_on(command::export::run(export)),
        Command::Tail(tail) => runtime()?.block_on(command::tail::run(tail)),
        Command::Replay(replay) => runtime()?.block_on(command::replay::run(replay)),
        Command::Keys(keys) => runtime()?.block_on(command::keys::run(keys)),
        Command::Completions(completions) => command::completions::run(completions),
    }
}

fn serve(config: &Config) -> Result<()> {
    let runtime = runtime()?;
    let telemetry = telemetry::start(config, runtime.handle())?;
    icp::telemetry::log_panics();
    let served = runtime.block_on(serve::run(config, telemetry.log.clone()));
    // What was traced until the end is sent before the runtime ends.
    telemetry.stop();
    let drained = served?;
    output::print(&format!(
        "icp stopped: {} attempts finished, {} given back, {} left to other servers\n",
        drained.finished, drained.released, drained.unsettled
    ))
}

fn runtime() -> Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    Ok(runtime.map_err(|fault| {
        Error::new(Code::Internal, "the runtime cannot be made").caused_by(fault)
    })?)
}
