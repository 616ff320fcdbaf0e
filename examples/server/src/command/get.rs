use clap::Args;
use serde_json::Value;

use crate::client::{Call, Remote};
use crate::failure::{Failure, Result};
use crate::kinds::{Kinds, ORGANIZATION, path};
use crate::output::{self, Format, cell, table};

const COLUMNS: [(&str, &str); 5] = [
    ("id", "/id"),
    ("name", "/name"),
    ("version", "/version"),
    ("revision", "/revision"),
    ("updated", "/updated_at"),
];

/// Which resources, and how they are shown.
#[derive(Args, Debug)]
pub(crate) struct Get {
    /// The kind, as in `integration` or `integrations`.
    kind: String,
    /// One of them; all where it is left out.
    id: Option<String>,
    /// The organization; not needed for organizations.
    #[arg(long, env = "ICP_ORG", value_name = "ORG")]
    org: Option<String>,
    /// Only those with this label; may be given several times.
    #[arg(long = "label", short = 'l', value_name = "KEY:VALUE", conflicts_with = "id")]
    labels: Vec<String>,
    /// How it is printed.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    remote: Remote,
}

pub(crate) async fn run(command: &Get) -> Result<()> {
    let kinds = Kinds::new()?;
    let kind = kinds.find(&command.kind)?;
    let org = command.org.as_deref().unwrap_or_default();
    if org.is_empty() && kind.name() != ORGANIZATION {
        return Err(Failure::Input("the organization is missing; use `--org`".to_owned()));
    }
    let client = command.remote.client()?;
    let path = path(kind, org, command.id.as_deref());
    if command.id.is_some() {
        let document = client.send(Call::get(&path)).await?;
        return output::print(&match command.output {
            Format::Table => rows(std::slice::from_ref(&document)),
            other => output::document(&document, other)?,
        });
    }
    let labels: Vec<_> = command.labels.iter().map(|label| ("label", label.clone())).collect();
    let items = client.list(&path, &labels, None).await?;
    output::print(&match command.output {
        Format::Table => rows(&items),
        other => output::documents(&items, other)?,
    })
}

fn rows(items: &[Value]) -> String {
    let rows: Vec<Vec<String>> =
        items.iter().map(|item| COLUMNS.iter().map(|(_, at)| cell(item, at)).collect()).collect();
    table(&COLUMNS.map(|(name, _)| name), &rows)
}
