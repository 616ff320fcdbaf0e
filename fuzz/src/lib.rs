//! Documents drawn from bytes, for fuzz targets.
//!
//! A fuzzer changes bytes; most changes to the text of a document only make it unreadable. Here
//! bytes are choices instead, so that almost every input is a document worth trying, and a small
//! change of the bytes is a small change of the document.
#![forbid(unsafe_code)]

use serde_json::{Map, Number, Value};

/// The names that documents have their members by, so that paths into them find something.
pub const NAMES: &[&str] = &["a", "b", "data", "id", "lines", "__proto__", "x y", ""];

/// Those of them that stand in a path as they are.
const KEYS: &[&str] = &["a", "b", "data", "id", "lines", "__proto__"];

/// Texts that mean something somewhere: in paths, addresses, header fields, numbers, dates.
const TEXTS: &[&str] = &[
    "",
    "a",
    "DE",
    " a b\n",
    "12",
    "1e400",
    "2026-11-21",
    "2026-11-21T03:45:00.5+01:00",
    "true",
    "..",
    "/../",
    "%2e%2E",
    "\\",
    "?q=1&r",
    "#f",
    "@example.org",
    ":80",
    "\r\nx-evil: 1",
    "{{data.a}}",
    "\u{0}",
    "é",
    "\u{1f600}",
    "\u{202e}",
];

/// Bytes that are taken as choices. Where they end, every choice is the first.
#[derive(Clone, Copy, Debug)]
pub struct Draw<'a>(&'a [u8]);

impl<'a> Draw<'a> {
    /// Draws from `bytes`.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    /// A number below `most`, which is at most 256.
    pub fn below(&mut self, most: usize) -> usize {
        usize::from(self.byte()) % most.max(1)
    }

    /// Whether something of one in `times` is so.
    pub fn rarely(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    /// One of them.
    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// A text: one that means something, mostly, or any.
    pub fn text(&mut self) -> String {
        match self.below(8) {
            0..=4 => self.one(TEXTS).to_owned(),
            5 => self.one(TEXTS).repeat(self.below(40)),
            6 => format!("{}{}", self.one(TEXTS), self.one(TEXTS)),
            _ => {
                let (some, rest) = self.0.split_at(self.0.len().min(9));
                self.0 = rest;
                String::from_utf8_lossy(some).into_owned()
            }
        }
    }

    /// A number near a bound of something.
    pub fn number(&mut self) -> Number {
        let whole = [0, 1, -1, 9_999, 10_000_000_001, i64::MAX, i64::MIN, 253_402_300_800_000];
        match self.below(4) {
            0 => self.one(&whole).into(),
            1 => u64::MAX.into(),
            2 => Number::from_f64(self.one(&[0.5, -0.0, 1e300, 5e-324])).unwrap_or(0.into()),
            _ => self.byte().into(),
        }
    }

    /// A value of at most so many levels.
    pub fn value(&mut self, levels: usize) -> Value {
        match self.below(if levels == 0 { 5 } else { 8 }) {
            0 | 1 => self.text().into(),
            2 => Value::Null,
            3 => self.rarely(2).into(),
            4 => self.number().into(),
            5 => (0..self.below(5)).map(|_| self.value(levels - 1)).collect(),
            _ => self.object(levels - 1),
        }
    }

    /// An object whose members have at most so many levels.
    pub fn object(&mut self, levels: usize) -> Value {
        let member = |_| (self.one(NAMES).to_owned(), self.value(levels));
        (0..4).map(member).collect::<Map<_, _>>().into()
    }

    /// A path, which is malformed now and then.
    pub fn path(&mut self) -> String {
        let mut path = match self.below(8) {
            0 => return "@".to_owned(),
            1 => "[\"x y\"]".to_owned(),
            2 if self.rarely(8) => self.text(),
            _ => self.one(KEYS).to_owned(),
        };
        for _ in 0..self.below(4) {
            match self.below(8) {
                0 => path += &format!("[{}]", self.one(&[0, 0, 1, 7, 300, 9_999])),
                1 => path += "[\"__proto__\"]",
                2 if self.rarely(16) => path += &self.text(),
                _ => path += &format!(".{}", self.one(KEYS)),
            }
        }
        path
    }

    /// Text with places for values, which is malformed now and then.
    pub fn template(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..=self.below(4) {
            match self.below(4) {
                0 => text += &self.text(),
                1 if self.rarely(16) => text += "{{",
                _ => text += &format!("{{{{{}}}}}", self.path()),
            }
        }
        text
    }

    /// The bytes of a frame as they are, mostly; or cut, or with one of them changed.
    pub fn spoiled(&mut self, mut frame: Vec<u8>) -> Vec<u8> {
        let how = self.below(16);
        let at = self.below(frame.len().min(256));
        match (how, frame.get_mut(at)) {
            (6, _) => frame.truncate(at),
            (7, Some(byte)) => *byte ^= self.byte(),
            _ => {}
        }
        frame
    }
}

/// The bytes of a frame between a host and its worker: two lengths, a head and a body.
#[must_use]
pub fn frame(head: &Value, body: &[u8]) -> Vec<u8> {
    let head = head.to_string().into_bytes();
    // Nothing that is drawn is anywhere near what the length of a frame can tell.
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    [&length(&head)[..], &length(body), &head, body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    // A target as the others, so that this is linked with what counts coverage, as they are.
    #[test]
    fn the_same_bytes_are_the_same_document() {
        bolero::check!().with_iterations(1_000).with_max_len(256).for_each(|bytes: &[u8]| {
            let all = |mut draw: Draw<'_>| {
                (draw.value(6), draw.path(), draw.template(), draw.spoiled(vec![1, 2, 3]))
            };
            assert_eq!(all(Draw::of(bytes)), all(Draw::of(bytes)));
        });
    }
}
