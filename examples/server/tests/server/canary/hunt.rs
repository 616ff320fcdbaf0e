//! Texts that must be seen nowhere, in every form in which they could be.

use std::fmt::Write;

use aho_corasick::AhoCorasick;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// A secret with a name to tell it by.
#[derive(Clone, Debug)]
pub(super) struct Canary {
    pub(super) name: String,
    /// Best of letters and digits, which neither JSON nor URLs have a reason to write otherwise.
    core: String,
}

impl Canary {
    pub(super) fn new(name: &str, core: &str) -> Self {
        assert!(core.len() >= 16, "{name} is found by chance");
        Self { name: name.to_owned(), core: core.to_owned() }
    }

    /// The text itself and what it may be turned into, each with what was done to it.
    fn forms(&self) -> Vec<(&'static str, String)> {
        let bytes = self.core.as_bytes();
        let each = |write: fn(&mut String, u8)| {
            bytes.iter().fold(String::new(), |mut text, byte| {
                write(&mut text, *byte);
                text
            })
        };
        let mut forms = vec![
            ("raw", self.core.clone()),
            ("in capitals", self.core.to_uppercase()),
            ("in small letters", self.core.to_lowercase()),
            ("reversed", self.core.chars().rev().collect()),
            ("hex", each(|text, byte| _ = write!(text, "{byte:02x}"))),
            ("hex in capitals", each(|text, byte| _ = write!(text, "{byte:02X}"))),
            ("percent-encoded", each(|text, byte| _ = write!(text, "%{byte:02X}"))),
            ("percent-encoded small", each(|text, byte| _ = write!(text, "%{byte:02x}"))),
            ("escaped as in JSON", each(|text, byte| _ = write!(text, "\\u{byte:04x}"))),
            ("as numbers", format!("{bytes:?}")),
        ];
        for shift in 0..3 {
            forms.push(("base64", aligned(&STANDARD_NO_PAD, bytes, shift)));
            forms.push(("base64 of URLs", aligned(&URL_SAFE_NO_PAD, bytes, shift)));
        }
        forms.sort_by(|one, other| one.1.cmp(&other.1));
        forms.dedup_by(|one, other| one.1 == other.1);
        forms
    }
}

/// The part of base 64 that does not depend on what stands around, `shift` bytes into a group.
fn aligned(engine: &impl Engine, bytes: &[u8], shift: usize) -> String {
    let text = engine.encode([&vec![0; shift], bytes].concat());
    let end = (shift + bytes.len()) / 3 * 4;
    text[(shift * 8).div_ceil(6)..end.min(text.len())].to_owned()
}

/// What looks for canaries.
pub(super) struct Hunt {
    names: Vec<String>,
    automaton: AhoCorasick,
}

impl Hunt {
    pub(super) fn for_all(canaries: &[Canary]) -> Self {
        let forms = canaries.iter().flat_map(|canary| {
            canary.forms().into_iter().map(|(how, text)| (format!("{} {how}", canary.name), text))
        });
        let (names, texts): (Vec<_>, Vec<_>) = forms.unzip();
        Self { names, automaton: AhoCorasick::new(texts).unwrap() }
    }

    /// What is found in `bytes`, with where that is and what stands around it.
    pub(super) fn find(&self, place: &str, bytes: &[u8]) -> Vec<String> {
        let found = self.automaton.find_iter(bytes).take(5);
        found
            .map(|hit| {
                let around =
                    &bytes[hit.start().saturating_sub(80)..bytes.len().min(hit.end() + 20)];
                let name = &self.names[hit.pattern().as_usize()];
                format!("{name} in {place}: …{}…", String::from_utf8_lossy(around))
            })
            .collect()
    }
}

#[test]
fn a_planted_leak_is_found_in_every_form() {
    let core = "Kq7Zt2Lw9Xb4Vn6Mp3";
    let hunt = Hunt::for_all(&[Canary::new("planted", core)]);
    let hex: String = core.bytes().map(|byte| format!("{byte:02x}")).collect();
    let percent: String = core.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let escaped: String = core.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    let reversed: String = core.chars().rev().collect();
    let mut leaks = vec![core.to_owned(), hex.to_uppercase(), hex, percent, escaped, reversed];
    leaks.push(format!("{:?}", core.as_bytes()));
    for before in ["", "a", "ab", "abc", "icp:"] {
        let whole = format!("{before}{core}/after");
        leaks.push(STANDARD_NO_PAD.encode(&whole));
        leaks.push(URL_SAFE_NO_PAD.encode(&whole));
    }
    for leak in leaks {
        let text = format!("{{\"a\":\"{leak}\"}}");
        assert_eq!(hunt.find("a log", text.as_bytes()).len(), 1, "{text}");
    }
    assert!(hunt.find("a log", &core.as_bytes()[1..]).is_empty());
}
