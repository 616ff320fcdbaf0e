//! What a payload holds: depth, names, numbers. Of its text, or of its value.

use std::collections::HashSet;
use std::fmt;

use icp_core::transform::Limits;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The largest integer up to which a double tells every integer from its neighbours.
const SAFE: u64 = (1 << 53) - 1;

/// What a payload holds, as far as it matters to programs.
#[derive(Debug, Default)]
pub(super) struct Measure {
    depth: usize,
    pub(super) deepest: usize,
    /// Names of members, the same ones again included.
    pub(super) members: usize,
    /// The different ones, where they are told apart.
    names: Option<HashSet<Box<str>>>,
    pub(super) unsafe_integers: usize,
}

/// How the text of a payload fails.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// It is not JSON from this place on.
    Malformed { line: usize, column: usize },
    /// It has more levels than allowed.
    Deep,
    /// It has more different names than allowed.
    Names,
}

impl Measure {
    /// Adds a value, which has no more levels than can be read.
    pub(super) fn value(&mut self, value: &Value) {
        match value {
            Value::Null | Value::Bool(_) | Value::String(_) => {}
            Value::Number(number) => {
                let magnitude = number.as_i64().map(i64::unsigned_abs).or(number.as_u64());
                self.integer(magnitude.unwrap_or(0));
            }
            Value::Array(items) => {
                self.enter();
                items.iter().for_each(|item| self.value(item));
                self.depth -= 1;
            }
            Value::Object(members) => {
                self.enter();
                self.members += members.len();
                members.values().for_each(|member| self.value(member));
                self.depth -= 1;
            }
        }
    }

    fn enter(&mut self) {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
    }

    fn integer(&mut self, magnitude: u64) {
        self.unsafe_integers += usize::from(magnitude > SAFE);
    }
}

/// Reads JSON, and keeps nothing of it.
pub(super) fn measure(text: &[u8], most: Most) -> Result<Measure, Unreadable> {
    let names = most.names.map(|_| HashSet::new());
    let mut measure = Measure { names, ..Measure::default() };
    let mut reader = serde_json::Deserializer::from_slice(text);
    let seed = Seed { measure: &mut measure, most };
    let read = seed.deserialize(&mut reader).and_then(|()| reader.end());
    let Err(error) = read else { return Ok(measure) };
    if measure.deepest > most.depth {
        return Err(Unreadable::Deep);
    }
    if most.names.is_some_and(|most| measure.names.is_some_and(|names| names.len() > most)) {
        return Err(Unreadable::Names);
    }
    Err(Unreadable::Malformed { line: error.line(), column: error.column() })
}

#[derive(Clone, Copy)]
pub(super) struct Most {
    pub(super) depth: usize,
    /// Of different names; they are told apart only where this is there.
    pub(super) names: Option<usize>,
}

impl Most {
    pub(super) fn of(limits: &Limits) -> Self {
        Self { depth: limits.depth as usize, names: None }
    }
}

/// Visits every value. Strings are decoded, so that what cannot be decoded is found.
struct Seed<'a> {
    measure: &'a mut Measure,
    most: Most,
}

impl Seed<'_> {
    fn again(&mut self) -> Seed<'_> {
        Seed { measure: self.measure, most: self.most }
    }

    fn enter<E: Error>(&mut self) -> Result<(), E> {
        self.measure.enter();
        if self.measure.depth > self.most.depth { Err(E::custom("too deep")) } else { Ok(()) }
    }

    fn leave(&mut self) {
        self.measure.depth -= 1;
    }

    fn name<E: Error>(&mut self, name: &str) -> Result<(), E> {
        self.measure.members += 1;
        let (Some(names), Some(most)) = (&mut self.measure.names, self.most.names) else {
            return Ok(());
        };
        if !names.contains(name) {
            names.insert(name.into());
        }
        if names.len() > most { Err(E::custom("too many names")) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a json value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.measure.integer(value.unsigned_abs());
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.measure.integer(value);
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.enter()?;
        while items.next_element_seed(self.again())?.is_some() {}
        self.leave();
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        self.enter()?;
        while members.next_key_seed(Name(self.again()))?.is_some() {
            members.next_value_seed(self.again())?;
        }
        self.leave();
        Ok(())
    }
}

struct Name<'a>(Seed<'a>);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(mut self, name: &str) -> Result<(), E> {
        self.0.name(name)
    }
}
