//! Requests as commands for a POSIX shell.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::integration::{CompiledIntegration, Preview};

/// What one argument may hold: Linux refuses arguments of 128 KiB.
const MAX_ARGUMENT: usize = 100_000;

/// A request as a command for a shell, its secrets masked.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CurlCommand {
    /// The command: any POSIX shell takes it as it is.
    pub command: String,
    /// What is not as it was, or will be, when the engine sends it.
    pub notes: Vec<String>,
}

impl CurlCommand {
    /// The command that sends `request`.
    #[must_use]
    pub fn new(request: &Preview, mut notes: Vec<String>) -> Self {
        let masked = request.url.contains("=***");
        if masked || request.headers.iter().any(|(_, value)| value == "***") {
            notes.push("secrets are shown as ***; put them in before use".to_owned());
        }
        Self { command: command(request), notes }
    }
}

/// What a command lacks where a signer of the host adds to the requests of an integration.
pub(super) fn unasked(integration: &CompiledIntegration) -> Option<String> {
    let note = "the host adds header fields when it is sent, which are not in it";
    integration.asks_signer().then(|| note.to_owned())
}

/// The command. A body that is text goes into an argument; one that a terminal could not take as
/// it is, or that is too long for an argument, comes through a pipe.
fn command(request: &Preview) -> String {
    let (before, body) = match text(&request.body) {
        Some("") => (String::new(), None),
        Some(text) if text.len() <= MAX_ARGUMENT => {
            (String::new(), Some(format!("--data-raw {}", quoted(text))))
        }
        Some(text) => {
            (format!("printf %s {} |\n", quoted(text)), Some("--data-binary @-".to_owned()))
        }
        None => {
            let escaped = escaped(&request.body);
            (format!("printf %b '{escaped}' |\n"), Some("--data-binary @-".to_owned()))
        }
    };
    // Without `--globoff` brackets and braces in the address would mean several addresses.
    let mut command = format!("{before}curl --globoff --request {}", quoted(&request.method));
    let mut add = |argument: String| {
        command.push_str(" \\\n  ");
        command.push_str(&argument);
    };
    add(format!("--url {}", quoted(&request.url)));
    for (name, value) in &request.headers {
        // A name with a colon and nothing behind it would take the field out.
        let field = if value.is_empty() { format!("{name};") } else { format!("{name}: {value}") };
        add(format!("--header {}", quoted(&field)));
    }
    if let Some(body) = body {
        add(body);
    }
    command
}

/// The body as text, where pasting it does nothing but insert it.
fn text(body: &[u8]) -> Option<&str> {
    let harmless = |c: char| !c.is_control() || c == '\n' || c == '\t';
    std::str::from_utf8(body).ok().filter(|text| text.chars().all(harmless))
}

/// One word of a shell, whatever is in it.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Bytes as `printf %b` reads them, within single quotes.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        match byte {
            b' '..=b'~' if !b"'\\".contains(byte) => text.push(char::from(*byte)),
            _ => {
                // Writing to a text cannot fail.
                let _ = write!(text, "\\0{byte:03o}");
            }
        }
        text
    })
}

#[cfg(test)]
mod tests;
