//! The pages on the languages: every example on them is run, by a real worker.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod example;
mod page;

use page::Page;

/// Runs every example of a page, and tells all that differ at once.
async fn hold(name: &str) {
    let page = Page::read(name);
    let mut wrong = Vec::new();
    let (mut made, mut failed) = (0, 0);
    for example in &page.examples {
        match example.run().await {
            Ok(found) if found.is_failure() => failed += 1,
            Ok(_) => made += 1,
            Err(told) => wrong.push(format!("{name}: {}: {told}", example.heading)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert_eq!(made + failed, page.headings, "{name}: a heading without an example");
    assert!(made >= 10, "{name} has {made} examples");
    assert!(failed >= 2, "{name} shows {failed} failures");
}

#[tokio::test]
async fn mapping() {
    hold("transforming-with-mapping").await;
}

#[tokio::test]
async fn javascript() {
    hold("transforming-with-javascript").await;
}

#[tokio::test]
async fn jsonata() {
    hold("transforming-with-jsonata").await;
}

#[tokio::test]
async fn jmespath() {
    hold("transforming-with-jmespath").await;
}

#[tokio::test]
async fn json_schema() {
    hold("validating-with-json-schema").await;
}

#[test]
fn fences_are_read_with_their_headings() {
    let page = Page::of(
        "# T\n```json\n1\n```\n## A\n### One\ntext\n```json table=t\n[]\n```\n```js\nx\ny\n```\n```text\nz\n```\n### Two\n",
    );
    let [one] = page.examples.as_slice() else { panic!("{page:?}") };
    assert_eq!((page.headings, one.heading.as_str()), (2, "One"));
    let infos: Vec<_> = one.fences.iter().map(|f| (f.info.as_str(), f.text.as_str())).collect();
    assert_eq!(infos, [("json table=t", "[]\n"), ("js", "x\ny\n"), ("text", "z\n")]);
}
