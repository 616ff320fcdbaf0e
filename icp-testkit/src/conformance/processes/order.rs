//! Processes claim from the same lanes in order; each delivery is tried twice.

use std::collections::BTreeMap;

use icp_core::delivery::{DeliveryState, Next, Settle, Settled};

use super::claims::is_over;
use super::crew::{Hand, Told};
use crate::conformance::world::breathe;
use crate::conformance::world::{World, at, claim, retry, settlement};

const KEYS: usize = 6;
const EACH: usize = 25;

/// One event for each delivery, so that their order is that of the calls.
pub(super) async fn prepare(world: &World) {
    for _ in 0..EACH {
        let items = (0..KEYS).map(|key| {
            let delivery = world.in_order("acme", "line", &format!("k{key}"));
            world.item(&world.new_event("acme"), vec![delivery])
        });
        world.ingest_items(items.collect(), 0).await;
    }
}

pub(super) async fn act(world: &World, hand: Hand) {
    let session = world.session().await;
    while !is_over(world).await {
        let claimed = world.claim(claim(session, 4, 10)).await.unwrap().deliveries;
        for claimed in &claimed {
            let (lane, id) = (claimed.delivery.lane, claimed.delivery.id);
            hand.say(format_args!("{lane} {id} {} took", claimed.delivery.tries));
        }
        breathe(!claimed.is_empty()).await;
        let mut settlements = Vec::new();
        for claimed in &claimed {
            let (lane, id) = (claimed.delivery.lane, claimed.delivery.id);
            hand.say(format_args!("{lane} {id} {} ends", claimed.delivery.tries));
            let next = if claimed.delivery.tries < 2 { retry(5) } else { Next::Delivered };
            settlements.push(settlement(&claimed.delivery, next));
        }
        let settle = Settle { settlements: settlements.into(), now: at(10) };
        let settled = world.settle(settle).await.unwrap();
        assert_eq!(settled, vec![Settled::Recorded; claimed.len()]);
    }
}

/// In every lane: taken and ended in turns, tried twice, and one after the other by their ids,
/// which count up.
pub(super) async fn check(world: &World, told: &[Told]) {
    let mut lanes: BTreeMap<&str, Vec<[&str; 3]>> = BTreeMap::new();
    for one in told {
        let [lane, id, tries, what] = one.words();
        lanes.entry(lane).or_default().push([id, tries, what]);
    }
    assert_eq!(lanes.len(), KEYS);
    for (lane, said) in lanes {
        let mut ids: Vec<_> = said.iter().map(|[id, ..]| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        let expected: Vec<[&str; 3]> = ids
            .iter()
            .flat_map(|id| {
                [[*id, "1", "took"], [*id, "1", "ends"], [*id, "2", "took"], [*id, "2", "ends"]]
            })
            .collect();
        assert_eq!((ids.len(), said), (EACH, expected), "lane {lane}");
    }
    let all = [(DeliveryState::Delivered, (KEYS * EACH) as u64)];
    assert_eq!(world.counts().await.unwrap(), all);
}
