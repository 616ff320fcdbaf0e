//! The last lines of the process's log, kept in memory to be looked at from afar.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::Context;

use super::redact::{is_secret, masked};
use crate::error::{Code, Error};
use crate::store::{Page, PageQuery};
use crate::time::{Clock, SystemClock, Timestamp};

/// How many lines are kept where nothing says so.
pub const LOG_LINES: usize = 2_000;

/// The longest message, in bytes.
const MESSAGE: usize = 2_000;

/// The longest value of a field, in bytes.
const VALUE: usize = 500;

/// The most fields of a line.
const FIELDS: usize = 24;

/// The last lines of a process's log. Cloning is cheap and shares the lines.
///
/// It is a layer of a host's `tracing` subscriber: what is told there is kept here too, so many
/// lines of bounded length, the values of fields that look like secrets masked.
///
/// ```
/// use icp_core::telemetry::SystemLog;
/// use tracing_subscriber::layer::SubscriberExt;
///
/// let log = SystemLog::default();
/// let subscriber = tracing_subscriber::registry().with(log.layer());
/// tracing::subscriber::with_default(subscriber, || tracing::info!(token = "hush", "begun"));
/// let page = log.lines(&Default::default());
/// assert_eq!(page.items[0].message, "begun");
/// assert_eq!(page.items[0].fields["token"], "[secret]");
/// ```
#[derive(Clone, Debug)]
pub struct SystemLog {
    ring: Arc<Mutex<Ring>>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Ring {
    lines: VecDeque<LogLine>,
    most: usize,
    next: u64,
}

impl Default for SystemLog {
    fn default() -> Self {
        Self::new(LOG_LINES, SystemClock)
    }
}

/// One line of the log.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct LogLine {
    /// The number of the line since the process began, from 1.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// How much it matters.
    pub level: LogLevel,
    /// The part of the program that says it.
    pub target: String,
    /// What it says.
    pub message: String,
    /// What it says it of.
    pub fields: std::collections::BTreeMap<String, String>,
}

/// How much a line of the log matters, from what matters most.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Something is broken.
    Error,
    /// Something is not as it should be.
    Warn,
    /// Something worth to know happened.
    Info,
    /// For who looks for a defect.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Error, "error"),
        (Self::Warn, "warn"),
        (Self::Info, "info"),
        (Self::Debug, "debug"),
        (Self::Trace, "trace"),
    ];

    fn of(level: Level) -> Self {
        match level {
            Level::ERROR => Self::Error,
            Level::WARN => Self::Warn,
            Level::INFO => Self::Info,
            Level::DEBUG => Self::Debug,
            Level::TRACE => Self::Trace,
        }
    }
}

impl std::str::FromStr for LogLevel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|(_, name)| *name == text);
        found.map(|(level, _)| level).ok_or_else(|| {
            let known = Self::ALL.map(|(_, name)| name).join(", ");
            Error::new(Code::QueryInvalid, format!("`{text}` is not a level; use one of {known}"))
        })
    }
}

/// Which lines are wanted.
#[derive(Clone, Debug, Default)]
pub struct LogLines {
    /// Those that matter at least as much.
    pub level: Option<LogLevel>,
    /// Those of targets that begin so.
    pub target: Option<String>,
    /// Those of this moment or later.
    pub since: Option<Timestamp>,
    /// The number of the last line of the page before, and how many are wanted.
    pub page: PageQuery<u64>,
}

impl LogLines {
    fn takes(&self, line: &LogLine) -> bool {
        self.level.is_none_or(|level| line.level <= level)
            && self.target.as_ref().is_none_or(|target| line.target.starts_with(target))
            && self.since.is_none_or(|since| line.at >= since)
            && self.page.after.is_none_or(|after| line.number < after)
    }
}

impl SystemLog {
    /// A log of the last `lines` lines, at least one, by the time of `clock`.
    pub fn new(lines: usize, clock: impl Clock) -> Self {
        let ring = Ring { lines: VecDeque::new(), most: lines.max(1), next: 1 };
        Self { ring: Arc::new(Mutex::new(ring)), clock: Arc::new(clock) }
    }

    /// The layer that keeps lines of the level `info` and above.
    #[must_use]
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    {
        Keeper(self.clone()).with_filter(LevelFilter::INFO)
    }

    /// Lines that are kept, newest first.
    #[must_use]
    pub fn lines(&self, wanted: &LogLines) -> Page<LogLine> {
        let ring = self.lock();
        let found = ring.lines.iter().rev().filter(|line| wanted.takes(line));
        let limit = wanted.page.limit;
        Page::cut(found.take(limit.saturating_add(1)).cloned().collect(), limit)
    }

    fn keep(&self, mut line: LogLine) {
        let mut ring = self.lock();
        line.number = ring.next;
        ring.next += 1;
        if ring.lines.len() >= ring.most {
            ring.lines.pop_front();
        }
        ring.lines.push_back(line);
    }

