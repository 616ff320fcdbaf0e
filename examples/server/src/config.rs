//! The settings: a TOML file, and over it the environment.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use icp::{Code, EngineConfig, Error, Result};
use serde::Deserialize;
use toml::{Table, Value};
use url::Url;

use crate::listen::Limits;
use crate::location::Location;

/// The file that is read where none is named.
pub(crate) const DEFAULT_FILE: &str = "icp.toml";

/// A day: longer than any attempt takes, and than anybody asks nothing.
const LONGEST: u64 = 86_400;

const PREFIX: &str = "ICP_";
/// Names the file itself, and is read by the command line.
const FILE: &str = "ICP_CONFIG";
/// Read by the command line too, for calls of a running server.
const CLIENT: [&str; 3] = ["ICP_URL", "ICP_API_KEY", "ICP_ORG"];
/// What the project's own tests and scripts read begins so, and what Kubernetes tells every
/// container of a service called `icp`.
const NOT_OURS: [&str; 4] = ["ICP_TEST_", "ICP_SERVICES_", "ICP_SERVICE_", "ICP_PORT"];

/// The settings of the server. Each is named alike in the file, and in the environment in upper
/// case after `ICP_`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The address to listen on; port 0 takes a free one. Default `127.0.0.1:3545`.
    pub(crate) listen: SocketAddr,
    /// Where the store is: `sqlite:<path>`, or a URL that begins with `postgres://`, `mysql://`
    /// or `mongodb://`. Default `sqlite:icp.db`.
    pub(crate) store_url: Location,
    /// The SQLite file, in place of `store_url`; made where it is missing.
    pub(crate) database: PathBuf,
    /// When a commit of SQLite is on disk: `full` (before it is answered) or `normal` (soon
    /// after). Default `full`.
    pub(crate) synchronous: Sync,
    /// The keys that seal secrets; made where the file is missing. Default `./icp.key`.
    pub(crate) key_file: PathBuf,
    /// Whether integrations may send to this machine and by plain HTTP. For development only.
    /// Default `false`.
    pub(crate) allow_loopback: bool,
    /// Whether transformations may hold programs, which run in worker processes. Default `true`.
    pub(crate) sandbox: bool,
    /// The largest event body in bytes. Default 1,048,576.
    pub(crate) max_body_bytes: usize,
    /// How many attempts are made at once. Default 2,048.
    pub(crate) max_in_flight: usize,
    /// How many connections the server takes at once; others wait. Default 10,000.
    pub(crate) max_connections: usize,
    /// After how many seconds a connection is closed on which no request came in whole, 1 to
    /// 86,400. Default 75: longer than load balancers keep theirs.
    pub(crate) idle_seconds: u64,
    /// After how many seconds a connection is closed whose other side takes nothing of an answer, 1
    /// to 86,400. Default 30.
    pub(crate) unread_seconds: u64,
    /// How many seconds attempts under way have to end when the server stops, up to 86,400; 0
    /// breaks them off. Default 30.
    pub(crate) shutdown_seconds: u64,
    /// What is logged, as `level` or `target=level` joined by commas. Default `info`.
    pub(crate) log: String,
    /// How it is logged: `text` or `json`. Default `text`.
    pub(crate) log_format: LogFormat,
    /// The collector that traces are sent to by OTLP over HTTP, as in `http://collector:4318`; empty
    /// sends none. Default empty.
    #[serde(deserialize_with = "endpoint")]
    pub(crate) otlp_endpoint: Option<Url>,
    /// How many of a hundred traces are sent, 0 to 100. Default 100.
    pub(crate) otlp_percent: u8,
    /// For how many organizations metrics are counted apart, up to 10,000; those beyond are counted
    /// together. Default 0: no metric has an organization as a label.
    pub(crate) organization_metrics: usize,
}

/// An address, or none where the text is empty.
fn endpoint<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let refused = || serde::de::Error::custom("write an address such as http://collector:4318");
    let url: Url = text.parse().map_err(|_| refused())?;
    let fine = matches!(url.scheme(), "http" | "https") && url.has_host();
    if fine { Ok(Some(url)) } else { Err(refused()) }
}

/// When a commit is on disk.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sync {
    /// Before it is answered.
    Full,
    /// At the next checkpoint.
    Normal,
}

/// How lines of the log look.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// How the text of an environment variable is read.
#[derive(Clone, Copy)]
enum Form {
    Flag,
    Number,
    Text,
}

const FIELDS: [(&str, Form); 18] = [
    ("listen", Form::Text),
    ("store_url", Form::Text),
    ("database", Form::Text),
    ("synchronous", Form::Text),
    ("key_file", Form::Text),
    ("allow_loopback", Form::Flag),
    ("sandbox", Form::Flag),
    ("max_body_bytes", Form::Number),
    ("max_in_flight", Form::Number),
    ("max_connections", Form::Number),
    ("idle_seconds", Form::Number),
    ("unread_seconds", Form::Number),
    ("shutdown_seconds", Form::Number),
    ("log", Form::Text),
    ("log_format", Form::Text),
    ("otlp_endpoint", Form::Text),
    ("otlp_percent", Form::Number),
    ("organization_metrics", Form::Number),
];

impl Default for Config {
    fn default() -> Self {
        let engine = EngineConfig::default();
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3545)),
            store_url: Location::Sqlite("icp.db".into()),
            database: "icp.db".into(),
            synchronous: Sync::Full,
            key_file: "icp.key".into(),
            allow_loopback: false,
            sandbox: true,
            max_body_bytes: engine.events.max_body,
            max_in_flight: engine.max_in_flight,
            max_connections: 10_000,
            idle_seconds: 75,
            unread_seconds: 30,
            shutdown_seconds: 30,
            log: "info".into(),
            log_format: LogFormat::Text,
            otlp_endpoint: None,
            otlp_percent: 100,
            organization_metrics: engine.organization_metrics,
        }
    }
}

