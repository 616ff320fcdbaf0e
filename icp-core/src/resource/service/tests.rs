use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;

use super::writing::forget_troubles;
use super::*;
use crate::notice::FAILING;
use crate::resource::ResourceStore;
use crate::resource::fixture::{NOTE, Node, id};
use crate::secret::MASK;
use crate::store::MemoryStore;

const CANARY: &str = "hunter2-canary";

async fn acme() -> (MemoryStore, Node, OrgId) {
    let store = MemoryStore::new();
    let node = Node::new(Arc::new(store.clone()), 8);
    let org = node.organization("acme").await;
    (store, node, org)
}

fn draft(spec: Value) -> Draft {
    Draft { spec, ..Draft::default() }
}

fn found(error: &Error) -> Vec<(&str, &str)> {
    error.list().iter().map(|v| (v.pointer.as_str(), v.code.as_str())).collect()
}

#[tokio::test]
async fn an_organization_holds_its_own_document_only() {
    let (_, node, org) = acme().await;
    let host = Actor::host();
    let own = node.resources.get(&org, ORGANIZATION, &id("acme")).await.unwrap();
    assert_eq!((own.id.as_str(), own.version), ("acme", 1));
    let again = node.resources.create(&org, ORGANIZATION, draft(json!({})), &host).await;
    assert_eq!(again.unwrap_err().code(), Code::ResourceExists);
    let other = Draft { id: Some(id("other")), ..draft(json!({})) };
    let error = node.resources.create(&org, ORGANIZATION, other, &host).await.unwrap_err();
    assert_eq!(found(&error), [("/id", "organization_id")]);
    let nobody = OrgId::new("nobody").unwrap();
    let error = node.resources.create(&nobody, NOTE, draft(json!({ "text": "x" })), &host).await;
    assert_eq!(error.unwrap_err().code(), Code::OrganizationUnknown);
    let error = node.resources.get(&org, "nonsense", &id("x")).await.unwrap_err();
    assert_eq!(error.code(), Code::KindUnknown);
    assert!(error.message().contains("integration, note, organization"), "{error}");
}

#[tokio::test]
async fn an_organization_goes_last() {
    let (_, node, org) = acme().await;
    node.note(&org, "a", "one").await;
    let host = Actor::host();
    let own = id("acme");
    let delete = || node.resources.delete(&org, ORGANIZATION, &own, Expect::Present, &host);
    let error = delete().await.unwrap_err();
    assert_eq!(error.code(), Code::OrganizationNotEmpty);
    assert!(error.message().contains("note `a`; delete its notes first"), "{error}");
    node.delete(&org, NOTE, "a").await;
    delete().await.unwrap();
    assert_eq!(delete().await.unwrap_err().code(), Code::ResourceNotFound);
}

#[tokio::test]
async fn one_of_many_creations_at_once_wins() {
    let (_, node, org) = acme().await;
    let host = Actor::host();
    let create = |n: usize| {
        let draft = Draft { id: Some(id("same")), ..draft(json!({ "text": n.to_string() })) };
        node.resources.create(&org, NOTE, draft, &host)
    };
    let answers = join_all((0..16).map(create)).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    let lost = answers.iter().filter_map(|answer| answer.as_ref().err());
    assert!(lost.into_iter().all(|error| error.code() == Code::ResourceExists));
    assert_eq!(node.resources.get(&org, NOTE, &id("same")).await.unwrap().version, 1);
}

#[tokio::test]
async fn metadata_and_spec_are_refused_together() {
    let (_, node, org) = acme().await;
    let labels = [("x".repeat(65), String::new()), ("a/b".to_owned(), "v".repeat(257))];
    let bad = Draft {
        id: None,
        name: Some("n".repeat(129)),
        labels: labels.into(),
        spec: json!({ "text": "", "txt": CANARY }),
    };
    let error = node.resources.create(&org, NOTE, bad, &Actor::host()).await.unwrap_err();
    let mut codes = found(&error);
    codes.sort_unstable();
    let long = format!("/labels/{}", "x".repeat(65));
    assert_eq!(
        codes,
        [
            ("/labels/a~1b", "label_size"),
            (long.as_str(), "label_size"),
            ("/name", "max_length"),
            ("/spec/text", "empty"),
            ("/spec/txt", "unknown_field"),
        ]
    );
    assert!(!format!("{error:?}").contains(CANARY));
}

