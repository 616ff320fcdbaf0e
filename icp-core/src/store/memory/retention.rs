use async_trait::async_trait;

use super::{MemoryStore, State};
use crate::delivery::{Delivery, DeliveryState, LaneId};
use crate::error::{Error, Result};
use crate::id::{EventId, OrgId};
use crate::retention::{Cutoffs, Prune, Pruned, RetentionStore, What};
use crate::time::Timestamp;

impl State {
    fn prune_records(&mut self, prune: &Prune, cutoffs: &Cutoffs) -> Result<Pruned> {
        let after = prune.after.as_deref().map(str::parse::<EventId>);
        let after = after.transpose().map_err(|error: Error| error.during("prune"))?;
        let latest = cutoffs.latest();
        let found: Vec<_> = self
            .events
            .ids_after(&prune.org, after)
            .take(prune.limit)
            .filter_map(|id| Some((id, self.events.get(id)?.received_at)))
            .collect();
        let whole = found.len() == prune.limit;
        let old: Vec<_> = found.iter().take_while(|(_, at)| *at < latest).collect();
        let more = whole && old.len() == found.len();
        let mut pruned = Pruned {
            next: old.last().filter(|_| more).map(|(id, _)| id.to_string()),
            ..Pruned::default()
        };
        for (id, received_at) in old {
            if !self.prune_event(*id, *received_at, cutoffs, prune, &mut pruned) {
                // The same events once more, until nothing of theirs is left that has to go.
                let again = || EventId::from_bytes([0; 16]).to_string();
                pruned.next = Some(prune.after.clone().unwrap_or_else(again));
                break;
            }
        }
        Ok(pruned)
    }

    /// Answers whether there was room for all that has to go.
    fn prune_event(
        &mut self,
        id: EventId,
        received_at: Timestamp,
        cutoffs: &Cutoffs,
        prune: &Prune,
        pruned: &mut Pruned,
    ) -> bool {
        let too_old = |row: &&Delivery| match row.state {
            DeliveryState::Ready | DeliveryState::Leased => false,
            DeliveryState::Dead => row.updated_at < cutoffs.dead_letters,
            _ => row.updated_at < cutoffs.deliveries,
        };
        let gone: Vec<_> = self.deliveries.of_event(id).filter(too_old).cloned().collect();
        for row in gone {
            if pruned.deliveries + pruned.dead_letters >= prune.deliveries() as u64 {
                return false;
            }
            let dead = row.state == DeliveryState::Dead;
            pruned.dead_letters += u64::from(dead);
            pruned.deliveries += u64::from(!dead);
            if row.replay_of.is_none() {
                self.events.note_pruned(id);
            }
            self.letters.forget(row.id);
            self.deliveries.remove(&row);
        }
        let needed =
            self.deliveries.of_event(id).next().is_some() || self.events.is_keyed(id, prune.now);
        if received_at < cutoffs.events && !needed {
            self.events.remove(id);
            pruned.events += 1;
        }
        true
    }
}

/// Where a kind is looked through from its beginning each time: whether to do so again.
fn again(removed: usize, limit: usize) -> Option<String> {
    (removed >= limit).then(String::new)
}

#[async_trait]
impl RetentionStore for MemoryStore {
    async fn next_organization(&self, after: Option<&OrgId>) -> Result<Option<OrgId>> {
        let state = self.lock();
        let found = [
            state.events.next_org(after),
            state.resources.next_org(after),
            state.replays.next_org(after),
            state.deliveries.lanes.next_org(after),
            state.rollups.next_org(after),
        ];
        Ok(found.into_iter().flatten().min())
    }

    async fn prune(&self, prune: &Prune) -> Result<Pruned> {
        let state = &mut *self.lock();
        let (org, limit) = (&prune.org, prune.limit);
        let none = Pruned::default();
        Ok(match prune.what {
            What::Records(cutoffs) => state.prune_records(prune, &cutoffs)?,
            What::Keys => {
                let gone = state.events.prune_keys(org, prune.now, limit);
                Pruned { keys: gone as u64, next: again(gone, limit), ..none }
            }
            What::Audit { before } => {
                let gone = state.resources.prune_audit(org, before, limit);
                Pruned { audit: gone as u64, next: again(gone, limit), ..none }
            }
            What::History { before } => {
                let gone = state.resources.prune_history(org, before, limit);
                Pruned { history: gone as u64, next: again(gone, limit), ..none }
            }
            What::Replays { before } => {
                let (replays, looked_at) = state.replays.prune(org, before, limit);
                Pruned { replays, next: again(looked_at, limit), ..none }
            }
            What::Rollups(cutoffs) => {
                let gone = state.rollups.prune(org, &cutoffs, limit);
                Pruned { rollups: gone as u64, next: again(gone, limit), ..none }
            }
            What::Lanes => {
                let after = prune.after.as_deref().map(str::parse::<LaneId>);
                let after = after.transpose().map_err(|error: Error| error.during("prune"))?;
                let (lanes, last) = state.deliveries.prune_lanes(org, after, limit);
                Pruned { lanes, next: last.map(|last| last.to_string()), ..none }
            }
        })
    }
}
