use std::sync::Arc;

use icp_core::delivery::DeliveryState;
use icp_core::event::{EventQuery, Ingested};
use icp_core::id::OrgId;
use icp_core::store::PageQuery;

use super::world::{World, at, org, race};

const ACCEPTED: Ingested = Ingested::Accepted { leased: Vec::new() };

pub(super) async fn is_read_back_whole(world: World) {
    let mut event = world.keyed("acme", "order-17");
    event.unit = Some(super::world::res("branch-2"));
    event.ordering_key = Some("order".into());
    event.due_at = Some(at(30));
    event.expires_at = Some(at(90));
    let item = world.item(&event, vec![world.to("acme", "hook")]);
    assert_eq!(world.ingest_items(vec![item], 0).await, [ACCEPTED]);
    assert_eq!(world.event(&org("acme"), event.id).await.unwrap(), Some(event));
}

pub(super) async fn bodies_round_trip_byte_for_byte(world: World) {
    let large: Vec<u8> = (0..256 * 1024).map(|n: u32| n.to_le_bytes()[0] ^ 0x5a).collect();
    let bodies = [Vec::new(), vec![0, 255, 13, 10, 0], "\"žluťoučký 🦀\"".into(), large];
    for body in bodies {
        let mut event = world.new_event("acme");
        event.content_type = "application/octet-stream; name=ü".into();
        event.body = body.into();
        world.ingest_items(vec![world.item(&event, vec![])], 0).await;
        let read = world.event(&org("acme"), event.id).await.unwrap().unwrap();
        assert_eq!(read, event);
    }
}

pub(super) async fn timestamps_keep_their_milliseconds(world: World) {
    let mut event = world.new_event("acme");
    event.received_at = "2031-02-03T04:05:06.789Z".parse().unwrap();
    event.due_at = Some("9999-12-31T23:59:59.999Z".parse().unwrap());
    world.ingest_items(vec![world.item(&event, vec![])], 0).await;
    assert_eq!(world.event(&org("acme"), event.id).await.unwrap(), Some(event));
}

pub(super) async fn belongs_to_its_organization(world: World) {
    let event = world.new_event("acme");
    world.ingest_items(vec![world.item(&event, vec![])], 0).await;
    assert_eq!(world.event(&org("beta"), event.id).await.unwrap(), None);
    let page = world.events(&org("beta"), &EventQuery::default()).await.unwrap();
    assert_eq!((page.items, page.more), (vec![], false));
}

pub(super) async fn fans_out_to_every_delivery(world: World) {
    let event = world.new_event("acme");
    let news = vec![world.to("acme", "a"), world.to("acme", "b"), world.to("acme", "c")];
    world.ingest_items(vec![world.item(&event, news)], 0).await;
    let page = world.events(&org("acme"), &EventQuery::default()).await.unwrap();
    assert_eq!((page.items[0].fan_out, page.items[0].body_size), (3, 12));
    assert_eq!(world.counts().await.unwrap(), [(DeliveryState::Ready, 3)]);
    assert_eq!(world.lanes(&org("acme")).await.unwrap().len(), 3);
    world.assert_clean().await;
}

pub(super) async fn without_deliveries_is_kept(world: World) {
    let event = world.new_event("acme");
    assert_eq!(world.ingest_items(vec![world.item(&event, vec![])], 0).await, [ACCEPTED]);
    let page = world.events(&org("acme"), &EventQuery::default()).await.unwrap();
    assert_eq!(page.items[0].fan_out, 0);
    world.assert_clean().await;
}

pub(super) async fn taken_in_twice_is_written_once(world: World) {
    let item = world.item(&world.new_event("acme"), vec![world.to("acme", "hook")]);
    world.ingest_items(vec![item.clone()], 0).await;
    let again = world.ingest_items(vec![item.clone()], 1).await;
    assert_eq!(again, [Ingested::Duplicate { of: item.event.id }]);
    assert_eq!(world.counts().await.unwrap(), [(DeliveryState::Ready, 1)]);
    world.assert_clean().await;
}

