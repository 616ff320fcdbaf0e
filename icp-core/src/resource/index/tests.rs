mod gated;

use std::sync::Arc;

use futures_util::future::join_all;

use self::gated::GatedStore;
use super::*;
use crate::resource::fixture::{NOTE, Node, id};
use crate::store::MemoryStore;

fn two_nodes() -> (Node, Node) {
    let store = MemoryStore::new();
    (Node::new(Arc::new(store.clone()), 8), Node::new(Arc::new(store), 8))
}

fn notes(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(id, text)| ((*id).to_owned(), (*text).to_owned())).collect()
}

async fn catch_up(node: &Node) {
    while node.index.feed_once(2).await.unwrap() > 0 {}
}

/// A read of `org` that has its pages but not yet handed them out.
async fn held_read(
    store: &GatedStore,
    node: &Node,
    org: &OrgId,
) -> tokio::task::JoinHandle<Result<Vec<(String, String)>>> {
    store.shut();
    let (reader, org) = (node.clone(), org.clone());
    #[expect(clippy::disallowed_methods, reason = "a read beside the test's own writes")]
    let read = tokio::spawn(async move { reader.seen(&org).await });
    store.reached().await;
    read
}

#[tokio::test]
async fn an_own_write_is_seen_at_once_and_without_a_read() {
    let store = GatedStore::new();
    let node = Node::new(Arc::new(store.clone()), 8);
    let org = node.organization("acme").await;
    assert_eq!(node.seen(&org).await.unwrap(), notes(&[]));
    store.shut();
    node.note(&org, "a", "one").await;
    assert_eq!(node.seen(&org).await.unwrap(), notes(&[("a", "one")]));
    node.note(&org, "a", "two").await;
    node.note(&org, "b", "broken").await;
    let expected = notes(&[("a", "two"), ("b", "config_invalid")]);
    assert_eq!(node.seen(&org).await.unwrap(), expected);
    node.delete(&org, NOTE, "a").await;
    assert_eq!(node.seen(&org).await.unwrap(), notes(&[("b", "config_invalid")]));
    assert_eq!(store.reads(), 0);
}

#[tokio::test]
async fn a_write_of_another_node_comes_with_the_feed() {
    let (here, there) = two_nodes();
    let org = there.organization("acme").await;
    there.note(&org, "a", "one").await;
    assert_eq!(here.seen(&org).await.unwrap(), notes(&[("a", "one")]));
    there.note(&org, "a", "two").await;
    there.note(&org, "b", "new").await;
    assert_eq!(here.seen(&org).await.unwrap(), notes(&[("a", "one")]));
    catch_up(&here).await;
    assert_eq!(here.seen(&org).await.unwrap(), notes(&[("a", "two"), ("b", "new")]));
    there.delete(&org, NOTE, "a").await;
    catch_up(&here).await;
    assert_eq!(here.seen(&org).await.unwrap(), notes(&[("b", "new")]));
}

#[tokio::test]
async fn a_change_between_the_first_read_and_the_first_feed_is_not_skipped() {
    let (here, there) = two_nodes();
    let org = there.organization("acme").await;
    assert_eq!(here.seen(&org).await.unwrap(), notes(&[]));
    there.note(&org, "a", "early").await;
    catch_up(&here).await;
    assert_eq!(here.seen(&org).await.unwrap(), notes(&[("a", "early")]));
}

