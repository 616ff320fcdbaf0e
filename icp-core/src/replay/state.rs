use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error};

/// Where a replay job stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReplayState {
    /// Waiting for a node.
    Pending,
    /// A node works on it.
    Running,
    /// It rests until it is resumed.
    Paused,
    /// Every event of its range was looked at.
    Done,
    /// It was called off.
    Cancelled,
    /// It cannot go on.
    Failed,
}

impl ReplayState {
    /// Every state, in the order of a job's life.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Running, Self::Paused, Self::Done, Self::Cancelled, Self::Failed];

    /// Whether the job has ended; an ended job changes no more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled | Self::Failed)
    }

    /// Whether a node may work on the job.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }

    /// The state that follows a change; `None` where the change cannot be made. Asking for what is
    /// so already changes nothing.
    #[must_use]
    pub const fn after(self, change: ReplayChange) -> Option<Self> {
        match (self, change) {
            (Self::Pending | Self::Running | Self::Paused, ReplayChange::Pause) => {
                Some(Self::Paused)
            }
            (Self::Paused, ReplayChange::Resume) => Some(Self::Pending),
            (Self::Pending | Self::Running, ReplayChange::Resume) => Some(self),
            (Self::Done | Self::Failed, ReplayChange::Cancel)
            | (
                Self::Done | Self::Cancelled | Self::Failed,
                ReplayChange::Pause | ReplayChange::Resume,
            ) => None,
            (_, ReplayChange::Cancel) => Some(Self::Cancelled),
        }
    }

    /// The text form, lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for ReplayState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ReplayState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            Error::new(Code::QueryInvalid, format!("`{text}` is not a state; use one of {known}"))
        })
    }
}

/// What people do to a replay job.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ReplayChange {
    /// Let it rest. The batch under way is not written.
    Pause,
    /// Let it go on where it was.
    Resume,
    /// Call it off. Deliveries that were made stay.
    Cancel,
}

impl ReplayChange {
    /// The text form, lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_lead_where_the_table_says() {
        use ReplayChange::*;
        use ReplayState::*;
        for (from, pause, resume, cancel) in [
            (Pending, Some(Paused), Some(Pending), Some(Cancelled)),
            (Running, Some(Paused), Some(Running), Some(Cancelled)),
            (Paused, Some(Paused), Some(Pending), Some(Cancelled)),
            (Done, None, None, None),
            (Cancelled, None, None, Some(Cancelled)),
            (Failed, None, None, None),
        ] {
            let after = [Pause, Resume, Cancel].map(|change| from.after(change));
            assert_eq!(after, [pause, resume, cancel], "{from}");
        }
    }

    #[test]
    fn an_ended_job_changes_no_more() {
        for state in ReplayState::ALL.into_iter().filter(|state| state.is_final()) {
            for change in [ReplayChange::Pause, ReplayChange::Resume, ReplayChange::Cancel] {
                assert!(state.after(change).is_none_or(|after| after == state), "{state}");
            }
            assert!(!state.is_open());
        }
    }

    #[test]
    fn texts_are_read_back() {
        for state in ReplayState::ALL {
            assert_eq!(state.as_str().parse::<ReplayState>().unwrap(), state);
        }
        assert_eq!("lost".parse::<ReplayState>().unwrap_err().code(), Code::QueryInvalid);
    }
}
