use clap::Args;

use crate::config::Config;
use crate::failure::Result;
use crate::output;
use crate::schema::Schema;

/// What is done about pending migrations.
#[derive(Args, Debug)]
pub(crate) struct Migrate {
    /// Shows what would run, and changes nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(command: &Migrate, config: &Config) -> Result<()> {
    let schema = Schema::of(config).await?;
    let status = schema.status(config).await?;
    if status.pending.is_empty() {
        return output::print(&format!("{} is up to date\n", config.store_url));
    }
    if command.dry_run {
        let statements = schema.statements(config).await?;
        return output::print(&(statements.join("\n\n") + "\n"));
    }
    schema.apply(config).await?;
    let done: String = status.pending.iter().map(|step| format!("  {step}\n")).collect();
    output::print(&format!("{} is up to date; applied:\n{done}", config.store_url))
}