impl Config {
    /// The settings of `file`, or of the default file where that is there, and of `environment`.
    pub(crate) fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(fault) if file.is_none() && fault.kind() == std::io::ErrorKind::NotFound => {
                String::new()
            }
            Err(fault) => {
                let message = format!("`{}` cannot be read", path.display());
                return Err(Error::new(Code::ConfigInvalid, message).caused_by(fault));
            }
        };
        Self::parse(&text, &path.display().to_string(), environment)
    }

    fn parse(
        text: &str,
        origin: &str,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self> {
        let mut table: Table = text.parse().map_err(|fault| not_toml(text, origin, &fault))?;
        for name in table.keys() {
            if !FIELDS.iter().any(|(known, _)| known == name) {
                let known: Vec<_> = FIELDS.iter().map(|(known, _)| (*known).to_owned()).collect();
                return Err(refused(format!("{origin}: {}", unknown(name, &known))));
            }
        }
        read::<Self>(table.clone(), origin, str::to_owned)?;
        overlay(&mut table, environment)?;
        let has = |name: &str| table.contains_key(name);
        let (has_url, has_file) = (has("store_url"), has("database"));
        let config: Self =
            read(table, "the environment", |field| format!("{PREFIX}{}", field.to_uppercase()))?;
        if config.shutdown_seconds > LONGEST {
            let message = format!("`shutdown_seconds` must be at most {LONGEST}");
            return Err(refused(message));
        }
        let waits =
            [("idle_seconds", config.idle_seconds), ("unread_seconds", config.unread_seconds)];
        for (name, seconds) in waits {
            if !(1..=LONGEST).contains(&seconds) {
                return Err(refused(format!("`{name}` must be 1 to {LONGEST}")));
            }
        }
        if config.max_connections == 0 {
            return Err(refused("`max_connections` must be at least 1".to_owned()));
        }
        if config.otlp_percent > 100 {
            return Err(refused("`otlp_percent` must be at most 100".to_owned()));
        }
        config.in_one_place(has_url, has_file)
    }

    fn in_one_place(mut self, has_url: bool, has_file: bool) -> Result<Self> {
        let file = Location::Sqlite(self.database.clone());
        if has_url && has_file && self.store_url != file {
            return Err(refused(
                "`store_url` and `database` name different stores; keep one of them".to_owned(),
            ));
        }
        if has_file {
            self.store_url = file;
        }
        Ok(self)
    }

    /// The settings as the engine takes them.
    pub(crate) fn engine(&self) -> EngineConfig {
        let mut config = EngineConfig::default();
        config.events.max_body = self.max_body_bytes;
        config.max_in_flight = self.max_in_flight;
        config.organization_metrics = self.organization_metrics;
        config
    }

    /// What connections may use.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            connections: self.max_connections,
            idle: Duration::from_secs(self.idle_seconds),
            unread: Duration::from_secs(self.unread_seconds),
        }
    }

    /// How long attempts under way have to end.
    pub(crate) fn shutdown(&self) -> Duration {
        Duration::from_secs(self.shutdown_seconds)
    }
}

fn overlay(
    table: &mut Table,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<()> {
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if name == FILE
            || CLIENT.contains(&name)
            || NOT_OURS.iter().any(|prefix| name.starts_with(prefix))
        {
            continue;
        }
        let field = FIELDS.iter().find(|(field, _)| name[PREFIX.len()..] == field.to_uppercase());
        let Some((field, form)) = field else {
            let known: Vec<_> = FIELDS
                .iter()
                .map(|(field, _)| format!("{PREFIX}{}", field.to_uppercase()))
                .chain([FILE.to_owned()])
                .collect();
            return Err(refused(format!("the environment: {}", unknown(name, &known))));
        };
        let Some(text) = value.to_str() else {
            return Err(refused(format!("the environment: `{name}` is not utf-8")));
        };
        table.insert((*field).to_owned(), form.read(name, text)?);
    }
    Ok(())
}

impl Form {
    fn read(self, name: &str, text: &str) -> Result<Value> {
        let refuse = |want| refused(format!("the environment: `{name}` must be {want}"));
        match self {
            Self::Flag => text.parse().map(Value::Boolean).map_err(|_| refuse("`true` or `false`")),
            Self::Number => text.parse().map(Value::Integer).map_err(|_| refuse("a number")),
            Self::Text => Ok(Value::String(text.to_owned())),
        }
    }
}

fn read<T: for<'de> Deserialize<'de>>(
    table: Table,
    origin: &str,
    shown: impl Fn(&str) -> String,
) -> Result<T> {
    serde_path_to_error::deserialize(table).map_err(|fault| {
        let field = shown(&fault.path().to_string());
        let reason = fault.into_inner().to_string();
        refused(format!("{origin}: `{field}` is not acceptable: {}", reason.trim_end()))
    })
}

/// Tells the line, but does not repeat it: it may hold a secret.
fn not_toml(text: &str, origin: &str, fault: &toml::de::Error) -> Error {
    let before = fault.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    refused(format!("{origin} is not toml: line {line}: {}", fault.message()))
}

fn unknown(name: &str, known: &[String]) -> String {
    let nearest = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    let near = nearest.map(|(_, near)| near.as_str()).unwrap_or_default();
    format!("`{name}` is not a known setting; did you mean `{near}`?")
}

fn refused(message: String) -> Error {
    Error::new(Code::ConfigInvalid, message)
}

#[cfg(test)]
mod tests;
