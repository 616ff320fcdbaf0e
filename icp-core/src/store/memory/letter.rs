use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::delivery::{Deliveries, FIRST, LAST};
use super::{MemoryStore, State};
use crate::delivery::{AttemptOutcome, Delivery, DeliveryState};
use crate::error::{Code, Error, Result};
use crate::id::{DeliveryId, OrgId, ResourceId};
use crate::letter::{
    Abandon, Abandoned, Abandonment, Category, DueLetter, GroupQuery, Judgement, Letter,
    LetterGroup, LetterGroups, LetterStatus, LetterStore, NewNote, Note, Verdict, carries_on,
    class_of,
};
use crate::time::Timestamp;

/// What is kept of letters beside their deliveries.
#[derive(Debug, Default)]
pub(super) struct Letters {
    marks: BTreeMap<DeliveryId, Mark>,
    due: BTreeSet<(Timestamp, DeliveryId)>,
    notes: BTreeMap<DeliveryId, BTreeSet<Note>>,
}

/// That a letter was judged or given up.
#[derive(Clone, Debug, Default)]
struct Mark {
    retry_at: Option<Timestamp>,
    abandonment: Option<Abandonment>,
}

impl Letters {
    fn mark(&mut self, id: DeliveryId, mark: Mark) {
        if let Some(at) = self.marks.get(&id).and_then(|mark| mark.retry_at) {
            self.due.remove(&(at, id));
        }
        self.due.extend(mark.retry_at.map(|at| (at, id)));
        self.marks.insert(id, mark);
    }

    pub(super) fn is_judged(&self, id: DeliveryId) -> bool {
        self.marks.contains_key(&id)
    }

    /// Forgets what people wrote of a letter, and its next round.
    pub(super) fn silence(&mut self, id: DeliveryId) {
        let mut mark = self.marks.get(&id).cloned().unwrap_or_default();
        mark.retry_at = None;
        if let Some(abandonment) = &mut mark.abandonment {
            abandonment.reason.message.clear();
        }
        self.mark(id, mark);
        self.notes.remove(&id);
    }

    pub(super) fn forget(&mut self, id: DeliveryId) {
        self.mark(id, Mark::default());
        self.marks.remove(&id);
        self.notes.remove(&id);
    }
}

impl Deliveries {
    /// What went wrong last with a delivery.
    fn class(&self, row: &Delivery) -> String {
        let made = self.attempts.range((row.id, 0)..=(row.id, u32::MAX)).next_back();
        let class = made.and_then(|(_, attempt)| match &attempt.outcome {
            AttemptOutcome::Failed(class) => Some(class.as_str()),
            _ => None,
        });
        class_of(row.reason.as_ref(), class)
    }

    fn successors(&self, row: &Delivery) -> impl Iterator<Item = &Delivery> {
        let id = row.id;
        self.of_event(row.event).filter(move |new| new.replay_of == Some(id))
    }

    fn is_carried_on(&self, row: &Delivery) -> bool {
        let of_event = self.of_event(row.event).filter(|new| new.integration == row.integration);
        let after = |new: &&Delivery| new.id > row.id || new.replay_of == Some(row.id);
        of_event.filter(after).any(|new| carries_on(new.state))
    }
}

impl State {
    fn letter(&self, org: &OrgId, id: DeliveryId) -> Option<Letter> {
        let row = self.deliveries.rows.get(&id)?;
        if row.org != *org || row.state != DeliveryState::Dead {
            return None;
        }
        let mark = self.letters.marks.get(&id).cloned().unwrap_or_default();
        let states: Vec<_> = self.deliveries.successors(row).map(|new| new.state).collect();
        let class = self.deliveries.class(row);
        Some(Letter {
            category: Category::of(&class),
            class,
            status: LetterStatus::of(mark.abandonment.is_some(), &states),
            retry_at: mark.retry_at,
            abandonment: mark.abandonment,
            notes: self.letters.notes.get(&id).into_iter().flatten().cloned().collect(),
            successor: self.deliveries.successors(row).last().map(|new| new.id),
            delivery: row.clone(),
        })
    }

    fn groups(&self, org: &OrgId, query: &GroupQuery) -> LetterGroups {
        let mut groups: BTreeMap<(ResourceId, String, String), LetterGroup> = BTreeMap::new();
        let newest = self.deliveries.dead.range((org.clone(), FIRST)..=(org.clone(), LAST)).rev();
        let mut rows = newest
            .filter_map(|(_, id)| self.deliveries.rows.get(id))
            .filter(|row| query.integration.as_ref().is_none_or(|id| *id == row.integration));
        for row in rows.by_ref().take(query.limit) {
            let class = self.deliveries.class(row);
            let code = row.reason.as_ref().map_or("unknown", |reason| &reason.code).to_owned();
            let given_up = self.letters.marks.get(&row.id).is_some_and(|m| m.abandonment.is_some());
            let key = (row.integration.clone(), code.clone(), class.clone());
            let group = groups.entry(key).or_insert_with(|| LetterGroup {
                integration: row.integration.clone(),
                category: Category::of(&class),
                code,
                class,
                count: 0,
                abandoned: 0,
                first_at: row.updated_at,
                last_at: row.updated_at,
                sample: row.id,
            });
            group.count += 1;
            group.abandoned += u64::from(given_up);
            group.first_at = group.first_at.min(row.updated_at);
            group.last_at = group.last_at.max(row.updated_at);
        }
        let more = rows.next().is_some();
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        LetterGroups { groups, more }
    }

