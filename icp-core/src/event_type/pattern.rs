//! Regular expressions of schemas: taken where matching them takes a fixed time for each byte.

use regex_automata::dfa::{StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;

/// The longest pattern, in bytes.
pub(super) const MAX_PATTERN: usize = 512;

const NFA_BYTES: usize = 256 << 10;
const DFA_BYTES: usize = 256 << 10;

/// Why a pattern is not taken.
///
/// What is taken has a small deterministic automaton in both directions, by which any engine of
/// linear time needs no more than one step for each byte.
pub(super) fn fault(pattern: &str) -> Option<&'static str> {
    if pattern.len() > MAX_PATTERN {
        return Some("use at most 512 bytes");
    }
    let Ok(text) = jsonschema_regex::to_rust_regex(pattern) else {
        return Some("is not a regular expression of ECMA 262");
    };
    let fits = |reverse: bool| {
        let nfa = thompson::Config::new().nfa_size_limit(Some(NFA_BYTES)).reverse(reverse);
        let dfa = dense::Config::new()
            .start_kind(StartKind::Unanchored)
            .dfa_size_limit(Some(DFA_BYTES))
            .determinize_size_limit(Some(DFA_BYTES));
        let mut builder = dense::Builder::new();
        builder.configure(dfa).thompson(nfa).syntax(syntax::Config::new().nest_limit(32));
        builder.build(&text).is_ok()
    };
    let message = "has no small automaton; use fewer alternatives, smaller counts, and no look \
                   around, back reference, word boundary or large class";
    (!fits(false) || !fits(true)).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_matched_in_a_fixed_time_for_each_byte_is_taken() {
        for pattern in [
            "^[A-Z]{2}$",
            r"^\d{4}-\d{2}-\d{2}$",
            "^(order|invoice)_[a-z0-9]{8,32}$",
            "^[^@]+@[^@]+\\.[a-z]+$",
            "",
            "^é*$",
            r"^\S+$",
        ] {
            assert_eq!(fault(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn what_needs_memory_or_backtracking_is_refused() {
        let long = "a".repeat(MAX_PATTERN + 1);
        for pattern in [
            "(a|b)*a(a|b){24}",
            "((a{100}){100}){100}",
            r"(?=a)b",
            r"(a)\1",
            r"\bword\b",
            r"^\p{L}{1,500}$",
            "(",
            &long,
        ] {
            assert!(fault(pattern).is_some(), "{pattern}");
        }
    }
}
