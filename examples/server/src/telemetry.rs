//! Where the log goes, and where traces go.

use icp::{Code, Error, Result};
use tokio::runtime::Handle;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Config, LogFormat};

/// What sends traces in the background.
#[derive(Debug)]
pub(crate) struct Telemetry;

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
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    Ok(Telemetry)
}

impl Telemetry {
    /// Sends what is left.
    pub(crate) fn stop(self) {}
}
