//! The log of the process, told to a queue or a function of the host.

use std::cell::Cell;
use std::panic;
use std::sync::{Mutex, Once, PoisonError, Weak};

use icp::telemetry::{LogLevel, LogLine};
use icp::time::{Clock, SystemClock};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::{Registry, reload};

use crate::queue::Queue;
use crate::status::{Failure, Status};

/// Where lines go.
pub(crate) enum Sink {
    /// Out of a queue, while there is one.
    Queue(Weak<Queue>),
    /// To a function that takes the number of a level and a line.
    Callback(Tell),
}

/// A function of the host.
type Tell = Box<dyn Fn(i32, &[u8]) + Send>;

/// A process has one log, whatever number of engines it has. Locked while a function is called, so
/// that it is called by one thread at a time, and not after another one took its place.
static SINK: Mutex<Option<Sink>> = Mutex::new(None);

thread_local! {
    /// Whether this thread is in a function of the host.
    static TELLING: Cell<bool> = const { Cell::new(false) };
}

/// How the level is changed after the subscriber was set.
static LEVEL: Mutex<Option<reload::Handle<LevelFilter, Registry>>> = Mutex::new(None);

/// The prefix of the names of this library's threads.
pub(crate) const THREADS: &str = "icp-";

/// Tells lines of this level and above to `sink`; to nobody without one.
pub(crate) fn tell(sink: Option<Sink>, level: i32) -> Result<(), Failure> {
    let filter = match level {
        0 => LevelFilter::OFF,
        1 => LevelFilter::ERROR,
        2 => LevelFilter::WARN,
        3 => LevelFilter::INFO,
        4 => LevelFilter::DEBUG,
        5 => LevelFilter::TRACE,
        _ => return Err(Failure::new(Status::Invalid, "use a level of 0 to 5")),
    };
    if TELLING.get() {
        let message = "the log cannot be changed by what it is told to";
        return Err(Failure::new(Status::WrongThread, message));
    }
    let filter = if sink.is_some() { filter } else { LevelFilter::OFF };
    let before = std::mem::replace(&mut *lock(&SINK), sink);
    drop(before);
    let mut handle = lock(&LEVEL);
    if let Some(handle) = &*handle {
        return handle.reload(filter).map_err(|_| taken());
    }
    let (filter, reload) = reload::Layer::new(filter);
    let subscriber = Registry::default().with(Teller.with_filter(filter));
    tracing::subscriber::set_global_default(subscriber).map_err(|_| taken())?;
    *handle = Some(reload);
    Ok(())
}

fn taken() -> Failure {
    Failure::new(Status::Conflict, "the log of this process goes elsewhere")
}

/// Reads events of `tracing` as lines.
struct Teller;

impl<S: Subscriber> Layer<S> for Teller {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = LogLine::read(event, SystemClock.now());
        // Texts and numbers always have a JSON form.
        let json = || serde_json::to_vec(&line).unwrap_or_default();
        if TELLING.get() {
            return;
        }
        let sink = lock(&SINK);
        match &*sink {
            None => {}
            Some(Sink::Queue(queue)) => {
                let queue = queue.upgrade();
                // A drain that logs would wait for itself, so nothing below does; see `Queue`.
                drop(sink);
                if let Some(queue) = queue {
                    queue.log(json());
                }
            }
            Some(Sink::Callback(callback)) => {
                TELLING.set(true);
                callback(number(line.level), &json());
                TELLING.set(false);
            }
        }
    }
}

/// The number of a level, as in the header.
fn number(level: LogLevel) -> i32 {
    match level {
        LogLevel::Error => 1,
        LogLevel::Warn => 2,
        LogLevel::Info => 3,
        LogLevel::Debug => 4,
        LogLevel::Trace => 5,
    }
}

/// Has panics on threads of this library told to the log and not to standard error; those of
/// others are theirs.
pub(crate) fn catch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let is_ours =
                std::thread::current().name().is_some_and(|name| name.starts_with(THREADS));
            match info.location() {
                Some(at) if is_ours => {
                    tracing::error!(file = at.file(), line = at.line(), "a task panicked");
                }
                _ if is_ours => tracing::error!("a task panicked"),
                _ => before(info),
            }
        }));
    });
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