    fn abandon(&mut self, id: DeliveryId, abandon: &Abandon) -> Abandoned {
        let row = self.deliveries.rows.get(&id).filter(|row| row.org == abandon.org);
        match row.map(|row| row.state) {
            None => return Abandoned::NotFound,
            Some(DeliveryState::Dead) => {}
            Some(state) => return Abandoned::NotDead(state),
        }
        if self.letters.marks.get(&id).is_some_and(|mark| mark.abandonment.is_some()) {
            return Abandoned::Already;
        }
        let Abandon { actor, reason, now, .. } = abandon.clone();
        let abandonment = Some(Abandonment { at: now, actor, reason });
        self.deliveries.unjudged.remove(&id);
        self.letters.mark(id, Mark { retry_at: None, abandonment });
        Abandoned::Done
    }

    fn due_letters(&self, now: Timestamp, limit: usize) -> Vec<DueLetter> {
        let fresh = self.deliveries.unjudged.iter().map(|id| (*id, None));
        let due = self.letters.due.range(..=(now, LAST)).map(|(at, id)| (*id, Some(*at)));
        fresh
            .chain(due)
            .filter_map(|(id, due_at)| {
                let delivery = self.deliveries.rows.get(&id)?.clone();
                let lane = self.deliveries.lanes.get(&delivery.lane).cloned();
                let carried_on = self.deliveries.is_carried_on(&delivery);
                Some(DueLetter { delivery, lane, due_at, carried_on })
            })
            .take(limit)
            .collect()
    }

    fn judge(&mut self, judgement: &Judgement, now: Timestamp) -> bool {
        let id = judgement.delivery;
        let mark = self.letters.marks.get(&id);
        let as_seen = match judgement.seen {
            None => mark.is_none() && self.deliveries.unjudged.contains(&id),
            Some(at) => mark.is_some_and(|mark| mark.retry_at == Some(at)),
        };
        let Some(row) = self.deliveries.rows.get(&id).filter(|_| as_seen).cloned() else {
            return false;
        };
        let again = matches!(judgement.verdict, Verdict::Retry { .. });
        if again && self.deliveries.is_carried_on(&row) {
            return false;
        }
        self.deliveries.unjudged.remove(&id);
        let mut mark = Mark::default();
        match &judgement.verdict {
            Verdict::Plan { due_at } => mark.retry_at = Some(*due_at),
            Verdict::Leave => {}
            Verdict::Abandon { reason } => {
                let (actor, reason) = ("engine".to_owned(), reason.clone());
                mark.abandonment = Some(Abandonment { at: now, actor, reason });
            }
            Verdict::Retry { id } => self.repeat(row, *id, now),
        }
        self.letters.mark(id, mark);
        true
    }

    fn repeat(&mut self, old: Delivery, id: DeliveryId, now: Timestamp) {
        let lane = old.lane;
        self.deliveries.insert(Delivery {
            id,
            state: DeliveryState::Ready,
            due_at: now,
            epoch: 0,
            tries: 0,
            throttles: 0,
            rescues: 0,
            replay_of: Some(old.id),
            round: old.round + 1,
            reason: None,
            created_at: now,
            updated_at: now,
            ..old
        });
        self.deliveries.refresh(lane, now);
    }
}

#[async_trait]
impl LetterStore for MemoryStore {
    async fn letters(&self, org: &OrgId, ids: &[DeliveryId]) -> Result<Vec<Letter>> {
        let state = self.lock();
        Ok(ids.iter().filter_map(|id| state.letter(org, *id)).collect())
    }

    async fn letter_groups(&self, org: &OrgId, query: &GroupQuery) -> Result<LetterGroups> {
        Ok(self.lock().groups(org, query))
    }

    async fn annotate(&self, note: NewNote) -> Result<()> {
        let state = &mut *self.lock();
        let row = state.deliveries.rows.get(&note.delivery).filter(|row| row.org == note.org);
        let Some(row) = row else {
            let message = format!("there is no delivery `{}`", note.delivery);
            return Err(Error::new(Code::DeliveryNotFound, message));
        };
        if row.state != DeliveryState::Dead {
            let message = format!("delivery `{}` is {}, not dead", row.id, row.state);
            return Err(Error::new(Code::DeliveryStateConflict, message));
        }
        state.letters.notes.entry(note.delivery).or_default().insert(note.note);
        Ok(())
    }

    async fn abandon(&self, abandon: Abandon) -> Result<Vec<Abandoned>> {
        let state = &mut *self.lock();
        Ok(abandon.deliveries.iter().map(|id| state.abandon(*id, &abandon)).collect())
    }

    async fn due_letters(&self, now: Timestamp, limit: usize) -> Result<Vec<DueLetter>> {
        Ok(self.lock().due_letters(now, limit))
    }

    async fn judge(&self, judgements: &[Judgement], now: Timestamp) -> Result<Vec<bool>> {
        let state = &mut *self.lock();
        Ok(judgements.iter().map(|judgement| state.judge(judgement, now)).collect())
    }
}
