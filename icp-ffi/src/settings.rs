//! The settings of an engine, as the JSON document that `icp_engine_new` takes.

use std::path::PathBuf;

use icp::EngineConfig;
use icp::secret::SecretString;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::location::Location;
use crate::status::{Failure, Status};

/// The most operations under way that can be asked for.
const MOST_IN_FLIGHT: usize = 1_000_000;

/// The most threads that can be asked for.
const MOST_THREADS: usize = 256;

/// The settings of an engine. All can be left out but `store`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Where the store is: `memory:`, `sqlite:<path>`, or a URL that begins with `postgres://`,
    /// `mysql://` or `mongodb://`.
    pub(crate) store: Location,
    /// The keys that seal secrets, as `id:base64` entries. Default: those of `key_file`; without
    /// either, configuration that holds a secret is refused, but with `memory:`, which has a key
    /// of its own.
    #[serde(default, deserialize_with = "secret")]
    pub(crate) keys: Option<SecretString>,
    /// The file with the keys; made where it is missing and the store is empty.
    #[serde(default)]
    pub(crate) key_file: Option<PathBuf>,
    /// When a commit of SQLite is on disk: `full` (before it is answered) or `normal` (soon
    /// after). Default `full`.
    #[serde(default)]
    pub(crate) synchronous: Synchronous,
    /// Whether integrations may send to this machine and by plain HTTP. For development only.
    /// Default `false`.
    #[serde(default)]
    pub(crate) allow_loopback: bool,
    /// How many operations may be under way or wait to be drained, up to 1,000,000. Default 4,096.
    #[serde(default = "in_flight")]
    pub(crate) max_in_flight: usize,
    /// How many threads the engine has, up to 256. Default 2.
    #[serde(default = "threads")]
    pub(crate) threads: usize,
    /// How many milliseconds `icp_engine_free` waits for threads that do not stop, up to a day.
    /// Default 2,000.
    #[serde(default = "stop")]
    pub(crate) stop_ms: u64,
    /// How many attempts are made at once. Default 2,048.
    #[serde(default)]
    pub(crate) max_attempts: Option<usize>,
    /// The largest event body in bytes. Default 1,048,576.
    #[serde(default)]
    pub(crate) max_body_bytes: Option<usize>,
}

/// When a commit is on disk.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Synchronous {
    /// Before it is answered.
    #[default]
    Full,
    /// At the next checkpoint.
    Normal,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}

fn in_flight() -> usize {
    4_096
}

fn threads() -> usize {
    2
}

fn stop() -> u64 {
    2_000
}

impl Settings {
    /// Reads and checks the document. Does no input or output.
    pub(crate) fn read(json: &[u8]) -> Result<Self, Failure> {
        let settings: Self = read(json)?;
        within("/max_in_flight", settings.max_in_flight, MOST_IN_FLIGHT)?;
        within("/threads", settings.threads, MOST_THREADS)?;
        milliseconds("/stop_ms", settings.stop_ms)?;
        if let Some(attempts) = settings.max_attempts {
            within("/max_attempts", attempts, MOST_IN_FLIGHT)?;
        }
        if settings.keys.is_some() && settings.key_file.is_some() {
            return Err(Failure::at("/key_file", "does not go together with `keys`"));
        }
        Ok(settings)
    }

    /// The settings of the engine itself.
    pub(crate) fn engine(&self) -> EngineConfig {
        let mut config = EngineConfig::default();
        config.max_in_flight = self.max_attempts.unwrap_or(config.max_in_flight);
        config.events.max_body = self.max_body_bytes.unwrap_or(config.events.max_body);
        config
    }
}

fn within(path: &str, value: usize, most: usize) -> Result<(), Failure> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    Err(Failure::at(path, format!("use 1 to {most}")))
}

/// Reads an input document; what is wrong is told with its pointer, and no value is repeated.
pub(crate) fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, Failure> {
    let json = if json.is_empty() { b"{}" } else { json };
    let mut reader = serde_json::Deserializer::from_slice(json);
    let read = serde_path_to_error::deserialize(&mut reader);
    let value = read.map_err(|error| {
        // Where the text is no JSON, the parser knows no place in the document.
        let is_placed = error.inner().is_data();
        let pointer = if is_placed { pointer(error.path()) } else { String::new() };
        Failure::at(pointer, told(error.inner()))
    })?;
    reader.end().map_err(|error| Failure::at("", told(&error)))?;
    Ok(value)
}

/// What a parser says, without the values it quotes.
fn told(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    let ours = ["unknown field", "missing field", "duplicate field", "unknown variant"];
    if !error.is_data() {
        return format!("is not JSON (line {}, column {})", error.line(), error.column());
    }
    if ours.iter().any(|start| text.starts_with(start)) || !text.starts_with("invalid") {
        return text.to_owned();
    }
    // `invalid type: string "..", expected a boolean`
    match text.rsplit_once("expected ") {
        Some((_, expected)) => format!("should be {expected}"),
        None => "is not acceptable here".to_owned(),
    }
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        pointer.push('/');
        match segment {
            Segment::Seq { index } => pointer.push_str(&index.to_string()),
            Segment::Map { key } => {
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Enum { variant } => pointer.push_str(variant),
            Segment::Unknown => pointer.push('?'),
        }
    }
    pointer
}

/// The failure of an operation whose input does not go together.
pub(crate) fn missing(path: &str, hint: &str) -> Failure {
    Failure::at(path, format!("is missing; {hint}"))
}

/// A number of milliseconds that a wait may last, up to a day.
pub(crate) fn milliseconds(path: &str, value: u64) -> Result<std::time::Duration, Failure> {
    const DAY: u64 = 86_400_000;
    if value > DAY {
        return Err(Failure::at(path, format!("use at most {DAY} milliseconds")));
    }
    Ok(std::time::Duration::from_millis(value))
}

/// The failure of what is asked before START or after SHUTDOWN.
pub(crate) fn closed(message: &str) -> Failure {
    Failure::new(Status::Closed, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(json: &str) -> (Option<String>, String) {
        let failure = Settings::read(json.as_bytes()).unwrap_err();
        let shown: serde_json::Value = serde_json::from_slice(&failure.json()).unwrap();
        let path = shown["path"].as_str().map(str::to_owned);
        (path, failure.message().to_owned())
    }

    #[test]
    fn defaults_fit_and_faults_are_told_at_their_place() {
        let settings = Settings::read(br#"{"store":"memory:"}"#).unwrap();
        assert_eq!((settings.max_in_flight, settings.threads), (4_096, 2));
        for (json, path, part) in [
            ("{}", "", "missing field `store`"),
            ("", "", "missing field `store`"),
            ("{", "", "is not JSON (line 1, column 1)"),
            (r#"{"store":"memory:"} x"#, "", "is not JSON"),
            (r#"{"store":"memory:","thread":1}"#, "/thread", "unknown field `thread`"),
            (r#"{"store":"memory:","threads":0}"#, "/threads", "use 1 to 256"),
            (r#"{"store":"memory:","max_in_flight":0}"#, "/max_in_flight", "use 1 to"),
            (r#"{"store":"memory:","allow_loopback":"hush"}"#, "/allow_loopback", "a boolean"),
            (r#"{"store":"memory:","keys":"a:b","key_file":"c"}"#, "/key_file", "together"),
            (r#"{"store":"redis://hush@host"}"#, "/store", "`redis`"),
        ] {
            let (found, message) = fault(json);
            assert_eq!(found.as_deref(), Some(path), "{json}");
            assert!(message.contains(part), "{json}: {message}");
            assert!(!message.contains("hush"), "{message}");
        }
    }
}
