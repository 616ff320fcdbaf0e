//! The engines beside other implementations of their languages: the same programs on the same
//! payloads end alike, but for the differences that are listed with a reason.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod chance;
mod compare;
mod difference;
mod engine;
mod made;
mod oracle;

use icp_core::transform::Language;

use compare::{Case, agree};
use oracle::Oracle;

async fn written(language: Language, oracle: Oracle, name: &str) {
    agree(language, oracle, &Case::written(name), &difference::listed(language, oracle)).await;
}

#[tokio::test]
async fn jmespath_ends_as_the_package_from_npm() {
    written(Language::Jmespath, Oracle::Npm, "jmespath").await;
}

#[tokio::test]
async fn jmespath_ends_as_the_package_from_pypi() {
    written(Language::Jmespath, Oracle::PyPi, "jmespath").await;
}

#[tokio::test]
async fn jsonata_ends_as_the_package_from_npm() {
    written(Language::Jsonata, Oracle::Npm, "jsonata").await;
}

#[tokio::test]
async fn schemas_judge_as_the_package_from_npm() {
    written(Language::JsonSchema, Oracle::Npm, "schema").await;
}

#[tokio::test]
async fn made_up_jmespath_ends_as_the_package_from_npm() {
    // See the table of differences for each.
    let without = ["@", "<", ">", "''", "_by("];
    agree(Language::Jmespath, Oracle::Npm, &made::jmespath(1, 1_500, &without), &[]).await;
}

#[tokio::test]
async fn made_up_jmespath_ends_as_the_package_from_pypi() {
    agree(Language::Jmespath, Oracle::PyPi, &made::jmespath(2, 1_500, &[]), &[]).await;
}

#[tokio::test]
async fn made_up_jsonata_ends_as_the_package_from_npm() {
    agree(Language::Jsonata, Oracle::Npm, &made::jsonata(3, 1_000), &[]).await;
}

#[tokio::test]
async fn made_up_schemas_judge_as_the_package_from_npm() {
    agree(Language::JsonSchema, Oracle::Npm, &made::schema(4, 1_500), &[]).await;
}

#[test]
fn every_language_has_some_hundred_cases() {
    for language in ["jmespath", "jsonata", "schema"] {
        let cases = Case::written(language);
        assert!(cases.len() >= 300, "{language} has {} cases", cases.len());
    }
}
