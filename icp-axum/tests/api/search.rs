#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

use serde_json::{Value, json};

use crate::harness::{Api, orders};

const MANY: &str = "/api/v1/organizations/acme/integrations";

/// `orders`, and five more: `i0` to `i4`, named backwards, every second one switched off.
async fn six() -> Api {
    let api = Api::with_orders().await;
    for n in 0..5 {
        let mut draft = orders();
        draft["id"] = format!("i{n}").into();
        draft["name"] = format!("{}", 9 - n).into();
        draft["labels"] = json!({"team": "b"});
        draft["spec"]["enabled"] = (n % 2 == 0).into();
        draft["spec"]["max_in_flight"] = (n + 1).into();
        api.post(MANY, draft).await.expect(201);
    }
    api
}

async fn ids(api: &Api, query: &str) -> Vec<String> {
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("{MANY}?limit=2&{query}{cursor}")).await.expect(200);
        let items = page["items"].as_array().unwrap();
        seen.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return seen,
        }
    }
}

#[tokio::test]
async fn lists_are_filtered_and_ordered_page_by_page() {
    let api = six().await;
    for (query, wanted) in [
        ("filter=spec.enabled:eq:false", "i1 i3"),
        ("filter=spec.enabled:eq:true&filter=labels.team:eq:b", "i0 i2 i4"),
        ("filter=spec.max_in_flight:gt:2&label=team:b", "i2 i3 i4"),
        ("filter=name:exists:false", "orders"),
        ("filter=name:in:9,7", "i0 i2"),
        ("filter=spec.target.url:contains:/hooks&filter=id:prefix:o", "orders"),
        ("filter=spec.events:eq:order.*&filter=id:lt:i2", "i0 i1"),
        ("filter=created_at:lt:2001-01-01T00:00:00Z", ""),
        ("filter=version:gte:1", "i0 i1 i2 i3 i4 orders"),
        ("sort=-id", "orders i4 i3 i2 i1 i0"),
        ("sort=name", "orders i4 i3 i2 i1 i0"),
        ("sort=-name", "i0 i1 i2 i3 i4 orders"),
        ("sort=created_at", "orders i0 i1 i2 i3 i4"),
        ("sort=-updated_at&filter=spec.enabled:eq:true", "i4 i2 i0 orders"),
    ] {
        assert_eq!(ids(&api, query).await.join(" "), wanted, "{query}");
    }
}

#[tokio::test]
async fn what_cannot_be_filtered_or_ordered_by_is_refused() {
    let api = six().await;
    let many = format!("{}filter=id:eq:a", "filter=id:eq:a&".repeat(10));
    for (query, pointer, says) in [
        ("filter=nmae:eq:a", "/filter", "did you mean `name`?"),
        ("filter=spec.enabeld:eq:true", "/filter", "did you mean `enabled`?"),
        ("filter=id:equals:a", "/filter", "use one of: eq"),
        ("filter=spec.auth.token:prefix:h", "/filter", "secret"),
        ("filter=spec.max_in_flight:gt:many", "/filter", "number"),
        ("filter=id", "/filter", "field:operator:value"),
        (&many, "/filter", "at most 10"),
        ("sort=spec", "/sort", "updated_at"),
        ("sort=id&sort=name", "/sort", "once"),
        ("fields=id,nam", "/fields", "did you mean `name`?"),
    ] {
        let problem = api.get(&format!("{MANY}?{query}")).await.problem(400, "query_invalid");
        assert_eq!(problem["violations"][0]["pointer"], pointer, "{query}");
        assert!(problem.to_string().contains(says), "{query}: {problem}");
    }
    let page = api.get(&format!("{MANY}?limit=2&sort=name")).await.expect(200);
    let other = format!("{MANY}?limit=2&sort=-name&cursor={}", page["next"].as_str().unwrap());
    api.get(&other).await.problem(400, "cursor_invalid");
}

#[tokio::test]
async fn only_the_fields_asked_for_are_shown() {
    let api = six().await;
    let path = format!("{MANY}?fields=name,spec.target.url,spec.auth&filter=id:eq:i0");
    let page = api.get(&path).await;
    assert_eq!(
        page.expect(200)["items"],
        json!([{
            "id": "i0", "name": "9",
            "spec": {
                "target": {"url": "http://127.0.0.1:1/hooks"},
                "auth": {"type": "bearer", "token": icp_core::secret::MASK},
            },
        }])
    );
    let one = api.get(&format!("{MANY}/i0?fields=version")).await;
    assert_eq!(one.expect(200), json!({"id": "i0", "version": 1}));
    assert!(one.headers.contains_key("etag"));
    api.get(&format!("{MANY}/i0?fields=secret")).await.problem(400, "query_invalid");
}

#[tokio::test]
async fn a_page_looks_at_so_many_and_goes_on_where_it_ended() {
    let api = Api::with_orders().await;
    let row = |n: usize| json!({"id": format!("t{n:05}"), "spec": {}});
    for hundred in 0..22 {
        let items: Vec<Value> = (0..100).map(|n| row(hundred * 100 + n)).collect();
        let bulk = json!({"action": "create", "items": items});
        api.post("/api/v1/organizations/acme/bulk/event-types", bulk).await.expect(200);
    }
    let path = "/api/v1/organizations/acme/event-types?filter=id:gte:t02150&limit=10";
    let first = api.get(path).await.expect(200);
    assert_eq!(first["items"], json!([]), "2,000 were looked at, none fits");
    let next = first["next"].as_str().unwrap();
    let second = api.get(&format!("{path}&cursor={next}")).await.expect(200);
    assert_eq!(second["items"][0]["id"], "t02150");
    assert_eq!(second["items"].as_array().unwrap().len(), 10);
}
