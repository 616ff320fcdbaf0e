//! Which deliveries a replay makes of one event.

use std::collections::BTreeMap;

use super::request::{ReplayMode, ReplayRequest};
use super::store::Standing;
use crate::delivery::DeliveryState;
use crate::id::{DeliveryId, ResourceId};

/// How an event stands with one integration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Stand {
    pub(super) newest: DeliveryId,
    state: DeliveryState,
    open: bool,
    delivered: bool,
}

/// What becomes of an event and an integration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Choice {
    /// It is sent again.
    Send { replay_of: Option<DeliveryId> },
    /// It is wanted, but one is under way.
    UnderWay,
    /// It is not wanted.
    Leave,
}

pub(super) fn stands(deliveries: &[Standing]) -> BTreeMap<&ResourceId, Stand> {
    let mut stands: BTreeMap<&ResourceId, Stand> = BTreeMap::new();
    for Standing { delivery, integration, state } in deliveries {
        let (newest, state) = (*delivery, *state);
        let fresh = Stand { newest, state, open: false, delivered: false };
        let stand = stands.entry(integration).or_insert(fresh);
        if newest > stand.newest {
            (stand.newest, stand.state) = (newest, state);
        }
        stand.open |= !state.is_final();
        stand.delivered |= state == DeliveryState::Delivered;
    }
    stands
}

/// Judges one integration that the mode considers: one with deliveries for
/// [`ReplayMode::Original`], one that matches for the others.
pub(super) fn choose(request: &ReplayRequest, stand: Option<&Stand>) -> Choice {
    let Some(stand) = stand else {
        return match request.mode {
            ReplayMode::Current | ReplayMode::Missing if request.states.is_none() => {
                Choice::Send { replay_of: None }
            }
            _ => Choice::Leave,
        };
    };
    let wanted = match request.mode {
        ReplayMode::Missing => !stand.delivered,
        ReplayMode::Original | ReplayMode::Current => request.takes_state(stand.state),
    };
    match (wanted, stand.open) {
        (false, _) => Choice::Leave,
        (true, true) => Choice::UnderWay,
        (true, false) => Choice::Send { replay_of: Some(stand.newest) },
    }
}

#[cfg(test)]
mod tests {
    use DeliveryState::*;

    use super::*;
    use crate::time::Timestamp;

    fn id(n: u8) -> DeliveryId {
        DeliveryId::from_bytes([n; 16])
    }

    /// The choice for an integration with deliveries in these states, oldest first.
    fn choice(request: &ReplayRequest, states: &[DeliveryState]) -> Choice {
        let integration = ResourceId::new("crm").unwrap();
        let mut deliveries: Vec<_> = (1..)
            .zip(states)
            .map(|(n, state)| Standing {
                delivery: id(n),
                integration: integration.clone(),
                state: *state,
            })
            .collect();
        deliveries.reverse();
        choose(request, stands(&deliveries).get(&integration))
    }

    #[test]
    fn the_newest_delivery_decides() {
        use Choice::{Leave, UnderWay};
        let send = |n| Choice::Send { replay_of: Some(id(n)) };
        let fresh = Choice::Send { replay_of: None };
        let all = || ReplayRequest::since(Timestamp::EPOCH);
        let dead = || all().states([Dead]);
        use ReplayMode::{Current, Missing};
        for (request, states, expected) in [
            (all(), &[][..], Leave),
            (all(), &[Delivered], send(1)),
            (all(), &[Dead, Delivered], send(2)),
            (all(), &[Ready], UnderWay),
            (all(), &[Dead, Leased], UnderWay),
            (dead(), &[Dead], send(1)),
            (dead(), &[Delivered], Leave),
            (dead(), &[Dead, Delivered], Leave),
            (dead(), &[Delivered, Dead], send(2)),
            (dead(), &[Ready], Leave),
            (dead().mode(Current), &[], Leave),
            (dead().mode(Current), &[Dead], send(1)),
            (all().mode(Current), &[], fresh),
            (all().mode(Current), &[Skipped], send(1)),
            (all().mode(Current), &[Leased], UnderWay),
            (all().mode(Missing), &[], fresh),
            (all().mode(Missing), &[Dead], send(1)),
            (all().mode(Missing), &[Dead, Cancelled], send(2)),
            (all().mode(Missing), &[Delivered, Dead], Leave),
            (all().mode(Missing), &[Dead, Ready], UnderWay),
        ] {
            assert_eq!(choice(&request, states), expected, "{:?} {states:?}", request.mode);
        }
    }
}
