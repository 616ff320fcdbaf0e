//! Placeholder until the matching branch lands.
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Code, Error};

/// The type of an event, as in `order.paid`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EventType(Arc<str>);

impl EventType {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for EventType {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::new(Code::EventTypeInvalid, "empty"));
        }
        Ok(Self(text.into()))
    }
}