#[tokio::test]
async fn a_patch_is_read_as_strictly_as_a_document() {
    let (_, node, org) = acme().await;
    node.note(&org, "a", "one").await;
    let a = id("a");
    for (patch, pointer, code) in [
        (json!(CANARY), "", "type"),
        (json!([CANARY]), "", "type"),
        (json!({ "name": [CANARY] }), "/name", "type"),
        (json!({ "labels": { "a/b": { "x": CANARY } } }), "/labels/a~1b", "type"),
        (json!({ "spce": { "text": CANARY } }), "/spce", "unknown_field"),
        (json!({ "spec": null }), "/spec", "required"),
        (json!({ "spec": { "text": null } }), "/spec/text", "required"),
        (json!({ "spec": { "text": { "x": CANARY } } }), "/spec/text", "type"),
        (json!({ "id": "b" }), "/id", "id_fixed"),
    ] {
        let expect = Expect::Present;
        let answer =
            node.resources.merge_patch(&org, NOTE, &a, &patch, expect, &Actor::host()).await;
        let error = answer.unwrap_err();
        assert_eq!(error.code(), Code::ResourceInvalid);
        assert_eq!(found(&error), [(pointer, code)], "{patch}");
        assert!(!format!("{error} {error:?}").contains(CANARY), "{error:?}");
    }
    let patch = json!({ "name": "N", "labels": { "k": "v" }, "spec": { "secret": CANARY } });
    let expect = Expect::Present;
    let patched = node.resources.merge_patch(&org, NOTE, &a, &patch, expect, &Actor::host()).await;
    let patched = patched.unwrap();
    assert_eq!(patched.spec, json!({ "text": "one", "secret": MASK }));
    assert_eq!((patched.name.as_deref(), patched.labels["k"].as_str()), (Some("N"), "v"));
}

#[tokio::test]
async fn a_writer_loses_against_a_change_it_has_not_seen() {
    let (_, node, org) = acme().await;
    let first = node.note(&org, "a", "one").await;
    let second = node.note(&org, "a", "two").await;
    let (a, host) = (id("a"), Actor::host());
    for (expect, code) in [
        (Expect::Revision(first.revision), Some(Code::RevisionConflict)),
        (Expect::Absent, Some(Code::ResourceExists)),
        (Expect::Revision(second.revision), None),
        (Expect::Any, None),
    ] {
        let draft = draft(json!({ "text": "three" }));
        let answer = node.resources.replace(&org, NOTE, &a, draft, expect, &host).await;
        assert_eq!(answer.err().map(|error| error.code()), code, "{expect:?}");
    }
    let stale = Expect::Revision(second.revision);
    let error = node.resources.delete(&org, NOTE, &a, stale, &host).await.unwrap_err();
    assert_eq!(error.code(), Code::RevisionConflict);
    let b = id("b");
    let missing =
        node.resources.replace(&org, NOTE, &b, draft(json!({ "text": "x" })), Expect::Any, &host);
    assert_eq!(missing.await.unwrap_err().code(), Code::ResourceNotFound);
}

#[tokio::test]
async fn history_is_full_whatever_was_deleted_between() {
    let (_, node, org) = acme().await;
    for round in ["one", "two", "three"] {
        node.note(&org, "a", round).await;
        node.delete(&org, NOTE, "a").await;
    }
    let history = |before, limit| {
        let resources = node.resources.clone();
        let org = org.clone();
        async move { resources.history(&org, NOTE, &id("a"), before, limit).await.unwrap() }
    };
    let texts = |page: &[Document]| -> Vec<String> {
        page.iter().map(|v| v.spec["text"].as_str().unwrap().to_owned()).collect()
    };
    let first = history(None, 2).await;
    assert_eq!(texts(&first), ["three", "two"]);
    let rest = history(first.last().map(|v| v.revision), 2).await;
    assert_eq!(texts(&rest), ["one"]);
    assert!(history(rest.last().map(|v| v.revision), 2).await.is_empty());
}