pub(super) async fn same_key_and_body_is_a_duplicate(world: World) {
    let first = world.keyed("acme", "k");
    world.ingest_items(vec![world.item(&first, vec![])], 0).await;
    let second = world.keyed("acme", "k");
    let done = world.ingest_items(vec![world.item(&second, vec![])], 1).await;
    assert_eq!(done, [Ingested::Duplicate { of: first.id }]);
    assert_eq!(world.event(&org("acme"), second.id).await.unwrap(), None);
}

pub(super) async fn same_key_and_another_body_is_a_conflict(world: World) {
    let first = world.keyed("acme", "k");
    world.ingest_items(vec![world.item(&first, vec![])], 0).await;
    let second = world.keyed("acme", "k");
    let mut item = world.item(&second, vec![world.to("acme", "hook")]);
    item.body_hash = [8; 32];
    let done = world.ingest_items(vec![item], 1).await;
    assert_eq!(done, [Ingested::Conflict { with: first.id }]);
    assert_eq!(world.event(&org("acme"), second.id).await.unwrap(), None);
    assert_eq!(world.lanes(&org("acme")).await.unwrap(), []);
}

pub(super) async fn keys_hold_within_a_batch(world: World) {
    let (one, two, three) =
        (world.keyed("acme", "k"), world.keyed("acme", "k"), world.keyed("acme", "k"));
    let mut other = world.item(&three, vec![]);
    other.body_hash = [8; 32];
    let items = vec![world.item(&one, vec![]), world.item(&two, vec![]), other];
    let done = world.ingest_items(items, 0).await;
    let of = one.id;
    assert_eq!(done, [ACCEPTED, Ingested::Duplicate { of }, Ingested::Conflict { with: of }]);
}

pub(super) async fn keys_of_organizations_are_apart(world: World) {
    let items = ["acme", "beta"].map(|org| world.item(&world.keyed(org, "k"), vec![])).to_vec();
    assert_eq!(world.ingest_items(items, 0).await, [ACCEPTED, ACCEPTED]);
}

pub(super) async fn a_key_whose_time_is_over_is_replaced(world: World) {
    let (one, two, three) =
        (world.keyed("acme", "k"), world.keyed("acme", "k"), world.keyed("acme", "k"));
    world.ingest_items(vec![world.item(&one, vec![])], 0).await;
    let late = world.ingest_items(vec![world.item(&two, vec![])], 3601).await;
    assert_eq!(late, [ACCEPTED]);
    let done = world.ingest_items(vec![world.item(&three, vec![])], 3602).await;
    assert_eq!(done, [Ingested::Duplicate { of: two.id }]);
}

pub(super) async fn concurrent_publishers_of_one_key_make_one(world: World) {
    let world = Arc::new(world);
    let done = race((0..50).map(|_| {
        let world = Arc::clone(&world);
        async move {
            let event = world.keyed("acme", "k");
            let item = world.item(&event, vec![world.to("acme", "hook")]);
            world.ingest_items(vec![item], 0).await.remove(0)
        }
    }))
    .await;
    assert_eq!(done.iter().filter(|done| **done == ACCEPTED).count(), 1);
    let page = world.events(&org("acme"), &EventQuery::default()).await.unwrap();
    let of = page.items[0].id;
    assert_eq!(page.items.len(), 1);
    assert!(done.iter().all(|d| *d == ACCEPTED || *d == Ingested::Duplicate { of }));
    world.assert_clean().await;
}

pub(super) async fn lists_are_newest_first_and_paged(world: World) {
    let mut made = Vec::new();
    for _ in 0..5 {
        let event = world.new_event("acme");
        world.ingest_items(vec![world.item(&event, vec![])], 0).await;
        made.insert(0, event.id);
    }
    let mut query =
        EventQuery { page: PageQuery { after: None, limit: 3 }, ..EventQuery::default() };
    let first = world.events(&org("acme"), &query).await.unwrap();
    assert_eq!((first.items.len(), first.more), (3, true));
    query.page.after = Some(first.items[2].id);
    let second = world.events(&org("acme"), &query).await.unwrap();
    assert_eq!((second.items.len(), second.more), (2, false));
    let seen: Vec<_> = first.items.iter().chain(&second.items).map(|item| item.id).collect();
    assert_eq!(seen, made);
}

