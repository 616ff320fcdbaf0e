//! Requests drawn from the document of the API: whatever is sent, the answer is one that the
//! document names, of the schema that it names, and no defect.
//!
//! `ICP_API_CASES` says how many, `ICP_API_SEED` which ones; both are told where one fails.
#![expect(clippy::panic, clippy::unwrap_used, reason = "what a test needs fails by panicking")]

mod value;

use std::collections::BTreeMap;
use std::fmt::Write;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::harness::{Answer, Api};
use value::Draw;

/// How many requests a run of all tests sends.
const CASES: usize = 800;

/// The failures of the server that are as they should be, by their operation; any other one is a
/// defect. The engine of this test is not started, so its node is not ready.
const EXPECTED: [(&str, u16); 1] = [("ready", 503)];

/// An operation of the document.
struct Operation<'a> {
    method: &'a str,
    template: &'a str,
    about: &'a Value,
}

/// A drawn request.
struct Case {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

fn setting(name: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "how often a test tries is set from outside")]
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("`{name}` is a number")))
}

#[tokio::test]
async fn whatever_is_asked_is_answered_as_the_document_says() {
    let cases = setting("ICP_API_CASES").map_or(CASES, |cases| usize::try_from(cases).unwrap());
    let seed = setting("ICP_API_SEED").unwrap_or(1);
    let mut random = StdRng::seed_from_u64(seed);
    let api = Api::with_orders().await;
    let document = api.document.clone();
    let operations = operations(&document);
    assert!(operations.len() > 150, "only {} operations", operations.len());
    let mut known = Known::of(&api).await;
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    let (mut streams, mut defects) = (0, BTreeMap::new());
    for number in 0..cases {
        if number % 500 == 499 {
            known = Known::of(&api).await;
        }
        let operation = &operations[number % operations.len()];
        let case = draw(operation, &document, &known, &mut random);
        let headers: Vec<(&str, &str)> =
            case.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let shown = format!(
            "case {number} of seed {seed}: {} {} {headers:?}\n{}\n",
            case.method, case.path, case.body
        );
        let answer = match operation.is_stream() {
            true => api.head(&case.path, &headers).await,
            false => api.call(&case.method, &case.path, &headers, &case.body).await,
        };
        if let Some((what, fault)) = judge(operation, &answer) {
            defects.entry(what).or_insert_with(|| format!("{shown}{fault}"));
        }
        streams += usize::from(operation.is_stream() && answer.status.is_success());
        *statuses.entry(answer.status.as_u16()).or_default() += 1;
    }
    let defects: Vec<_> = defects.into_values().collect();
    assert!(defects.is_empty(), "{} defects:\n{}", defects.len(), defects.join("\n\n"));
    let failures: usize = statuses.range(500..).map(|(_, count)| count).sum();
    assert!(failures > 0, "the list of expected failures holds what does not happen");
    let good: usize = statuses.range(200..300).map(|(_, count)| count).sum();
    assert!(good * 8 > cases, "too few are taken to mean something: {statuses:?}");
    assert!(streams > 0, "no stream was opened");
    println!("{cases} cases of seed {seed}: {statuses:?}");
}

/// Beside what every answer is held to by [`Api::call`].
/// Answers a failure of the server that nobody expects, and a name to tell it from others by.
fn judge(operation: &Operation<'_>, answer: &Answer) -> Option<(String, String)> {
    if !answer.status.is_server_error() {
        return None;
    }
    let id = operation.about["operationId"].as_str().unwrap();
    let status = answer.status.as_u16();
    let fault = || (format!("{id} {status}"), format!("{id} answers {status}: {}", answer.text));
    (!EXPECTED.contains(&(id, status))).then(fault)
}

impl Operation<'_> {
    /// Whether its answer does not end by itself.
    fn is_stream(&self) -> bool {
        self.about["responses"]["200"]["content"]["text/event-stream"].is_object()
    }
}

fn operations(document: &Value) -> Vec<Operation<'_>> {
    let paths = document["paths"].as_object().unwrap();
    let all = paths.iter().flat_map(|(template, methods)| {
        let methods = methods.as_object().unwrap().iter();
        methods.map(|(method, about)| Operation { method, template, about })
    });
    all.collect()
}

