//! Programs that are too much to read.

use super::Street;
use crate::fixture::script;

#[tokio::test]
async fn programs_are_read_within_bounds() {
    let codes =
        &["!compile", "!stack", "!timeout", "!timeout_hard", "!memory", "!crashed", "!runtime"];
    let chain = |piece: &str, count| piece.repeat(count);
    let street = Street::new().await;
    for (name, source) in [
        ("parens", chain("(", 60_000)),
        ("blocks", chain("{", 60_000)),
        ("templates", chain("`${", 20_000)),
        ("arrays", chain("[", 60_000)),
        ("closed arrays", format!("return {}{}", chain("[", 30_000), chain("]", 30_000))),
        ("arrows", format!("return {}1", chain("a=>", 20_000))),
        ("functions", chain("function f(){", 4_000)),
        ("classes", chain("class A{static{", 4_000)),
        ("unary", format!("return {}1", chain("- ", 30_000))),
        ("choices", format!("return {}1", chain("1?1:", 16_000))),
        ("destructuring", format!("let {}a", chain("[", 60_000))),
        ("optional", format!("return a{}", chain("?.a", 20_000))),
        ("labels", (0..6_000).map(|n| format!("a{n}:")).collect()),
        ("class of characters", format!("return /[{}/ui.test('')", chain("\u{4e00}", 20_000))),
        ("groups", format!("return /{}/.test('')", chain("(", 60_000))),
        ("variables", (0..6_000).map(|n| format!("let a{n};")).collect::<String>() + "for (;;) {}"),
        ("cases", format!("switch (1) {{ {} }} for (;;) {{}}", chain("case 1:", 8_000))),
        ("nul", "return '\0'".to_owned()),
        ("import", "import 'x'".to_owned()),
        ("export", "export default 1".to_owned()),
        ("closed too early", "}); for (;;) {} (function () {".to_owned()),
        ("closed, then a value", "return 1 }), (async function () { for (;;) {}".to_owned()),
        ("html comment", "<!-- x\n--> y\nfor (;;) {}".to_owned()),
        ("hashbang", "#!/bin/sh\nfor (;;) {}".to_owned()),
        ("lone escapes", "return '\\u{110000}'".to_owned()),
        ("with", "with ({}) { }".to_owned()),
        ("octal", "return 010".to_owned()),
        ("too long", chain("a;", 40_000)),
    ] {
        street.meet(name, &script(&source), "{}", codes).await;
    }
}
