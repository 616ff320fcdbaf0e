//! What of a line of the log is not for the eyes of others.

/// Parts of names whose values are secrets.
const NAMES: [&str; 10] = [
    "secret",
    "token",
    "password",
    "passwd",
    "authorization",
    "cookie",
    "api_key",
    "apikey",
    "credential",
    "signature",
];

/// What secrets begin with, wherever they stand, and how long they are at least: names begin so too.
const MARKS: [(&str, usize); 6] =
    [("whsec_", 7), ("whsk_", 6), ("icp_", 40), ("ics_", 40), ("icr_", 40), ("eyJ", 20)];

/// Words after which a secret follows.
const SCHEMES: [&str; 2] = ["bearer", "basic"];

/// Whether the value of a field of this name may be a secret.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    NAMES.iter().any(|part| name.contains(part))
}

/// `text` without what looks like a secret.
pub(super) fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut after_scheme = false;
    for piece in text.split_inclusive(is_edge) {
        let word = piece.trim_end_matches(is_edge);
        let edge = &piece[word.len()..];
        let is_marked =
            MARKS.iter().any(|(mark, least)| word.len() >= *least && word.starts_with(mark));
        if !word.is_empty() && (is_marked || after_scheme) {
            out.push_str("[secret]");
        } else {
            out.push_str(word);
        }
        out.push_str(edge);
        if !word.is_empty() {
            after_scheme = SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme));
        }
    }
    out
}

/// What no secret has within.
fn is_edge(sign: char) -> bool {
    sign.is_whitespace() || "\"'`,;:()<>[]{}=&?".contains(sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_of_secrets() {
        for (name, secret) in [
            ("token", true),
            ("Refresh-Token", true),
            ("x-api-key", true),
            ("signing_secret", true),
            ("icp.delivery.id", false),
            ("key", false),
            ("message", false),
        ] {
            assert_eq!(is_secret(name), secret, "{name}");
        }
    }

    #[test]
    fn texts_lose_what_looks_like_a_secret() {
        for (text, left) in [
            ("plain text, as it is", "plain text, as it is"),
            ("sent Bearer abc.def to them", "sent Bearer [secret] to them"),
            ("Authorization: Basic dXNlcg==", "Authorization: Basic [secret]=="),
            ("the secret \"whsec_abc+/=\"", "the secret \"[secret]=\""),
            ("?key=icp_01j00000000000000000000000_0123456789abcdef&x=1", "?key=[secret]&x=1"),
            ("the table icp_event of icp_core", "the table icp_event of icp_core"),
            ("a jwt eyJhbGciOiJFUzI1NiJ9.eyJz.sig", "a jwt [secret]"),
            ("whsec_ alone", "whsec_ alone"),
            ("", ""),
        ] {
            assert_eq!(masked(text), left);
        }
    }
}
