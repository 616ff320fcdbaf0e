//! What a payload holds: depth, names, numbers. Of its text, or of its value.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use icp_core::transform::Limits;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The largest integer up to which a double tells every integer from its neighbours.
const SAFE: u64 = (1 << 53) - 1;

/// Up to how many members names are not looked up among those met lately.
const FEW: usize = 256;

/// What a payload holds, as far as it matters to programs.
#[derive(Debug, Default)]
pub(super) struct Measure {
    depth: usize,
    pub(super) deepest: usize,
    /// At least as many as there are different names: some that come again are counted again.
    pub(super) names_met: usize,
    recent: Option<Recent>,
    /// The different ones, where they are told apart.
    names: Option<HashSet<Box<str>>>,
    pub(super) unsafe_integers: usize,
}

/// Names that were met lately, by their hashes. The members of a list mostly have the same.
#[derive(Debug)]
struct Recent {
    hasher: RandomState,
    hashes: Box<[u64; 256]>,
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
                for (name, member) in members {
                    self.name(name);
                    self.value(member);
                }
                self.depth -= 1;
            }
        }
    }

    /// Counts a name, unless it was met lately. In a small payload that is not worth looking.
    fn name(&mut self, name: &str) {
        if self.names_met < FEW || self.recent.get_or_insert_default().is_new(name) {
            self.names_met += 1;
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

impl Recent {
    fn is_new(&mut self, name: &str) -> bool {
        let hash = self.hasher.hash_one(name);
        // The lowest byte chooses the place.
        let place = usize::from(hash.to_le_bytes()[0]);
        std::mem::replace(&mut self.hashes[place], hash) != hash
    }
}

impl Default for Recent {
    fn default() -> Self {
        Self { hasher: RandomState::new(), hashes: Box::new([0; 256]) }
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
        self.measure.name(name);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is counted of the text, and of its value.
    fn counted(names: usize, times: usize) -> [usize; 2] {
        let members: Vec<_> = (0..names).map(|name| format!("\"name {name}\":1")).collect();
        let row = format!("{{{}}}", members.join(","));
        let text = format!("[{}]", vec![row; times].join(","));
        let most = Most { depth: 2, names: None };
        let of_text = measure(text.as_bytes(), most).unwrap().names_met;
        let mut of_value = Measure::default();
        of_value.value(&serde_json::from_str(&text).unwrap());
        [of_text, of_value.names_met]
    }

    #[test]
    fn names_that_come_again_are_counted_seldom() {
        assert_eq!(counted(4, 64), [FEW; 2]);
        // Now and then two of them have one place, and push one another out.
        let some = (0..9)
            .map(|_| counted(4, 10_000))
            .reduce(|one, other| [one[0].min(other[0]), one[1].min(other[1])]);
        assert!(some.unwrap().iter().all(|count| (FEW..=FEW + 4).contains(count)), "{some:?}");
    }

    #[test]
    fn no_name_is_left_out() {
        assert_eq!(counted(10_000, 1), [10_000; 2]);
        assert!(counted(5_000, 2).iter().all(|count| *count >= 5_000));
    }
}
