mod checks;

use clap::Args;
use icp::Result as LocalResult;
use serde::Serialize;
use serde_json::json;
use url::Url;

use crate::config::Config;
use crate::failure::{Failure, Result};
use crate::output::{self, Format};

/// What is checked beside the settings.
#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// An address to send to, by which egress and the clock are judged.
    #[arg(long, value_name = "URL", default_value = "https://example.com/")]
    egress_url: Url,
    /// Sends nothing.
    #[arg(long)]
    offline: bool,
    /// How it is printed.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// How a check went.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// What was checked, and what came of it.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    says: String,
    /// What to do about it.
    fix: Option<String>,
}

impl Check {
    fn ok(name: &'static str, says: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, says: says.into(), fix: None }
    }

    fn warn(name: &'static str, says: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warn, says: says.into(), fix: Some(fix.into()) }
    }

    fn fail(name: &'static str, says: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Fail, says: says.into(), fix: Some(fix.into()) }
    }
}

/// Checks what a server started with these settings would need. Where the settings cannot be read,
/// nothing else can be checked.
pub(crate) async fn run(command: &Doctor, config: LocalResult<Config>) -> Result<()> {
    let checks = match config {
        Ok(config) => all(command, &config).await,
        Err(error) => {
            let fix = "correct the setting; icp.example.toml shows them all";
            vec![Check::fail("configuration", error.to_string(), fix)]
        }
    };
    output::print(&match command.output {
        Format::Table => checks.iter().map(shown).collect(),
        other => output::document(&json!(checks), other)?,
    })?;
    let failed = checks.iter().filter(|check| check.verdict == Verdict::Fail).count();
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::Wanting(format!("{failed} of {} checks failed", checks.len())))
}

async fn all(command: &Doctor, config: &Config) -> Vec<Check> {
    let mut checks = vec![checks::configuration(config), checks::listen(config)];
    let (schema, store) = checks::store(config).await;
    checks.push(checks::key_file(config, store.as_ref().is_some_and(|has| *has)));
    checks.push(schema);
    checks.extend(checks::egress(config, (!command.offline).then_some(&command.egress_url)).await);
    checks.push(checks::sandbox(config).await);
    checks
}

fn shown(check: &Check) -> String {
    let verdict = match check.verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Fail => "FAIL",
    };
    let mut line = format!("{verdict:4}  {:14}{}\n", check.name, output::plain(&check.says));
    if let Some(fix) = &check.fix {
        line.push_str(&format!("      {:14}fix: {}\n", "", output::plain(fix)));
    }
    line
}
