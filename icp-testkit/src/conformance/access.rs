use std::sync::Arc;

use icp_core::Code;
use icp_core::access::Holder;
use icp_core::resource::{AuditQuery, Change, Effect, Expect, Revision};

use super::world::{World, change, deletion, org, race, res, write};

fn handled(org: &str, id: &str, handles: &[&str]) -> Change {
    let mut change = change(org, id, Expect::Any);
    let handles = handles.iter().map(|handle| (*handle).to_owned()).collect();
    change.effects = vec![Effect::Handles { handles }];
    change
}

async fn held(world: &World, handle: &str) -> Option<(String, String)> {
    let holder = world.holder(handle).await.unwrap();
    holder.map(|holder| {
        assert_eq!(&*holder.kind, "integration");
        (holder.org.to_string(), holder.id.to_string())
    })
}

async fn put(world: &World, changes: Vec<Change>, secs: u64) -> Option<Code> {
    world.write(write(changes, secs)).await.err().map(|error| error.code())
}

pub(super) async fn a_resource_is_found_by_its_handles(world: World) {
    assert_eq!(world.holder("ada@example.org").await.unwrap(), None);
    let handles = ["ada@example.org", "Ä", "ada@example.org"];
    assert_eq!(put(&world, vec![handled("acme", "ada", &handles)], 1).await, None);
    let holder = Holder { org: org("acme"), kind: "integration".into(), id: res("ada") };
    assert_eq!(world.holder("ada@example.org").await.unwrap(), Some(holder.clone()));
    assert_eq!(world.holder("Ä").await.unwrap(), Some(holder));
    for other in ["ADA@example.org", "ada@example.org ", "ä", "A", "ada"] {
        assert_eq!(world.holder(other).await.unwrap(), None, "{other}");
    }
    let long = "x".repeat(320);
    assert_eq!(put(&world, vec![handled("beta", "bob", &[&long])], 2).await, None);
    assert_eq!(held(&world, &long).await, Some(("beta".into(), "bob".into())));
}

pub(super) async fn handles_are_replaced_kept_and_let_go_of(world: World) {
    let ada = Some(("acme".to_owned(), "ada".to_owned()));
    assert_eq!(put(&world, vec![handled("acme", "ada", &["a", "b"])], 1).await, None);
    assert_eq!(put(&world, vec![handled("acme", "ada", &["b", "c"])], 2).await, None);
    assert_eq!(held(&world, "a").await, None);
    assert_eq!((held(&world, "b").await, held(&world, "c").await), (ada.clone(), ada.clone()));
    let plain = change("acme", "ada", Expect::Present);
    assert_eq!(put(&world, vec![plain], 3).await, None);
    assert_eq!(held(&world, "b").await, ada);
    assert_eq!(put(&world, vec![deletion("acme", "ada", Expect::Present)], 4).await, None);
    assert_eq!((held(&world, "b").await, held(&world, "c").await), (None, None));
    assert_eq!(put(&world, vec![handled("beta", "bob", &["b"])], 5).await, None);
    assert_eq!(put(&world, vec![change("acme", "ada", Expect::Absent)], 6).await, None);
    assert_eq!(held(&world, "b").await, Some(("beta".into(), "bob".into())));
    assert_eq!(put(&world, vec![handled("beta", "bob", &[])], 7).await, None);
    assert_eq!(held(&world, "b").await, None);
}

pub(super) async fn a_taken_handle_refuses_the_whole_write(world: World) {
    assert_eq!(put(&world, vec![handled("acme", "ada", &["a"])], 1).await, None);
    let head = world.head().await.unwrap();
    for org in ["acme", "beta"] {
        let changes = vec![change("acme", "else", Expect::Any), handled(org, "bob", &["b", "a"])];
        assert_eq!(put(&world, changes, 2).await, Some(Code::HandleTaken));
    }
    assert_eq!(Code::HandleTaken.kind(), icp_core::error::ErrorKind::Conflict);
    assert_eq!(world.head().await.unwrap(), head);
    assert_eq!(world.changes(head, 9).await.unwrap(), []);
    assert_eq!(held(&world, "b").await, None);
    assert_eq!(held(&world, "a").await, Some(("acme".into(), "ada".into())));
    let log = world.audit_log(&org("acme"), &AuditQuery::default()).await.unwrap();
    assert_eq!(log.items.len(), 1);
    let own = vec![handled("acme", "x", &["x"]), handled("acme", "y", &["x"])];
    assert_eq!(put(&world, own, 3).await, Some(Code::HandleTaken));
    assert_eq!(held(&world, "x").await, None);
}

pub(super) async fn a_write_hands_a_handle_on(world: World) {
    assert_eq!(put(&world, vec![handled("acme", "ada", &["a"])], 1).await, None);
    let moved = vec![handled("acme", "ada", &["b"]), handled("beta", "bob", &["a"])];
    assert_eq!(put(&world, moved, 2).await, None);
    assert_eq!(held(&world, "a").await, Some(("beta".into(), "bob".into())));
    let early = vec![handled("acme", "ada", &["a"]), handled("beta", "bob", &[])];
    assert_eq!(put(&world, early, 3).await, Some(Code::HandleTaken));
    let gone = vec![deletion("beta", "bob", Expect::Present), handled("acme", "ada", &["a", "b"])];
    assert_eq!(put(&world, gone, 4).await, None);
    assert_eq!(held(&world, "a").await, Some(("acme".into(), "ada".into())));
}

pub(super) async fn a_handle_has_one_of_racing_holders(world: World) {
    let store = world.store();
    let outcomes = race((0..8).map(|n| {
        let store = Arc::clone(&store);
        let change = handled(&format!("org-{n}"), "ada", &["a"]);
        async move { store.write(write(vec![change], 1)).await.map_err(|error| error.code()) }
    }))
    .await;
    let won: Vec<_> = outcomes.iter().flatten().collect();
    assert_eq!(won.len(), 1);
    assert!(
        outcomes.iter().filter_map(|lost| lost.as_ref().err()).all(|c| *c == Code::HandleTaken)
    );
    assert_eq!(held(&world, "a").await, Some((won[0][0].org.to_string(), "ada".into())));
    assert_eq!(world.changes(Revision::ZERO, 9).await.unwrap().len(), 1);
}