/// An integration as a store may hold it; its kind is not registered with any connector here.
fn stored_integration(org: &OrgId, enabled: bool) -> Change {
    let spec = json!({ "enabled": enabled, "events": ["*"], "target": { "kind": "none" } });
    let record = Record {
        org: org.clone(),
        kind: IntegrationSpec::KIND.into(),
        id: id("hook"),
        name: None,
        labels: BTreeMap::new(),
        spec,
        status: Value::Null,
        revision: Revision::ZERO,
        version: 0,
        created_at: crate::time::Timestamp::EPOCH,
        updated_at: crate::time::Timestamp::EPOCH,
        deleted: false,
    };
    Change { record, expect: Expect::Any, action: "create".into(), effects: Vec::new() }
}

#[tokio::test]
async fn switching_off_twice_writes_once() {
    let (store, node, org) = acme().await;
    let host = Actor::host();
    node.resources.switch_off(&org, &id("hook"), "nobody is there").await.unwrap();
    node.resources.write(stored_integration(&org, true), &host).await.unwrap();
    let off = join_all((0..8).map(|_| async {
        node.resources.switch_off(&org, &id("hook"), "gone").await.unwrap();
    }));
    off.await;
    let hook = node.resources.get(&org, IntegrationSpec::KIND, &id("hook")).await.unwrap();
    assert_eq!((hook.version, &hook.spec["enabled"]), (2, &json!(false)));
    assert_eq!(hook.status["switched_off"]["reason"], "gone");
    let query = AuditQuery { id: Some(id("hook")), ..AuditQuery::default() };
    let rows = node.resources.audit_log(&org, &query).await.unwrap().items;
    assert_eq!((rows[0].action.as_str(), rows[0].actor.name.as_str()), ("switch_off", "engine"));

    let mut record = store.resource(&org, "integration", &id("hook")).await.unwrap().unwrap();
    let off = record.spec.clone();
    set_status(&mut record, FAILING, Some(json!({ "since": "2026-01-01T00:00:00Z" })));
    forget_troubles(&mut record, Some(&off));
    assert!(record.status.get(SWITCHED_OFF).is_some(), "still off");
    record.spec["enabled"] = json!(true);
    let on = record.spec.clone();
    let mut again = record.clone();
    forget_troubles(&mut again, Some(&on));
    assert!(again.status.get(FAILING).is_some(), "a change of something else ends no failure");
    forget_troubles(&mut record, Some(&off));
    assert_eq!(record.status, Value::Null);
}

#[test]
fn nothing_rests_for_what_is_deleted() {
    let lanes = |paused| Effect::Lanes { integration: id("hook"), max_in_flight: 3, paused };
    assert_eq!(lanes(true).of_deletion(), lanes(false));
    assert_eq!(Effect::Weight { weight: 2 }.of_deletion(), Effect::Weight { weight: 2 });
}

#[tokio::test]
async fn a_stored_spec_that_cannot_be_read_can_be_replaced_and_deleted() {
    let (_, node, org) = acme().await;
    let host = Actor::host();
    let mut change = stored_integration(&org, true);
    change.record.kind = NOTE.into();
    for round in ["replace", "delete"] {
        node.resources.write(change.clone(), &host).await.unwrap();
        let error = node.resources.get(&org, NOTE, &id("hook")).await.unwrap_err();
        assert_eq!(error.code(), Code::StoreCorrupt);
        if round == "replace" {
            let masked = draft(json!({ "text": "x", "secret": MASK }));
            let error = node
                .resources
                .replace(&org, NOTE, &id("hook"), masked, Expect::Present, &host)
                .await
                .unwrap_err();
            assert_eq!(found(&error), [("/spec/secret", "secret_masked")]);
            node.note(&org, "hook", "readable").await;
        }
        node.delete(&org, NOTE, "hook").await;
    }
}

#[tokio::test]
async fn organizations_are_listed_page_by_page() {
    let (_, node, _) = acme().await;
    for org in ["zeta", "Beta", "beta.eu"] {
        node.organization(org).await;
    }
    let mut names = Vec::new();
    let mut page = PageQuery { after: None, limit: 3 };
    loop {
        let found = node.resources.organizations(&page).await.unwrap();
        page.after = found.items.last().map(|item| item.org.clone());
        names.extend(found.items.into_iter().map(|item| item.id.to_string()));
        if !found.more {
            break;
        }
    }
    assert_eq!(names, ["Beta", "acme", "beta.eu", "zeta"]);
}
