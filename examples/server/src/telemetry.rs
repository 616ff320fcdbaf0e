//! Where the log goes, and where traces go.

use icp::telemetry::SystemLog;
use icp::{Code, Error, Result};
use tokio::runtime::Handle;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Config, LogFormat};

/// What sends traces in the background.
#[derive(Debug)]
pub(crate) struct Telemetry {
    /// The last lines, for the API.
    pub(crate) log: SystemLog,
}

/// Starts the log.
pub(crate) fn start(config: &Config, _runtime: &Handle) -> Result<Telemetry> {
    let filter = EnvFilter::try_new(&config.log).map_err(|fault| {
        let message = "`log` is not a filter; use a level such as `info`, or `target=level`";
        Error::new(Code::ConfigInvalid, message).caused_by(fault)
    })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match config.log_format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let log = SystemLog::default();
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(log.layer()).init();
    Ok(Telemetry { log })
}

impl Telemetry {
    /// Sends what is left.
    pub(crate) fn stop(self) {}
}
