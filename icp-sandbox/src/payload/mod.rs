//! Payloads between steps: text or value, whichever the last step gave; and what is admitted.

mod measure;

use std::io;

use icp_core::transform::{Limits, TransformError};
use serde_json::Value;

use self::measure::{Measure, Most, Unreadable, measure};

/// A payload between two steps.
#[derive(Debug)]
pub(crate) enum Payload {
    /// JSON text, of an organization or of a program.
    Text(Text),
    /// A value.
    Value(Value),
}

/// JSON text. What the program of a last step wrote is for the host to read, so that what is wrong
/// with it is the host's to find.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) json: Vec<u8>,
    /// Integers that a double cannot tell from their neighbours, where they were counted.
    unsafe_integers: Option<usize>,
}

impl Payload {
    /// What an organization published, as text.
    pub(crate) fn of_text(input: Vec<u8>, limits: &Limits) -> Result<Self, TransformError> {
        let unsafe_integers = Some(admit(&input, limits)?);
        Ok(Self::Text(Text { json: input, unsafe_integers }))
    }

    /// What an organization published, as a value.
    pub(crate) fn of_value(input: &[u8], limits: &Limits) -> Result<Self, TransformError> {
        let read: serde_json::Result<Value> = serde_json::from_slice(input);
        let fits = |value: &Value| {
            let mut measure = Measure::default();
            measure.value(value);
            measure.deepest <= limits.depth as usize && measure.names_met <= limits.names as usize
        };
        match read {
            Ok(value) if fits(&value) => Ok(Self::Value(value)),
            // What is wrong is told of the text; what is not, such as a name that stands twice in
            // an object, is as good as its value.
            read => {
                admit(input, limits)?;
                read.map(Self::Value)
                    .map_err(|error| TransformError::input_invalid(error.line(), error.column()))
            }
        }
    }

    /// What a program wrote, as it is.
    pub(crate) fn written(json: Vec<u8>) -> Self {
        Self::Text(Text { json, unsafe_integers: None })
    }

    /// What a program wrote, which is valid if it is allowed.
    pub(crate) fn judged(json: Vec<u8>, limits: &Limits) -> Result<Self, TransformError> {
        let unsafe_integers = Some(judge(&json, limits)?);
        Ok(Self::Text(Text { json, unsafe_integers }))
    }

    /// The payload as text.
    pub(crate) fn into_text(self, limits: &Limits) -> Result<Vec<u8>, TransformError> {
        match self {
            Self::Text(text) => Ok(text.json),
            Self::Value(value) => write(&value, limits),
        }
    }

    /// The payload as a value.
    pub(crate) fn into_value(self) -> Result<Value, TransformError> {
        match self {
            Self::Value(value) => Ok(value),
            Self::Text(text) => serde_json::from_slice(&text.json)
                .map_err(|error| TransformError::input_invalid(error.line(), error.column())),
        }
    }

    /// How many integers a double cannot tell from their neighbours.
    pub(crate) fn unsafe_integers(&self) -> usize {
        match self {
            Self::Text(Text { unsafe_integers: Some(counted), .. }) => *counted,
            Self::Text(text) => {
                let most = Most { depth: usize::MAX, names: None };
                // What cannot be read was refused before, or is by the program itself.
                measure(&text.json, most).map_or(0, |measure| measure.unsafe_integers)
            }
            Self::Value(value) => {
                let mut measure = Measure::default();
                measure.value(value);
                measure.unsafe_integers
            }
        }
    }
}

/// Refuses a payload that is longer than programs take.
pub(crate) fn admit_size(input: &[u8], limits: &Limits) -> Result<(), TransformError> {
    let (length, most) = (input.len(), limits.input_bytes as usize);
    if length <= most {
        return Ok(());
    }
    let message = format!("the payload has {length} bytes; programs take {most}");
    Err(TransformError::new("input_too_large", message))
}

/// Reads what an organization published, and keeps nothing of it. Gives how many integers a double
/// cannot tell from their neighbours.
fn admit(input: &[u8], limits: &Limits) -> Result<usize, TransformError> {
    let mut most = Most::of(limits);
    let mut measured = measure(input, most);
    if measured.as_ref().is_ok_and(|measure| measure.names_met > limits.names as usize) {
        most.names = Some(limits.names as usize);
        measured = measure(input, most);
    }
    let error = match measured {
        Ok(measure) => return Ok(measure.unsafe_integers),
        Err(error) => error,
    };
    Err(match error {
        Unreadable::Malformed { line, column } => TransformError::input_invalid(line, column),
        Unreadable::Deep => {
            let depth = limits.depth;
            let message =
                format!("the payload has more than {depth} levels; publish a shallower one");
            TransformError::new("input_too_deep", message)
        }
        Unreadable::Names => {
            let names = limits.names;
            let message = format!("the payload has more than {names} different names of members");
            TransformError::new("input_too_many_names", message)
        }
    })
}

