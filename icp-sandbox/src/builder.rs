//! How a sandbox is set up.

use std::path::PathBuf;
use std::time::Duration;

use icp_core::error::{Code, Error, Result};
use icp_core::transform::Limits;

use crate::pool::Pool;
use crate::sandbox::Sandbox;

/// The file name of the worker program.
const PROGRAM: &str = "icp-sandbox";

/// The longest that an idle worker can be kept.
const MAX_IDLE: Duration = Duration::from_secs(3_600);

/// Builds a [`Sandbox`]. Everything has a default.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct Builder {
    limits: Limits,
    workers: Option<usize>,
    idle: Duration,
    program: Program,
}

#[derive(Clone, Debug)]
enum Program {
    Beside,
    Path(PathBuf),
    Own,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            limits: Limits::default(),
            workers: None,
            idle: Duration::from_secs(120),
            program: Program::Beside,
        }
    }

    /// What programs may use. Default: [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How many workers there are at most, idle ones included; 1 to 1,024. Default: two for each
    /// processor.
    pub fn workers(mut self, most: usize) -> Self {
        self.workers = Some(most);
        self
    }

    /// How long a worker without a call is kept for the next one of its organization; up to an
    /// hour. Default: two minutes.
    pub fn idle(mut self, most: Duration) -> Self {
        self.idle = most;
        self
    }

    /// The worker program. Default: the file `icp-sandbox` beside this executable, or beside the
    /// directory it is in.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Program::Path(path.into());
        self
    }

    /// Starts this executable as worker: its `main` must begin with
    /// [`worker::run_if_asked`](crate::worker::run_if_asked).
    pub fn own_executable(mut self) -> Self {
        self.program = Program::Own;
        self
    }

    /// Validates everything once. No worker is started yet; see [`Sandbox::probe`].
    ///
    /// # Errors
    ///
    /// [`Code::ConfigInvalid`] with the setting at fault, or where there is no worker program.
    pub fn build(self) -> Result<Sandbox> {
        self.limits.validate()?;
        let workers = self.workers.unwrap_or_else(default_workers);
        if !(1..=1_024).contains(&workers) {
            return Err(Error::new(Code::ConfigInvalid, "use 1 to 1,024 sandbox workers"));
        }
        if self.idle.is_zero() || self.idle > MAX_IDLE {
            let message = "keep idle sandbox workers for more than nothing and an hour at most";
            return Err(Error::new(Code::ConfigInvalid, message));
        }
        let program = self.program.find()?;
        if !cfg!(target_os = "linux") {
            tracing::warn!("sandbox workers are isolated less on this system: no call is filtered");
        }
        Ok(Sandbox::new(Pool::new(program, self.limits, workers, self.idle)))
    }
}

impl Program {
    fn find(self) -> Result<PathBuf> {
        let own = || {
            std::env::current_exe().map_err(|error| {
                Error::new(Code::ConfigInvalid, "this executable cannot be found").caused_by(error)
            })
        };
        let found = match self {
            Self::Own => own()?,
            Self::Path(path) => path,
            Self::Beside => {
                let own = own()?;
                let places = own.ancestors().skip(1).take(2).map(|place| place.join(PROGRAM));
                let found = places.into_iter().find(|path| path.is_file());
                found.unwrap_or_else(|| own.with_file_name(PROGRAM))
            }
        };
        if found.is_file() {
            return Ok(found);
        }
        let message = format!(
            "there is no sandbox worker at {}; install `{PROGRAM}` there, or name its path",
            found.display()
        );
        Err(Error::new(Code::ConfigInvalid, message))
    }
}

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from) * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked() {
        let own = || Builder::new().own_executable();
        assert!(own().build().is_ok());
        assert!(own().workers(0).build().is_err());
        assert!(own().workers(1_025).build().is_err());
        assert!(own().idle(Duration::from_secs(3_600)).build().is_ok());
        assert!(own().idle(Duration::ZERO).build().is_err());
        assert!(own().idle(Duration::from_secs(3_601)).build().is_err());
        let mut limits = Limits::default();
        limits.heap_bytes = 0;
        assert_eq!(own().limits(limits).build().unwrap_err().code(), Code::ConfigInvalid);
        let error = Builder::new().program("/nonexistent/worker").build().unwrap_err();
        assert!(error.message().contains("/nonexistent/worker"), "{error}");
    }
}
