//! What is made from the tables of the crate is what is committed: the header, the enums of the
//! Python and Node packages, and the reference page. `ICP_BLESS=1` writes them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use icp_ffi::reference;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn header() -> String {
    let mut config = cbindgen::Config {
        language: cbindgen::Language::C,
        include_guard: Some("ICP_H".to_owned()),
        header: Some(
            "/* The C ABI of icp: see docs/guides/embedding-from-c.md.\n   Made by `ICP_BLESS=1 \
             cargo test -p icp-ffi --test generated`, not by hand. */"
                .to_owned(),
        ),
        sys_includes: vec!["stddef.h".to_owned(), "stdint.h".to_owned()],
        no_includes: true,
        cpp_compat: true,
        documentation_style: cbindgen::DocumentationStyle::C99,
        style: cbindgen::Style::Both,
        after_includes: Some(format!("\n{}", reference::constants())),
        usize_is_size_t: true,
        line_length: 100,
        ..cbindgen::Config::default()
    };
    // No signature mentions it: it is what a record of a queue begins with.
    config.export.include = vec!["Item".to_owned()];
    config.export.exclude = vec!["HEADER".to_owned()];
    for (name, shown) in [
        ("Item", "icp_item"),
        ("EngineHandle", "icp_engine"),
        ("QueueHandle", "icp_queue"),
        ("ErrorDocument", "icp_error"),
    ] {
        config.export.rename.insert(name.to_owned(), shown.to_owned());
    }
    let source = folder().join("src");
    let mut builder = cbindgen::Builder::new().with_config(config);
    for file in ["item.rs", "abi/engine.rs", "abi/error.rs", "abi/log.rs", "abi/queue.rs"] {
        builder = builder.with_src(source.join(file));
    }
    let mut text = Vec::new();
    builder.generate().unwrap().write(&mut text);
    without_rust(&String::from_utf8(text).unwrap())
}

/// The sections on safety say to Rust callers what the text before says to all.
fn without_rust(header: &str) -> String {
    let mut out = String::new();
    let mut skipping = false;
    for line in header.lines() {
        let doc = line.trim_start().starts_with("//");
        if doc && line.contains("# Safety") {
            skipping = true;
            // The empty line before belongs to it.
            if out.ends_with("//\n") {
                out.truncate(out.len() - 3);
            }
        }
        if !doc {
            skipping = false;
        }
        if !skipping {
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
    out
}

#[expect(clippy::disallowed_methods, reason = "a switch for whoever runs the test")]
fn same(path: &Path, expected: &str) {
    if std::env::var("ICP_BLESS").is_ok_and(|value| value == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, expected).unwrap();
        return;
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    let hint = "run `ICP_BLESS=1 cargo test -p icp-ffi --test generated` and commit it";
    assert!(found == expected, "{} is not what the code says; {hint}", path.display());
}

#[test]
fn the_header_is_what_is_exported() {
    same(&folder().join("include/icp.h"), &header());
}

#[test]
fn the_enums_of_python_are_the_tables() {
    same(&folder().join("python/src/icp/_ops.py"), &reference::python());
}

#[test]
fn the_constants_of_node_are_the_tables() {
    same(&folder().join("node/src/ops.ts"), &reference::node());
}

#[test]
fn the_page_lists_every_operation() {
    let page = folder().join("../docs/reference/embedding.md");
    same(&page, &reference::page());
}