/// Refuses a result that is longer than programs may give.
pub(crate) fn judge_size(output: &[u8], limits: &Limits) -> Result<(), TransformError> {
    let (length, most) = (output.len(), limits.output_bytes as usize);
    if length <= most {
        return Ok(());
    }
    let message = format!("the result has {length} bytes; keep it within {most}");
    Err(TransformError::new("output_too_large", message))
}

/// Reads what programs made: it must be JSON that everything after can read. Gives how many
/// integers a double cannot tell from their neighbours.
pub(crate) fn judge(output: &[u8], limits: &Limits) -> Result<usize, TransformError> {
    judge_size(output, limits)?;
    match measure(output, Most::of(limits)) {
        Ok(measure) => Ok(measure.unsafe_integers),
        Err(Unreadable::Deep) => Err(TransformError::new(
            "output_too_deep",
            format!("the result has more than {} levels; return a shallower one", limits.depth),
        )),
        Err(Unreadable::Malformed { .. } | Unreadable::Names) => Err(TransformError::new(
            "output_invalid",
            "the result is not json, as with half of a surrogate pair in a string",
        )),
    }
}

/// The text of a value, which may be many times larger than what it is made of.
pub(crate) fn write<T: serde::Serialize>(
    value: &T,
    limits: &Limits,
) -> Result<Vec<u8>, TransformError> {
    let mut out = Bounded { text: Vec::new(), most: limits.output_bytes as usize };
    match serde_json::to_writer(&mut out, value) {
        Ok(()) => Ok(out.text),
        Err(error) if error.is_io() => {
            let message = format!("the result has more than {} bytes", limits.output_bytes);
            Err(TransformError::new("output_too_large", message))
        }
        Err(_) => Err(TransformError::new("output_invalid", "the result has no json form")),
    }
}

struct Bounded {
    text: Vec<u8>,
    most: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > self.most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let mut limits = Limits::default();
        (limits.depth, limits.names, limits.output_bytes) = (3, 4, 64);
        limits
    }

    #[test]
    fn payloads_are_admitted_within_depth_and_names() {
        for (text, code) in [
            ("1", None),
            ("[[[1]]]", None),
            ("[[[[1]]]]", Some("input_too_deep")),
            (r#"{"a":{"b":1},"c":[{"a":2,"d":3}]}"#, None),
            (r#"{"a":1,"b":2,"c":3,"d":4,"e":5}"#, Some("input_too_many_names")),
            (r#"[{"a":1,"b":2,"c":3,"d":4},{"a":1}]"#, None),
            (r#"{"a":1,"a":2,"a":3,"a":4,"a":5}"#, None),
            ("", Some("input_invalid")),
            ("{}x", Some("input_invalid")),
            (r#""\ud800""#, Some("input_invalid")),
            (r#"{"\ud800":1}"#, Some("input_invalid")),
            ("\u{feff}1", Some("input_invalid")),
        ] {
            for read in [
                Payload::of_text(text.into(), &limits()),
                Payload::of_value(text.as_bytes(), &limits()),
            ] {
                assert_eq!(read.err().map(|error| error.code), code, "{text}");
            }
        }
    }

    #[test]
    fn integers_that_doubles_round_are_counted() {
        let text = "[9007199254740991,-9007199254740991,9007199254740992,-9007199254740992,1e300]";
        for payload in [
            Payload::of_text(text.into(), &limits()),
            Payload::of_value(text.as_bytes(), &limits()),
            Payload::judged(text.into(), &Limits::default()),
            Ok(Payload::written(text.into())),
        ] {
            assert_eq!(payload.unwrap().unsafe_integers(), 2);
        }
    }

    #[test]
    fn results_are_json_within_size_and_depth() {
        for (text, code) in [
            (r#"{"a":1,"b":2,"c":3,"d":4,"e":5}"#, None),
            ("[[[[1]]]]", Some("output_too_deep")),
            (r#"["\ud800"]"#, Some("output_invalid")),
            ("NaN", Some("output_invalid")),
            (&format!("{:65}", 1), Some("output_too_large")),
        ] {
            let found = judge(text.as_bytes(), &limits()).err().map(|error| error.code);
            assert_eq!(found, code, "{text}");
        }
        assert_eq!(write(&"x".repeat(63), &limits()).unwrap_err().code, "output_too_large");
        assert_eq!(write(&"x".repeat(62), &limits()).unwrap().len(), 64);
    }
}
