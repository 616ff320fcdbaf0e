//! `docs/observability.md` and the dashboard tell of what there is, and of nothing else.
#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use icp::Engine;
use icp::store::MemoryStore;
use icp::telemetry::{MetricFamily, MetricKind, catalogue};

const PAGE: &str = "docs/observability.md";
const DASHBOARD: &str = "examples/server/grafana/icp.json";

/// What stands between the marks of a section.
fn section(name: &str) -> String {
    let page = read(PAGE);
    let after = page.split_once(&format!("<!-- {name} -->\n")).unwrap().1;
    after.split_once(&format!("<!-- /{name} -->")).unwrap().0.to_owned()
}

/// The words in backquotes in one column of a table.
fn column(section: &str, column: usize) -> BTreeSet<String> {
    let rows = section.lines().skip(2);
    rows.flat_map(|row| {
        let cell = row.split('|').nth(column + 1).unwrap_or_default();
        let words = cell.split('`').skip(1).step_by(2);
        words.map(str::to_owned).collect::<Vec<_>>()
    })
    .collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn table(families: &[MetricFamily]) -> String {
    let mut text = String::from("| Metric | Kind | Labels | Tells |\n|---|---|---|---|\n");
    for MetricFamily { name, kind, labels, help, .. } in families {
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            _ => "histogram",
        };
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        text.push_str(&format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", ")));
    }
    text
}

#[test]
fn every_metric_is_in_the_catalogue_as_it_is() {
    let expected = table(&catalogue());
    if std::env::var_os("ICP_BLESS").is_some_and(|value| value == "1") {
        let page = read(PAGE);
        let (before, rest) = page.split_once("<!-- metrics -->\n").unwrap();
        let after = rest.split_once("<!-- /metrics -->").unwrap().1;
        let page = format!("{before}<!-- metrics -->\n{expected}<!-- /metrics -->{after}");
        return std::fs::write(root().join(PAGE), page).unwrap();
    }
    let found = section("metrics");
    assert!(
        found == expected,
        "{PAGE} is not what the code says; run `ICP_BLESS=1 cargo test -p icp --test \
         observability` and commit the page\n{expected}"
    );
}

#[tokio::test]
async fn every_duty_is_named_with_its_state() {
    let engine = Engine::builder(MemoryStore::new()).build().unwrap();
    let before = engine.health().await;
    assert!(!before.ready && before.duties.is_empty());
    let running = engine.start().await.unwrap();
    let duties = loop {
        let health = engine.health().await;
        if health.ready && health.duties.len() == column(&section("duties"), 0).len() {
            break health.duties;
        }
        assert!(health.duties.len() <= column(&section("duties"), 0).len(), "{health:?}");
        tokio::task::yield_now().await;
    };
    let names: BTreeSet<_> = duties.into_keys().collect();
    assert_eq!(names, column(&section("duties"), 0));
    running.shutdown(Duration::ZERO).await;
    assert!(!engine.health().await.ready);
}

/// The text of every source file of the libraries and the server.
fn sources() -> Vec<String> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().path().join("src"))
        .chain([root().join("examples/server/src")])
        .filter(|path| path.is_dir() && !path.starts_with(root().join("fuzz")))
        .collect();
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                texts.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    assert!(texts.len() > 200, "only {} files were found", texts.len());
    texts
}

#[test]
fn every_field_and_span_is_in_the_catalogue() {
    let (mut fields, mut spans) = (BTreeSet::new(), BTreeSet::new());
    for text in sources() {
        let words = text.split(|c: char| !c.is_ascii_lowercase() && !"._".contains(c));
        let mut rest = text.as_str();
        for word in words {
            rest = &rest[rest.find(word).unwrap() + word.len()..];
            let is_field = word.starts_with("icp.") && rest.starts_with(" = ");
            if is_field {
                fields.insert(word.to_owned());
            }
        }
        for part in text.split("_span!(").skip(1) {
            let name = part.trim_start().strip_prefix('"').and_then(|name| name.split('"').next());
            spans.extend(name.map(str::to_owned));
        }
    }
    assert_eq!(fields, column(&section("fields"), 0));
    assert_eq!(spans, column(&section("spans"), 0));
    let of_spans = column(&section("spans"), 2);
    let ours: BTreeSet<_> = of_spans.into_iter().filter(|name| name.starts_with("icp.")).collect();
    assert!(ours.is_subset(&fields), "{ours:?}");
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let dashboard: serde_json::Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let series: BTreeSet<String> = catalogue().iter().flat_map(MetricFamily::series).collect();
    let labels: BTreeSet<&str> =
        catalogue().iter().flat_map(|family| family.labels.iter().copied()).collect();
    let mut asked = BTreeSet::new();
    let panels = dashboard["panels"].as_array().unwrap();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty() && panel["title"].is_string(), "{panel}");
        for target in targets {
            let query = target["expr"].as_str().unwrap();
            let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let metrics: Vec<_> = words.filter(|word| word.starts_with("icp_")).collect();
            assert!(!metrics.is_empty(), "{query}");
            for metric in metrics {
                assert!(series.contains(metric), "{metric} of {query} is not there");
                asked.insert(metric.to_owned());
            }
            for part in query.split("by (").skip(1) {
                for label in part.split(')').next().unwrap().split(", ") {
                    assert!(label == "le" || labels.contains(label), "{label} of {query}");
                }
            }
        }
    }
    for metric in ["icp_lanes_oldest_wait_seconds", "icp_deliveries_ended_total"] {
        assert!(asked.contains(metric), "{metric} is on no panel");
    }
}
