//! What the binary can do: one file for each command.

pub(crate) mod apply;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod get;
pub(crate) mod keys;
pub(crate) mod migrate;
pub(crate) mod replay;
pub(crate) mod tail;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Signed webhooks that are never silently lost.
#[derive(Debug, Parser)]
#[command(name = "icp-server", version)]
pub(crate) struct Cli {
    /// The settings [default: ./icp.toml, where that is there].
    #[arg(long, global = true, env = "ICP_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// One thing that the binary does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serves the HTTP API and delivers events; what is done where no command is given.
    Serve,
    /// Brings the tables of the store up to date, or shows what is to be done.
    Migrate(migrate::Migrate),
    /// Makes resources as files say, after showing what changes.
    Apply(apply::Apply),
    /// Shows one resource, or all of a kind.
    Get(get::Get),
    /// Writes an organization and all its resources as YAML, for `apply`.
    Export(export::Export),
    /// Shows attempts as they are made.
    Tail(tail::Tail),
    /// Sends a range of events again, and shows how far it got.
    Replay(replay::Replay),
    /// Makes, lists and revokes API keys.
    Keys(keys::Keys),
    /// Checks settings, keys, store, clock, egress and sandbox, and says what to fix.
    Doctor(doctor::Doctor),
    /// Writes the completions of a shell.
    Completions(completions::Completions),
}

/// The organization that a command is about.
#[derive(Args, Clone, Debug)]
pub(crate) struct Org {
    /// The organization.
    #[arg(long, env = "ICP_ORG", value_name = "ORG")]
    pub(crate) org: String,
}
