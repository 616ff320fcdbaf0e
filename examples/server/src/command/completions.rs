use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use crate::failure::Result;
use crate::output;

/// For which shell.
#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(command: &Completions) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(command.shell, &mut Cli::command(), "icp-server", &mut text);
    output::print(&String::from_utf8_lossy(&text))
}
