//! Where the engines and the oracles are known to differ, and why.

use icp_core::transform::Language;
use icp_core::transform::Language::{Jmespath, JsonSchema, Jsonata};
use serde_json::Value;

use crate::oracle::Oracle;
use crate::oracle::Oracle::{Npm, PyPi};

/// Programs that end differently for some payload.
#[derive(Debug)]
struct Difference {
    language: Language,
    oracle: Oracle,
    /// What differs, and why ours is kept.
    #[expect(dead_code, reason = "for who reads the table")]
    reason: &'static str,
    /// The text of each, or the JSON of a schema.
    programs: &'static [&'static str],
}

const fn row(
    language: Language,
    oracle: Oracle,
    reason: &'static str,
    programs: &'static [&'static str],
) -> Difference {
    Difference { language, oracle, reason, programs }
}

const DIFFERENCES: &[Difference] = &[
    row(
        Jmespath,
        Npm,
        "it orders values that are no numbers; the specification gives null",
        &["total > `0`", "total <= id", "`\"a\"` < `\"b\"`", "`null` < `1`", "`[1]` < `2`"],
    ),
    row(Jmespath, Npm, "the average of nothing is no number to it", &["avg(`[]`) == `null`"]),
    row(Jmespath, Npm, "it reads empty text as the number 0", &["to_number(note)"]),
    row(Jmespath, Npm, "it finds no array in an array", &["contains(`[[1]]`, `[1]`)"]),
    row(
        Jmespath,
        Npm,
        "its `max_by` and `min_by` compare numbers only, and of nothing give no value at all",
        &[
            "max_by(`[{\"a\": \"x\"}, {\"a\": \"y\"}]`, &a).a",
            "max_by(`[{\"a\": 1}, {\"a\": \"x\"}]`, &a)",
            "max_by(`[]`, &a)",
            "min_by(`[]`, &a)",
        ],
    ),
    row(
        Jmespath,
        Npm,
        "it takes expressions that the grammar does not, and fails when they run",
        &["foo.", "foo..bar", "*.", "length(a,)", "'open", "`open"],
    ),
    row(Jmespath, Npm, "it does not parse an operator behind `@`", &["(@ == id)", "[(@ && id)]"]),
    row(Jmespath, Npm, "it finds no empty text at the start", &["starts_with('a', '')"]),
    row(Jmespath, Npm, "a step of 0 is an error", &["foo[::0]"]),
    row(Jmespath, PyPi, "a step of 0 is an error", &["foo[::0]"]),
    row(Jmespath, PyPi, "an expression has the type `expref`", &["type(&id)"]),
    row(
        Jmespath,
        PyPi,
        "a literal is json, and a comma has a value behind it",
        &["`{bad}`", "length(a,)"],
    ),
    row(
        Jmespath,
        PyPi,
        "it orders text, and fails on text beside a number; the specification gives null",
        &["`\"a\"` < `\"b\"`", "`[\"a\"]`[?@ > `0`]"],
    ),
    row(
        Jmespath,
        PyPi,
        "to Python `True` is 1 and `False` is 0",
        &["contains(`[1]`, `true`)", "contains(`[0]`, `false`)", "`[true]` == `[1]`"],
    ),
    row(Jsonata, Npm, "the engine leaves a space as it is", &["$encodeUrl(\"a b/c?d=é\")"]),
    row(
        Jsonata,
        Npm,
        "the engine keeps text that is badly encoded",
        &["$decodeUrlComponent(\"%\")"],
    ),
    row(
        Jsonata,
        Npm,
        "a match has a function `next`, which the engine writes as text",
        &["\"Ab\" ~> /a/i"],
    ),
    row(
        Jsonata,
        Npm,
        "the engine finds it out later, or takes it for `[1..2]`",
        &["a := 1", "1..2"],
    ),
    row(Jsonata, Npm, "the engine finds it out earlier", &["1(2)", "\"a\"()"]),
    row(Jsonata, Npm, "it changes the payload when it groups nothing", &["[rows{k: n}, rows]"]),
    row(Jsonata, Npm, "the engine does not count the payload itself as a value", &["$exists($)"]),
    row(JsonSchema, Npm, "it divides doubles, ours decimal numbers", &[r#"{"multipleOf":0.1}"#]),
    row(
        JsonSchema,
        Npm,
        "an item that `contains` does not match is not evaluated by it",
        &[r#"{"contains":{"type":"integer"},"unevaluatedItems":{"type":"string"}}"#],
    ),
    row(
        JsonSchema,
        Npm,
        "beside `prefixItems` it takes `contains` for fulfilled by no items",
        &[r#"{"prefixItems":[{"type":"string"}],"contains":{"const":1}}"#],
    ),
    row(
        JsonSchema,
        Npm,
        "it finds members of the prototype of an object",
        &[
            r#"{"required":["constructor"]}"#,
            r#"{"anyOf":[{"properties":{"a":{"type":"integer"}}},{"properties":{"b":true},
                "required":["b"]}],"unevaluatedProperties":false}"#,
        ],
    ),
    row(
        JsonSchema,
        Npm,
        "in draft 7 nothing beside `$ref` counts",
        &[r##"{"$schema":"http://json-schema.org/draft-07/schema#",
            "definitions":{"i":{"type":"integer"}},"$ref":"#/definitions/i","minimum":5}"##],
    ),
    row(
        JsonSchema,
        Npm,
        "a schema that is nothing but itself ends its stack",
        &[r##"{"$schema":"https://json-schema.org/draft/2019-09/schema","$recursiveRef":"#",
            "type":["object","integer","null"]}"##],
    ),
    row(
        JsonSchema,
        Npm,
        "it takes a space for the T of a moment, and wants a dot in the domain of an address",
        &[r#"{"format":"date-time"}"#, r#"{"format":"email"}"#],
    ),
    row(
        JsonSchema,
        Npm,
        "patterns of linear time have no lookaround and no backreference, and read braces strictly",
        &[r#"{"format":"regex"}"#, r#"{"pattern":"(?=a)a"}"#, r#"{"pattern":"(a)\\1"}"#],
    ),
    row(JsonSchema, Npm, "the draft allows an `enum` of nothing", &[r#"{"enum":[]}"#]),
];

/// What is listed of a language and an oracle: each program, as a case has it.
pub(crate) fn listed(language: Language, oracle: Oracle) -> Vec<Value> {
    let rows = DIFFERENCES.iter().filter(|row| row.language == language && row.oracle == oracle);
    let read = |text: &&str| match language {
        JsonSchema => serde_json::from_str(text).unwrap(),
        _ => Value::from(*text),
    };
    rows.flat_map(|row| row.programs.iter().map(read)).collect()
}