pub(super) async fn lists_filter_by_type_and_time(world: World) {
    let mut made = Vec::new();
    for (secs, kind) in [(10, "order.paid"), (20, "order.sent"), (30, "order.paid")] {
        let mut event = world.new_event("acme");
        event.event_type = kind.parse().unwrap();
        event.received_at = at(secs);
        world.ingest_items(vec![world.item(&event, vec![])], 0).await;
        made.push(event.id);
    }
    let list = async |query: EventQuery| {
        let page = world.events(&org("acme"), &query).await.unwrap();
        page.items.into_iter().map(|item| item.id).collect::<Vec<_>>()
    };
    let paid = EventQuery { event_type: Some("order.paid".parse().unwrap()), ..Default::default() };
    assert_eq!(list(paid).await, [made[2], made[0]]);
    let span = EventQuery { since: Some(at(20)), until: Some(at(30)), ..Default::default() };
    assert_eq!(list(span).await, [made[1]]);
}

pub(super) async fn lists_filter_by_idempotency_key(world: World) {
    let mut made = Vec::new();
    // Another event takes a key once its time is over.
    for (own, key, secs) in
        [("acme", "k", 0), ("acme", "k ", 0), ("beta", "k", 0), ("acme", "k", 7_200)]
    {
        let event = world.keyed(own, key);
        let answers = world.ingest_items(vec![world.item(&event, vec![])], secs).await;
        assert_eq!(answers, [ACCEPTED]);
        made.push(event.id);
    }
    world.ingest_items(vec![world.item(&world.new_event("acme"), vec![])], 0).await;
    let list = async |own: &str, key: &str, after| {
        let page = PageQuery { after, limit: 1 };
        let query =
            EventQuery { idempotency_key: Some(key.to_owned()), page, ..Default::default() };
        let page = world.events(&org(own), &query).await.unwrap();
        (page.items.into_iter().map(|item| item.id).collect::<Vec<_>>(), page.more)
    };
    assert_eq!(list("acme", "k", None).await, (vec![made[3]], true));
    assert_eq!(list("acme", "k", Some(made[3])).await, (vec![made[0]], false));
    assert_eq!(list("acme", "k ", None).await, (vec![made[1]], false));
    assert_eq!(list("beta", "k", None).await, (vec![made[2]], false));
    assert_eq!(list("beta", "k ", None).await, (vec![], false));
}

pub(super) async fn outbox_rows_are_oldest_first_until_taken_in(world: World) {
    let events = [world.new_event("acme"), world.new_event("beta"), world.new_event("acme")];
    for event in &events {
        world.put_outbox(event).await;
    }
    let two = world.outbox(&[], 2).await.unwrap();
    assert_eq!(two.iter().map(|row| &row.event).collect::<Vec<_>>(), [&events[0], &events[1]]);
    let behind = async |without: &[OrgId]| {
        let rows = world.outbox(without, 9).await.unwrap();
        rows.into_iter().map(|row| row.event.id).collect::<Vec<_>>()
    };
    assert_eq!(behind(&[org("acme")]).await, [events[1].id]);
    assert_eq!(behind(&[org("beta"), org("none")]).await, [events[0].id, events[2].id]);
    assert_eq!(behind(&[org("acme"), org("beta")]).await, []);
    let mut item = world.item(&events[0], vec![world.to("acme", "hook")]);
    item.outbox = Some(events[0].id);
    assert_eq!(world.ingest_items(vec![item], 1).await, [ACCEPTED]);
    assert_eq!(world.outbox(&[], 9).await.unwrap().len(), 2);
}

