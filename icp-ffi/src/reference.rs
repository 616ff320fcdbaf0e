//! What is made from the tables of this crate: header, enums of packages, reference page.

use std::fmt::Write;

use crate::item::Kind;
use crate::op::Op;
use crate::status::Status;

/// The version of the ABI: major in the upper half, minor in the lower.
pub const ABI_VERSION: u32 = 1 << 16;

/// The constants of the C header.
#[must_use]
pub fn constants() -> String {
    let mut out = String::from("/* The version of the ABI: major << 16 | minor. */\n");
    let _ = writeln!(out, "#define ICP_ABI_VERSION ((1u << 16) | 0u)");
    out.push_str("\n/* How a call or an operation ended. */\n");
    for status in Status::ALL {
        let name = match status {
            Status::Ok => "ICP_OK".to_owned(),
            _ => format!("ICP_E_{}", status.name()),
        };
        define(&mut out, &name, status.number(), status.meaning());
    }
    out.push_str("\n/* What can be asked of an engine. */\n");
    for op in Op::ALL {
        define(&mut out, &format!("ICP_OP_{}", op.name()), op.number(), op.meaning());
    }
    out.push_str("\n/* What a record of a queue tells. */\n");
    for kind in Kind::ALL {
        define(&mut out, &format!("ICP_ITEM_{}", kind.name()), kind.number(), kind.meaning());
    }
    out.push_str("\n/* What of the log is told. */\n");
    for (number, name) in LEVELS.iter().enumerate() {
        let _ = writeln!(out, "#define ICP_LOG_{name} {number}");
    }
    out
}

/// The levels of the log, by number.
pub const LEVELS: [&str; 6] = ["OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"];

fn define(out: &mut String, name: &str, number: impl std::fmt::Display, meaning: &str) {
    let _ = writeln!(out, "/*{meaning} */\n#define {name} {number}");
}

/// The enums of the Python package.
#[must_use]
pub fn python() -> String {
    let mut out = String::from(
        "\"\"\"Numbers of the C ABI; made from the tables of the library, not by hand.\"\"\"\n\n\
         from enum import IntEnum\n\nABI_VERSION = 1 << 16\n",
    );
    class(&mut out, "Status", Status::ALL.iter().map(|s| (s.name(), s.number(), s.meaning())));
    class(&mut out, "Op", Op::ALL.iter().map(|op| (op.name(), op.number(), op.meaning())));
    class(&mut out, "Item", Kind::ALL.iter().map(|k| (k.name(), k.number(), k.meaning())));
    out
}

fn class<N: std::fmt::Display>(
    out: &mut String,
    name: &str,
    members: impl Iterator<Item = (&'static str, N, &'static str)>,
) {
    let _ = write!(out, "\n\nclass {name}(IntEnum):\n");
    for (member, number, meaning) in members {
        let _ = writeln!(out, "    #{meaning}\n    {member} = {number}");
    }
}

/// The constants of the Node package.
#[must_use]
pub fn node() -> String {
    let mut out = String::from(
        "// Numbers of the C ABI; made from the tables of the library, not by hand.\n\n\
         /** The version of the ABI: major << 16 | minor. */\n\
         export const ABI_VERSION = 1 << 16\n",
    );
    let about = "How a call or an operation ended.";
    let members = Status::ALL.iter().map(|s| (s.name(), s.number(), s.meaning()));
    object(&mut out, "Status", about, members);
    let members = Op::ALL.iter().map(|op| (op.name(), op.number(), op.meaning()));
    object(&mut out, "Op", "What can be asked of an engine.", members);
    let members = Kind::ALL.iter().map(|k| (k.name(), k.number(), k.meaning()));
    object(&mut out, "Item", "What a record of a queue tells.", members);
    out
}

fn object<N: std::fmt::Display>(
    out: &mut String,
    name: &str,
    about: &str,
    members: impl Iterator<Item = (&'static str, N, &'static str)>,
) {
    let _ = write!(out, "\n/** {about} */\nexport const {name} = {{\n");
    for (member, number, meaning) in members {
        let _ = writeln!(out, "  /**{meaning} */\n  {member}: {number},");
    }
    let _ = write!(out, "}} as const\nexport type {name} = (typeof {name})[keyof typeof {name}]\n");
}

/// The reference page of the operations.
#[must_use]
pub fn page() -> String {
    let mut out = String::from(
        "# Operations of the C ABI\n\n\
         What [C](../guides/embedding-from-c.md), [Python](../guides/embedding-from-python.md) and \
         [Node](../guides/embedding-from-node.md) programs ask an engine, by `icp_submit` or `icp_call`. Input and answer are JSON; a \
         question mark is behind members that can be left out. Names of documents are those of \
         the schemas in `openapi.json`. Refresh this page with \
         `ICP_BLESS=1 cargo test -p icp-ffi --test generated`.\n\n\
         | Number | Operation | What it does | Input | Answer |\n|---|---|---|---|---|\n",
    );
    for op in Op::ALL {
        let (number, name, meaning) = (op.number(), op.name(), op.meaning().trim());
        let (input, output) = (op.input(), op.output());
        let _ = writeln!(out, "| {number} | `{name}` | {meaning} | {input} | {output} |");
    }
    out.push_str("\n## Statuses\n\n| Number | Status | Meaning |\n|---|---|---|\n");
    for status in Status::ALL {
        let (number, name) = (status.number(), status.name());
        let _ = writeln!(out, "| {number} | `{name}` | {} |", status.meaning().trim());
    }
    out.push_str("\n## Items of a queue\n\n| Number | Item | Meaning |\n|---|---|---|\n");
    for kind in Kind::ALL {
        let (number, name) = (kind.number(), kind.name());
        let _ = writeln!(out, "| {number} | `{name}` | {} |", kind.meaning().trim());
    }
    out
}

/// The OpenAPI document of the routes that operations go by.
#[cfg(test)]
pub(crate) fn openapi() -> serde_json::Value {
    let engine = icp::Engine::builder(icp::store::MemoryStore::new()).build().unwrap();
    icp::axum::openapi(engine.resources().kinds())
}
