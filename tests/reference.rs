//! The generated pages of `docs/reference` say what the code says.

use std::path::Path;
use std::{fs, io};

use icp_core::{Code, Error, ErrorKind, Fault};

/// Refreshes the pages when it is set to 1.
const BLESS: &str = "ICP_BLESS";

#[test]
fn errors_page_lists_every_code() -> io::Result<()> {
    same("errors.md", &errors())
}

fn errors() -> String {
    let mut page = String::from(
        "# Errors\n\n\
         Every failure has a stable code: the same in Rust, over HTTP and over the C ABI. A code \
         never changes its meaning and is never reused. Match on the code, not on the message.\n\n\
         \"Again\" says whether the same call can succeed later.\n\n\
         This page is generated from `icp_core::Code::ALL`; refresh it with \
         `ICP_BLESS=1 cargo test -p icp --test reference`.\n\n\
         | Code | Kind | Again | Meaning |\n|---|---|---|---|\n",
    );
    for code in Code::ALL {
        let again = match Error::new(*code, "").fault() {
            Fault::Transient => "yes",
            _ => "no",
        };
        let meaning = code.meaning().trim().replace('|', "\\|");
        let kind = words(code.kind());
        page.push_str(&format!("| `{code}` | {kind} | {again} | {meaning} |\n"));
    }
    page
}

/// `NotFound` as `not found`.
fn words(kind: ErrorKind) -> String {
    let mut words = String::new();
    for letter in format!("{kind:?}").chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

fn same(name: &str, expected: &str) -> io::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference").join(name);
    if bless() {
        return fs::write(&path, expected);
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/reference/{name} is not what the code says; \
         run `{BLESS}=1 cargo test -p icp --test reference` and commit the page"
    );
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a switch for whoever runs the test")]
fn bless() -> bool {
    std::env::var(BLESS).is_ok_and(|value| value == "1")
}