#[tokio::test]
async fn a_change_during_a_read_is_not_lost() {
    for fed_before in [false, true] {
        let store = GatedStore::new();
        let here = Node::new(Arc::new(store.clone()), 8);
        let there = Node::new(Arc::new(store.clone()), 8);
        let org = there.organization("acme").await;
        there.note(&org, "gone", "old").await;
        if fed_before {
            catch_up(&here).await;
        }
        let read = held_read(&store, &here, &org).await;
        there.note(&org, "other", "node").await;
        there.delete(&org, NOTE, "gone").await;
        here.note(&org, "own", "write").await;
        catch_up(&here).await;
        store.open();
        let expected = notes(&[("other", "node"), ("own", "write")]);
        assert_eq!(read.await.unwrap().unwrap(), expected, "fed before: {fed_before}");
        assert_eq!(here.seen(&org).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn room_made_during_a_read_loses_no_change() {
    let store = GatedStore::new();
    let node = Node::new(Arc::new(store.clone()), 1);
    let other = node.organization("other").await;
    let org = node.organization("acme").await;
    let read = held_read(&store, &node, &org).await;
    let crowd = held_read(&store, &node, &other).await;
    node.note(&org, "a", "meanwhile").await;
    store.open();
    assert_eq!(read.await.unwrap().unwrap(), notes(&[("a", "meanwhile")]));
    crowd.await.unwrap().unwrap();
    assert_eq!(node.seen(&org).await.unwrap(), notes(&[("a", "meanwhile")]));
}

#[tokio::test]
async fn calls_at_the_same_time_share_one_read() {
    let store = GatedStore::new();
    let node = Node::new(Arc::new(store.clone()), 8);
    let org = node.organization("acme").await;
    store.shut();
    let calls = join_all((0..20).map(|_| node.index.org(&org)));
    let (entries, ()) = tokio::join!(calls, async {
        store.reached().await;
        store.open();
    });
    let kinds = node.resources.kinds().iter().count();
    assert_eq!(store.reads(), kinds);
    let first = entries[0].as_ref().unwrap();
    assert!(entries.iter().all(|entry| Arc::ptr_eq(entry.as_ref().unwrap(), first)));

    store.shut();
    let nobody = OrgId::new("nobody").unwrap();
    let calls = join_all((0..20).map(|_| node.index.org(&nobody)));
    let (answers, ()) = tokio::join!(calls, async {
        store.reached().await;
        store.open();
    });
    assert_eq!(store.reads(), kinds);
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().unwrap_err().code() == Code::OrganizationUnknown)
    );
}

#[tokio::test]
async fn a_dropped_read_leaves_nobody_waiting() {
    let store = GatedStore::new();
    let node = Node::new(Arc::new(store.clone()), 8);
    let org = node.organization("acme").await;
    let read = held_read(&store, &node, &org).await;
    let waiting = node.seen(&org);
    tokio::pin!(waiting);
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    read.abort();
    assert!(read.await.unwrap_err().is_cancelled());
    store.open();
    assert_eq!(waiting.await.unwrap(), notes(&[]));
}

#[tokio::test]
async fn the_least_recently_used_makes_room_and_comes_back_fresh() {
    let store = GatedStore::new();
    let here = Node::new(Arc::new(store.clone()), 2);
    let there = Node::new(Arc::new(store.clone()), 8);
    let (a, b) = (there.organization("a").await, there.organization("b").await);
    let c = there.organization("c").await;
    for org in [&a, &b, &a, &c] {
        here.seen(org).await.unwrap();
    }
    there.note(&b, "n", "while away").await;
    catch_up(&here).await;
    store.shut();
    here.seen(&a).await.unwrap();
    here.seen(&c).await.unwrap();
    assert_eq!(store.reads(), 0);
    store.open();
    assert_eq!(here.seen(&b).await.unwrap(), notes(&[("n", "while away")]));
    assert!(store.reads() > 0);
}

#[tokio::test]
async fn a_deleted_organization_is_unknown_until_it_is_made_again() {
    let (here, there) = two_nodes();
    let org = there.organization("acme").await;
    here.seen(&org).await.unwrap();
    there.seen(&org).await.unwrap();
    there.delete(&org, "organization", "acme").await;
    assert_eq!(there.seen(&org).await.unwrap_err().code(), Code::OrganizationUnknown);
    catch_up(&here).await;
    assert_eq!(here.seen(&org).await.unwrap_err().code(), Code::OrganizationUnknown);

    there.organization("acme").await;
    there.note(&org, "a", "again").await;
    catch_up(&here).await;
    for node in [&here, &there] {
        assert_eq!(node.seen(&org).await.unwrap(), notes(&[("a", "again")]));
    }
}

#[tokio::test]
async fn an_older_version_does_not_undo_a_newer_one() {
    let store = MemoryStore::new();
    let node = Node::new(Arc::new(store.clone()), 8);
    let org = node.organization("acme").await;
    node.seen(&org).await.unwrap();
    node.note(&org, "kept", "one").await;
    node.note(&org, "kept", "two").await;
    node.note(&org, "gone", "one").await;
    node.delete(&org, NOTE, "gone").await;
    let mut changes =
        crate::resource::ResourceStore::changes(&store, Revision::ZERO, 100).await.unwrap();
    changes.reverse();
    for change in &changes {
        node.index.apply(std::slice::from_ref(change));
        assert_eq!(node.seen(&org).await.unwrap(), notes(&[("kept", "two")]));
    }
    catch_up(&node).await;
    assert_eq!(node.seen(&org).await.unwrap(), notes(&[("kept", "two")]));
    node.note(&org, "gone", "back").await;
    assert_eq!(node.seen(&org).await.unwrap(), notes(&[("gone", "back"), ("kept", "two")]));
}

#[tokio::test]
async fn at_least_waits_for_the_feed() {
    let (here, there) = two_nodes();
    let org = there.organization("acme").await;
    here.seen(&org).await.unwrap();
    here.index.feed_once(10).await.unwrap();
    // All of this was there before the feed began, so no change will ever announce it.
    let made = there.resources.get(&org, "organization", &id("acme")).await.unwrap();
    here.index.at_least(made.revision).await;

    let written = there.note(&org, "a", "one").await;
    let waiting = here.index.at_least(written.revision);
    tokio::pin!(waiting);
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    here.index.feed_once(10).await.unwrap();
    waiting.await;
    assert_eq!(here.seen(&org).await.unwrap(), notes(&[("a", "one")]));
}

#[tokio::test]
async fn what_is_derived_is_made_once_for_each_version() {
    let (node, _) = two_nodes();
    let org = node.organization("acme").await;
    let count = |entry: &Arc<OrgEntry>| Ok(entry.resources(NOTE).count());
    let entry = node.index.org(&org).await.unwrap();
    let first = entry.derived(count).unwrap();
    assert!(Arc::ptr_eq(&first, &entry.derived(count).unwrap()));
    let failed = entry.derived::<String>(|_| Err(Error::new(Code::Internal, "once")));
    assert_eq!(failed.unwrap_err().code(), Code::Internal);
    assert_eq!(*entry.derived(|_| Ok("again".to_owned())).unwrap(), "again");
    node.note(&org, "a", "one").await;
    assert_eq!(*node.index.org(&org).await.unwrap().derived(count).unwrap(), 1);
    assert_eq!(*entry.derived(count).unwrap(), 0);
}
