//! Filters that are not admitted in place, judged by real workers.

use icp_core::Engine;
use icp_core::event::NewEvent;
use icp_core::integration::filter::{Filter, Verdict};
use icp_core::resource::{Actor, Draft};
use icp_core::store::MemoryStore;
use icp_core::trial::{DryRunOn, FilterOf};
use serde_json::json;

use crate::fixture::{org, sandbox};

#[tokio::test]
async fn a_deferred_expression_says_what_it_would_in_place() {
    let engine = Engine::builder(MemoryStore::new()).transformer(sandbox()).build().unwrap();
    let acme = org("acme");
    let organization = Draft { spec: json!({}), ..Draft::default() };
    engine.resources().create(&acme, "organization", organization, &Actor::host()).await.unwrap();
    let body = json!({ "lines": [{ "n": 2 }, { "n": 1 }], "tags": ["a", "b"] });
    for (text, value, matches) in [
        ("sort_by(data.lines, &n)[0].n == `1`", Some(json!(true)), true),
        ("sort_by(data.lines, &n)[5]", Some(json!(null)), false),
        ("map(&n, data.lines)[?@ > `1`]", Some(json!([2])), true),
        ("join('', data.tags)", Some(json!("ab")), true),
        ("let $type = type in $type == 'order.paid'", Some(json!(true)), true),
        ("sort_by(data.tags, &length(@)) && sort(data.lines)", None, false),
    ] {
        let filter: Filter = serde_json::from_value(json!({ "jmespath": text })).unwrap();
        let event = NewEvent::json("acme", "order.paid", &body).unwrap();
        let on = DryRunOn::Given(Box::new(event));
        let report = engine.dry_run_filter(&acme, FilterOf::Draft(filter), on).await.unwrap();
        assert!(report.deferred, "{text}");
        assert_eq!(report.verdict == Verdict::Match, matches, "{text} {report:?}");
        assert_eq!(report.value, value, "{text}");
        assert_eq!(report.fault.is_some(), value.is_none(), "{text}");
    }
}