    // A line is whole before the lock is taken.
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogLine {
    /// What an event of `tracing` says at `at`, shortened and without what looks like a secret.
    /// Its number is 0.
    #[must_use]
    pub fn read(event: &Event<'_>, at: Timestamp) -> Self {
        let metadata = event.metadata();
        let mut line = Self {
            number: 0,
            at,
            level: LogLevel::of(*metadata.level()),
            target: metadata.target().to_owned(),
            message: String::new(),
            fields: std::collections::BTreeMap::new(),
        };
        event.record(&mut Reader(&mut line));
        line
    }
}

/// Keeps what the process tells.
struct Keeper(SystemLog);

impl<S: Subscriber> Layer<S> for Keeper {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.keep(LogLine::read(event, self.0.clock.now()));
    }
}

/// Reads the fields of an event into a line.
struct Reader<'a>(&'a mut LogLine);

impl Reader<'_> {
    fn put(&mut self, field: &Field, value: &dyn fmt::Display) {
        let name = field.name();
        let line = &mut *self.0;
        if name == "message" {
            line.message = shown(value, MESSAGE);
        } else if line.fields.len() < FIELDS {
            let value = match is_secret(name) {
                true => "[secret]".to_owned(),
                false => shown(value, VALUE),
            };
            line.fields.insert(name.to_owned(), value);
        }
    }
}

impl Visit for Reader<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, &value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, &value);
    }
}

/// `value` without secrets, no longer than `most` bytes and a sign that says so.
fn shown(value: &dyn fmt::Display, most: usize) -> String {
    // A mask may be longer than what it stands for.
    bounded(&masked(&bounded(value, most)), most)
}

/// `value` as text, cut off where it gets longer than `most` bytes, without ever being longer in
/// memory.
fn bounded(value: &dyn fmt::Display, most: usize) -> String {
    let mut text = Bounded { text: String::new(), most };
    // An error means that the text is full.
    let _ = write!(text, "{value}");
    text.text
}

struct Bounded {
    text: String,
    most: usize,
}

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = self.most - self.text.len();
        if more.len() <= room {
            self.text.push_str(more);
            return Ok(());
        }
        self.text.push_str(&more[..more.floor_char_boundary(room)]);
        self.text.push('…');
        self.most = self.text.len();
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn told(lines: usize, tell: impl FnOnce()) -> SystemLog {
        let log = SystemLog::new(lines, SystemClock);
        let subscriber = tracing_subscriber::registry().with(log.layer());
        tracing::subscriber::with_default(subscriber, tell);
        log
    }

    fn numbers(page: &Page<LogLine>) -> Vec<u64> {
        page.items.iter().map(|line| line.number).collect()
    }

    #[test]
    fn the_last_lines_are_kept_and_paged_newest_first() {
        let log = told(3, || (0..5).for_each(|n| tracing::info!(n, "line")));
        let mut wanted =
            LogLines { page: PageQuery { after: None, limit: 2 }, ..LogLines::default() };
        let page = log.lines(&wanted);
        assert_eq!((numbers(&page), page.more), (vec![5, 4], true));
        assert_eq!(page.items[0].fields["n"], "4");
        wanted.page.after = Some(4);
        let page = log.lines(&wanted);
        assert_eq!((numbers(&page), page.more), (vec![3], false));
    }

    #[test]
    fn lines_are_found_by_level_target_and_time() {
        let log = told(9, || {
            tracing::error!(target: "icp_core::store", "broken");
            tracing::warn!(target: "icp_core::egress", "odd");
            tracing::debug!("not kept");
        });
        let all = LogLines::default();
        let level = LogLines { level: Some(LogLevel::Error), ..all.clone() };
        let target = LogLines { target: Some("icp_core::egress".into()), ..all.clone() };
        let since = LogLines { since: Some(Timestamp::MAX), ..all.clone() };
        for (wanted, expected) in
            [(all, vec![2, 1]), (level, vec![1]), (target, vec![2]), (since, vec![])]
        {
            assert_eq!(numbers(&log.lines(&wanted)), expected, "{wanted:?}");
        }
    }

    #[test]
    fn secrets_are_masked_and_lines_are_bounded() {
        let long = "ä".repeat(5_000);
        let log = told(9, || {
            tracing::info!(authorization = "hush", password = ?"hush", "sent Bearer hush to {long}");
            tracing::info!(detail = long.as_str(), "the secret whsec_hush");
        });
        let lines = log.lines(&LogLines::default()).items;
        assert!(!format!("{lines:?}").contains("hush"), "{lines:?}");
        assert!(
            lines[1].message.len() <= MESSAGE + 3 && lines[0].fields["detail"].len() <= VALUE + 3
        );
    }

    #[test]
    fn levels_have_names() {
        for (level, name) in LogLevel::ALL {
            assert_eq!(name.parse::<LogLevel>().unwrap(), level);
            assert_eq!(serde_json::to_value(level).unwrap(), name);
        }
        assert_eq!("loud".parse::<LogLevel>().unwrap_err().code(), Code::QueryInvalid);
    }
}
