//! The standalone icp server: the engine on a store, behind its HTTP API.
#![forbid(unsafe_code)]

mod config;
mod key_file;
mod location;
mod serve;
mod store;
mod welcome;

use std::error::Error as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use config::{Config, LogFormat};
use icp::engine::Drained;
use icp::{Code, Error, Result};
use tracing_subscriber::EnvFilter;

/// Webhook bodies come and go on many threads, which the system allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Signed webhooks that are never silently lost.
#[derive(Debug, Parser)]
#[command(name = "icp-server", version)]
struct Cli {
    /// The settings [default: ./icp.toml, where that is there].
    #[arg(long, global = true, env = "ICP_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the HTTP API and delivers events; what is done where no command is given.
    Serve,
}

fn main() -> ExitCode {
    // Before anything else: the sandbox starts this executable as its worker.
    icp::sandbox::worker::run_if_asked();
    let cli = Cli::parse();
    match run(&cli) {
        Ok(drained) => {
            report(drained);
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<Drained> {
    let Command::Serve = cli.command.as_ref().unwrap_or(&Command::Serve);
    let config = Config::load(cli.config.as_deref(), std::env::vars_os())?;
    log(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|fault| {
        Error::new(Code::Internal, "the runtime cannot be made").caused_by(fault)
    })?;
    runtime.block_on(serve::run(&config))
}

fn log(config: &Config) -> Result<()> {
    let filter = EnvFilter::try_new(&config.log).map_err(|fault| {
        let message = "`log` is not a filter; use a level such as `info`, or `target=level`";
        Error::new(Code::ConfigInvalid, message).caused_by(fault)
    })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => lines.with_ansi(false).init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what a command line answers")]
fn report(drained: Drained) {
    println!(
        "icp stopped: {} attempts finished, {} given back, {} left to other servers",
        drained.finished, drained.released, drained.unsettled
    );
}

#[expect(clippy::print_stderr, reason = "what a command line answers")]
fn complain(error: &Error) {
    eprintln!("icp-server: {error} [{}]", error.code());
    let mut cause = error.source();
    while let Some(fault) = cause {
        eprintln!("  caused by: {fault}");
        cause = fault.source();
    }
}