/// What there is, so that requests find something.
struct Known(BTreeMap<&'static str, Vec<String>>);

impl Known {
    async fn of(api: &Api) -> Self {
        let acme = "/api/v1/organizations/acme";
        if api.get(acme).await.status == 404 {
            api.post("/api/v1/organizations", json!({"id": "acme", "spec": {}})).await.expect(201);
        }
        let mut orders = crate::harness::orders();
        orders["id"] = Value::Null;
        api.post(&format!("{acme}/integrations"), orders).await;
        let event = json!({"type": "order.paid", "data": {"n": 1}});
        api.post(&format!("{acme}/events"), event).await;
        let mut known = BTreeMap::new();
        for plural in [
            "integrations",
            "events",
            "deliveries",
            "api-keys",
            "users",
            "roles",
            "lookups",
            "event-types",
            "event-sources",
            "replays",
            "audit",
            "lanes",
        ] {
            let page = api.get(&format!("{acme}/{plural}")).await;
            let page: Value = serde_json::from_str(&page.text).unwrap();
            let items = page["items"].as_array().cloned().unwrap_or_default();
            let ids = items.iter().map(|item| match item.get("id") {
                Some(id) => id.as_str().unwrap_or_default().to_owned(),
                None => item["revision"].to_string(),
            });
            known.insert(plural, ids.collect());
        }
        Self(known)
    }

    /// Something that the last part of `path` may be about.
    fn id(&self, path: &str, random: &mut StdRng) -> Option<String> {
        let plural = path.split('/').nth(5)?;
        self.0.get(plural)?.choose(random).cloned()
    }
}

fn draw(operation: &Operation<'_>, document: &Value, known: &Known, random: &mut StdRng) -> Case {
    let wrong = *[0.0, 0.0, 0.02, 0.15].choose(random).unwrap();
    let mut path = path(operation, document, known, random);
    let mut draw = Draw { document, random, wrong };
    let (mut headers, mut query) = (Vec::new(), Vec::new());
    for parameter in operation.about["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap();
        let likely = if parameter["required"] == true { 0.9 } else { 0.25 };
        if !draw.random.random_bool(likely) {
            continue;
        }
        let text = match draw.value(&parameter["schema"], 0) {
            Value::String(text) => text,
            other => other.to_string(),
        };
        match parameter["in"].as_str() {
            Some("query") => query.push(format!("{name}={}", escaped(&text))),
            Some("header") if text.bytes().all(|byte| (b' '..0x7f).contains(&byte)) => {
                headers.push((name.to_owned(), text));
            }
            _ => {}
        }
    }
    if draw.random.random_bool(wrong) {
        query.push(format!("{}={}", escaped(&draw.text()), escaped(&draw.text())));
    }
    if !query.is_empty() {
        let _ = write!(path, "?{}", query.join("&"));
    }
    let body = body(operation, &mut draw, &mut headers);
    Case { method: operation.method.to_uppercase(), path, headers, body }
}

fn path(operation: &Operation<'_>, document: &Value, known: &Known, random: &mut StdRng) -> String {
    let segments = operation.template.split('/').map(|segment| {
        let Some(name) = segment.strip_prefix('{') else { return segment.to_owned() };
        let made = match name.trim_end_matches('}') {
            _ if random.random_bool(0.08) => None,
            "org" => Some("acme".to_owned()),
            "version" | "number" => Some("1".to_owned()),
            "id" | "revision" => known.id(operation.template, random),
            _ => None,
        };
        let mut draw = Draw { document, random, wrong: 0.0 };
        // An empty segment would be another route.
        made.unwrap_or_else(|| format!("a{}", escaped(&draw.text().replace('/', "_"))))
    });
    segments.collect::<Vec<_>>().join("/")
}

fn body(
    operation: &Operation<'_>,
    draw: &mut Draw<'_>,
    headers: &mut Vec<(String, String)>,
) -> String {
    let Some(content) = operation.about["requestBody"]["content"].as_object() else {
        return String::new();
    };
    let offered: Vec<_> = content.iter().collect();
    let (media, about) = offered.choose(draw.random).unwrap();
    if draw.random.random_bool(0.98) {
        headers.push(("content-type".to_owned(), (*media).clone()));
    }
    let value = draw.value(&about["schema"], 0);
    match draw.random.random_range(0..40) {
        0 => String::new(),
        1 => draw.text(),
        2 => value.to_string().split_at(1).1.to_owned(),
        _ => value.to_string(),
    }
}

fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => {
                escaped.push(char::from(byte));
            }
            _ => _ = write!(escaped, "%{byte:02X}"),
        }
        escaped
    })
}
