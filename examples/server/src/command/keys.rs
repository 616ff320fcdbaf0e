use clap::{Args, Subcommand};
use icp::time::Timestamp;
use serde_json::{Value, json};

use super::Org;
use crate::client::{Call, Remote};
use crate::failure::Result;
use crate::output::{self, Format, cell, table};

/// API keys of an organization.
#[derive(Args, Debug)]
pub(crate) struct Keys {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a key and prints it, this once.
    Create(Create),
    /// Shows the keys, not their texts.
    List(List),
    /// Ends a key.
    Revoke(Revoke),
}

#[derive(Args, Debug)]
struct Create {
    /// A name for people.
    name: String,
    #[command(flatten)]
    org: Org,
    /// A role that the key has; may be given several times.
    #[arg(long = "role", required = true, value_name = "ROLE")]
    roles: Vec<String>,
    /// What it is narrowed to, as in `deliveries:read`; may be given several times.
    #[arg(long = "scope", value_name = "AREA:OPERATION")]
    scopes: Vec<String>,
    /// From when on it is good for nothing, as in 2027-01-31T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    expires: Option<Timestamp>,
    /// How it is printed; a table is the key alone.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args, Debug)]
struct List {
    #[command(flatten)]
    org: Org,
    /// How they are printed.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args, Debug)]
struct Revoke {
    /// The id of the key.
    id: String,
    #[command(flatten)]
    org: Org,
    #[command(flatten)]
    remote: Remote,
}

pub(crate) async fn run(keys: &Keys) -> Result<()> {
    match &keys.command {
        Command::Create(command) => create(command).await,
        Command::List(command) => list(command).await,
        Command::Revoke(command) => revoke(command).await,
    }
}

async fn create(command: &Create) -> Result<()> {
    let client = command.remote.client()?;
    let path = ["organizations", command.org.org.as_str(), "api-keys"];
    let made = client.send(Call::post(&path, &draft(command))).await?;
    if command.output != Format::Table {
        return output::print(&output::document(&made, command.output)?);
    }
    let id = cell(&made, "/document/id");
    output::note(&format!("key {id}; its text is shown this once:"));
    output::print(&format!("{}\n", cell(&made, "/key")))
}

fn draft(command: &Create) -> Value {
    let grants: Vec<_> = command.roles.iter().map(|role| json!({ "role": role })).collect();
    let mut spec = json!({ "grants": grants });
    if !command.scopes.is_empty() {
        spec["scopes"] = json!(command.scopes);
    }
    if let Some(expires) = command.expires {
        spec["expires_at"] = json!(expires);
    }
    json!({ "name": command.name, "spec": spec })
}

async fn list(command: &List) -> Result<()> {
    let client = command.remote.client()?;
    let path = ["organizations", command.org.org.as_str(), "api-keys"];
    let keys = client.list(&path, &[], None).await?;
    if command.output != Format::Table {
        return output::print(&output::documents(&keys, command.output)?);
    }
    let rows: Vec<_> = keys.iter().map(row).collect();
    output::print(&table(&["id", "name", "roles", "enabled", "expires", "made"], &rows))
}

fn row(key: &Value) -> Vec<String> {
    let grants = key["spec"]["grants"].as_array().map(Vec::as_slice).unwrap_or_default();
    let roles: Vec<_> = grants.iter().map(|grant| cell(grant, "/role")).collect();
    let field = |pointer| cell(key, pointer);
    vec![
        field("/id"),
        field("/name"),
        roles.join(","),
        field("/spec/enabled"),
        field("/spec/expires_at"),
        field("/created_at"),
    ]
}

async fn revoke(command: &Revoke) -> Result<()> {
    let client = command.remote.client()?;
    let path = ["organizations", command.org.org.as_str(), "api-keys", command.id.as_str()];
    client.send(Call::delete(&path)).await?;
    output::print(&format!("key {} is revoked\n", command.id))
}
