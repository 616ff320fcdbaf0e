//! What programs may use: one table of defaults and maxima.

use serde::{Deserialize, Serialize};

use super::Language;
use crate::error::{Code, Error, Result, Violation};

macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:ident: $default:expr, $most:expr;)+) => {
        /// What programs may use. Every value is at least 1.
        #[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
        #[serde(default, deny_unknown_fields)]
        #[non_exhaustive]
        pub struct Limits { $($(#[doc = $doc])+ pub $name: u32,)+ }

        impl Limits {
            /// The largest values that are accepted.
            pub const MAX: Self = Self { $($name: $most,)+ };

            /// Checks every value.
            ///
            /// # Errors
            ///
            /// [`Code::ConfigInvalid`] with each value that is 0 or beyond its maximum.
            pub fn validate(&self) -> Result<()> {
                let mut found = Vec::new();
                $(if !(1..=$most).contains(&self.$name) {
                    let message = format!("use 1 to {}", $most);
                    found.push(Violation::new(concat!("/", stringify!($name)), "out_of_range", message));
                })+
                match found.is_empty() {
                    true => Ok(()),
                    false => Err(Error::violations(Code::ConfigInvalid, found)),
                }
            }
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }
    };
}

limits! {
    /// Text of a JavaScript program, in bytes. Default 64 KiB, at most 256 KiB.
    javascript_bytes: 64 << 10, 256 << 10;
    /// Text of a JSONata program, in bytes. Default 16 KiB, at most 64 KiB.
    jsonata_bytes: 16 << 10, 64 << 10;
    /// Text of a JMESPath program, in bytes. Default 8 KiB, at most 16 KiB.
    jmespath_bytes: 8 << 10, 16 << 10;
    /// Text of a JSON Schema, in bytes. Default 64 KiB, at most 256 KiB.
    schema_bytes: 64 << 10, 256 << 10;
    /// A payload that a plan with programs takes, in bytes. Default 256 KiB, at most 1 MiB.
    input_bytes: 256 << 10, 1 << 20;
    /// A payload that a plan with programs gives, in bytes. Default 256 KiB, at most 1 MiB.
    output_bytes: 256 << 10, 1 << 20;
    /// Objects and arrays around one another, in what a plan takes and gives. Default 64, at
    /// most 127.
    depth: 64, 127;
    /// Different names of members in a payload that a program takes. Default 4,096, at most
    /// 20,000.
    names: 4_096, 20_000;
    /// Processor time after which an engine stops a plan, in milliseconds. Default 100, at most
    /// 1,000.
    deadline_ms: 100, 1_000;
    /// Processor time beyond the deadline after which the worker is killed, in milliseconds.
    /// Default 50, at most 100.
    grace_ms: 50, 100;
    /// Heap of a JavaScript program, in bytes. Default 16 MiB, at most 64 MiB.
    heap_bytes: 16 << 20, 64 << 20;
    /// Stack of a JavaScript program, in bytes. Default 512 KiB, at most 1 MiB.
    stack_bytes: 512 << 10, 1 << 20;
    /// Promise reactions of a JavaScript program. Default 10,000, at most 100,000.
    reactions: 10_000, 100_000;
    /// Lines a program writes to its console; further ones are lost. Default 50, at most 500.
    console_lines: 50, 500;
    /// Text a program writes to its console, in bytes. Default 8 KiB, at most 64 KiB.
    console_bytes: 8 << 10, 64 << 10;
    /// Levels of evaluation of a JSONata program. Default 500, at most 2,000.
    jsonata_depth: 500, 2_000;
    /// Items of a sequence in a JSONata program. Default 100,000, at most 1,000,000.
    jsonata_sequence: 100_000, 1_000_000;
    /// Questions a plan asks its host, as for an entry of a lookup table. Default 1,000, at most
    /// 10,000.
    host_calls: 1_000, 10_000;
    /// HTTP requests a plan sends. Default 5, at most 50.
    http_requests: 5, 50;
    /// Body of one request, and of one response, of a program, in bytes. Default 256 KiB, at most
    /// 1 MiB.
    http_bytes: 256 << 10, 1 << 20;
    /// All HTTP requests of a plan together, in milliseconds. Default 10,000, at most 30,000.
    http_ms: 10_000, 30_000;
    /// Plans of one organization that run at once. Default 2, at most 8.
    running_per_org: 2, 8;
    /// Plans of one organization that wait to run; a further one is refused for now. Default 64,
    /// at most 1,024.
    waiting_per_org: 64, 1_024;
}

impl Limits {
    /// The longest text of a program in this language, in bytes.
    #[must_use]
    pub const fn source_bytes(&self, language: Language) -> usize {
        let bytes = match language {
            Language::Javascript => self.javascript_bytes,
            Language::Jsonata => self.jsonata_bytes,
            Language::Jmespath => self.jmespath_bytes,
            Language::JsonSchema => self.schema_bytes,
        };
        bytes as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_maxima_are_accepted_and_nothing_beyond() {
        assert!(Limits::default().validate().is_ok());
        assert!(Limits::MAX.validate().is_ok());
        let wrong = Limits { heap_bytes: (64 << 20) + 1, depth: 0, ..Limits::default() };
        let error = wrong.validate().unwrap_err();
        let pointers: Vec<_> = error.list().iter().map(|v| v.pointer.as_str()).collect();
        assert_eq!(pointers, ["/depth", "/heap_bytes"]);
        assert_eq!(error.code(), Code::ConfigInvalid);
    }
}