pub(super) async fn an_outbox_row_is_relayed_once(world: World) {
    let event = world.new_event("acme");
    world.put_outbox(&event).await;
    let world = Arc::new(world);
    let done = race((0..8).map(|_| {
        let (world, event) = (Arc::clone(&world), event.clone());
        async move {
            let mut item = world.item(&event, vec![world.to("acme", "hook")]);
            item.outbox = Some(event.id);
            world.ingest_items(vec![item], 1).await.remove(0)
        }
    }))
    .await;
    assert_eq!(done.iter().filter(|done| **done == ACCEPTED).count(), 1);
    assert_eq!(done.iter().filter(|done| **done == Ingested::Gone).count(), 7);
    assert_eq!(world.counts().await.unwrap(), [(DeliveryState::Ready, 1)]);
}

pub(super) async fn an_outbox_row_that_is_gone_writes_nothing(world: World) {
    let event = world.new_event("acme");
    let mut item = world.item(&event, vec![world.to("acme", "hook")]);
    item.outbox = Some(event.id);
    assert_eq!(world.ingest_items(vec![item], 1).await, [Ingested::Gone]);
    assert_eq!(world.event(&org("acme"), event.id).await.unwrap(), None);
}

pub(super) async fn an_outbox_duplicate_goes_and_a_conflict_stays(world: World) {
    world.ingest_items(vec![world.item(&world.keyed("acme", "k"), vec![])], 0).await;
    let (same, other) = (world.keyed("acme", "k"), world.keyed("acme", "k"));
    world.put_outbox(&same).await;
    world.put_outbox(&other).await;
    let mut items = vec![world.item(&same, vec![]), world.item(&other, vec![])];
    items[0].outbox = Some(same.id);
    items[1].outbox = Some(other.id);
    items[1].body_hash = [8; 32];
    world.ingest_items(items, 1).await;
    let left = world.outbox(&[], 9).await.unwrap();
    assert_eq!(left.iter().map(|row| row.event.id).collect::<Vec<_>>(), [other.id]);
}

pub(super) async fn handed_over_deliveries_are_leased(world: World) {
    let session = world.session().await;
    let new = world.to("acme", "hook");
    let id = new.id;
    assert_eq!(world.hand_over(session, 5, vec![new]).await, [id]);
    let row = world.delivery(&org("acme"), id).await.unwrap().unwrap();
    assert_eq!((row.state, row.epoch, row.tries), (DeliveryState::Leased, 1, 1));
    assert_eq!((row.owner, row.lease_until), (Some(session), Some(at(60))));
    let lane = &world.lanes(&org("acme")).await.unwrap()[0];
    assert_eq!(lane.in_flight, 1);
    assert!(lane.pass > 0, "a hand-over is charged as a claim");
    assert_eq!(world.take(session, 5).await.len(), 0);
    world.assert_clean().await;
}

pub(super) async fn hand_over_keeps_to_the_budget_and_the_room(world: World) {
    let session = world.session().await;
    let news = (0..3).map(|n| world.to("acme", &format!("a{n}"))).collect();
    assert_eq!(world.hand_over(session, 2, news).await.len(), 2);
    let mut narrow = vec![world.to("acme", "b"), world.to("acme", "b")];
    narrow.iter_mut().for_each(|new| new.lane.max_in_flight = 1);
    assert_eq!(world.hand_over(session, 9, narrow).await.len(), 1);
    world.assert_clean().await;
}

pub(super) async fn hand_over_passes_nobody_by(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 1).await;
    let mut later = world.to("acme", "later");
    later.due_at = at(10);
    let news = vec![world.to("acme", "hook"), later, world.in_order("acme", "f", "k")];
    assert_eq!(world.hand_over(session, 9, news).await, []);
    assert_eq!(world.take_at(session, 9, 10).await.len(), 4);
}

pub(super) async fn hand_over_respects_a_pause(world: World) {
    let session = world.session().await;
    world.fill("acme", "hook", 1).await;
    world.take_one(session).await;
    world.pause(true, 10, 0).await;
    assert_eq!(world.hand_over(session, 9, vec![world.to("acme", "hook")]).await, []);
    world.assert_clean().await;
}

pub(super) async fn hand_over_needs_a_known_session(world: World) {
    let unknown = world.session_id();
    assert_eq!(world.hand_over(unknown, 9, vec![world.to("acme", "hook")]).await, []);
    world.assert_clean().await;
}
