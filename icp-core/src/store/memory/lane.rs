use std::collections::{BTreeMap, BTreeSet};

use crate::delivery::health::{LaneHealth, Pace};
use crate::delivery::{Lane, LaneId};
use crate::event::LaneSeed;
use crate::id::{OrgId, ResourceId};
use crate::time::Timestamp;

/// Lanes with the indexes a claim walks along; they change together, in [`Lanes::edit`] only.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    rows: BTreeMap<LaneId, Lane>,
    runnable: BTreeSet<(i64, LaneId)>,
    with_room: BTreeSet<(i64, LaneId)>,
    timers: BTreeSet<(Timestamp, LaneId)>,
    runnable_of: BTreeMap<OrgId, u32>,
    rests: BTreeSet<(OrgId, Rest)>,
}

/// Why lanes rest.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Rest {
    /// Their integration is off.
    Off(ResourceId),
    /// Their integration is paused.
    Paused(ResourceId),
    /// Their organization is paused.
    Organization,
}

impl Lanes {
    pub(super) fn get(&self, id: &LaneId) -> Option<&Lane> {
        self.rows.get(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.rows.values()
    }

    /// Notes or forgets why lanes rest; the lanes themselves are for the caller.
    pub(super) fn rest(&mut self, org: &OrgId, why: Rest, paused: bool) {
        let why = (org.clone(), why);
        if paused {
            self.rests.insert(why);
        } else {
            self.rests.remove(&why);
        }
    }

    pub(super) fn rests(&self, org: &OrgId, integration: &ResourceId) -> bool {
        let reasons =
            [Rest::Off(integration.clone()), Rest::Paused(integration.clone()), Rest::Organization];
        reasons.into_iter().any(|why| self.rests.contains(&(org.clone(), why)))
    }

    /// Makes the lane where it is missing; an existing one is left as it is.
    pub(super) fn ensure(&mut self, org: &OrgId, integration: &ResourceId, seed: &LaneSeed) {
        let paused = !self.rows.contains_key(&seed.id) && self.rests(org, integration);
        self.rows.entry(seed.id).or_insert_with(|| Lane {
            id: seed.id,
            org: org.clone(),
            integration: integration.clone(),
            order_key: seed.order_key.clone(),
            mode: seed.mode,
            weight: seed.weight,
            pass: 0,
            runnable: false,
            next_due: None,
            in_flight: 0,
            max_in_flight: seed.max_in_flight,
            blocked_until: None,
            paused,
            rules: seed.rules,
            health: LaneHealth::default(),
            pace: Pace::default(),
        });
    }

    /// Removes a lane; made again, it rests where there is a reason.
    pub(super) fn remove(&mut self, id: LaneId) {
        if let Some(lane) = self.rows.remove(&id) {
            self.unindex(&lane);
        }
    }

    pub(super) fn next_org(&self, after: Option<&OrgId>) -> Option<OrgId> {
        let orgs = self.rows.values().map(|lane| &lane.org);
        orgs.filter(|org| after.is_none_or(|after| *org > after)).min().cloned()
    }

    /// Changes a lane and brings the indexes in line.
    pub(super) fn edit(&mut self, id: LaneId, change: impl FnOnce(&mut Lane)) {
        let Some(mut lane) = self.rows.get(&id).cloned() else { return };
        self.unindex(&lane);
        change(&mut lane);
        self.index(&lane);
        self.rows.insert(id, lane);
    }

    /// Says when the lane's earliest delivery is due, and so whether the lane runs or sleeps.
    ///
    /// A lane that wakes starts at the lowest pass of those that run, as idling is no credit.
    pub(super) fn refresh(&mut self, id: LaneId, earliest: Option<Timestamp>, now: Timestamp) {
        let lowest = self.runnable.first().map(|(pass, _)| *pass);
        self.edit(id, |lane| {
            let free = lane.blocked_until.is_none_or(|until| until <= now);
            if free {
                lane.blocked_until = None;
            }
            let wakes = !lane.paused && free && earliest.is_some_and(|due| due <= now);
            if wakes && !lane.runnable {
                lane.pass = lane.pass.max(lowest.unwrap_or(lane.pass));
            }
            lane.runnable = wakes;
            lane.next_due = earliest.filter(|_| !wakes);
        });
    }

    /// The lanes whose time has come.
    pub(super) fn due(&self, now: Timestamp) -> Vec<LaneId> {
        self.timers.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect()
    }

    /// When the next sleeping lane gets its turn, where none that runs has room.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        if !self.with_room.is_empty() {
            return None;
        }
        self.timers.first().map(|(at, _)| *at)
    }

    /// The lane that goes next: the lowest pass among those with room that `fits`.
    pub(super) fn next(&self, fits: impl Fn(&LaneId) -> bool) -> Option<LaneId> {
        self.with_room.iter().map(|(_, id)| *id).find(fits)
    }

    pub(super) fn runnable_of(&self, org: &OrgId) -> u32 {
        self.runnable_of.get(org).copied().unwrap_or_default()
    }

    /// The pass at which a lane that wakes now would start.
    pub(super) fn waking_pass(&self, lane: &Lane) -> i64 {
        self.runnable.first().map_or(lane.pass, |(pass, _)| lane.pass.max(*pass))
    }

    fn index(&mut self, lane: &Lane) {
        if lane.runnable {
            self.runnable.insert((lane.pass, lane.id));
            if lane.room() > 0 {
                self.with_room.insert((lane.pass, lane.id));
            }
            *self.runnable_of.entry(lane.org.clone()).or_default() += 1;
        }
        if let Some(at) = alarm(lane) {
            self.timers.insert((at, lane.id));
        }
    }

    fn unindex(&mut self, lane: &Lane) {
        if self.runnable.remove(&(lane.pass, lane.id))
            && let Some(count) = self.runnable_of.get_mut(&lane.org)
        {
            *count -= 1;
            if *count == 0 {
                self.runnable_of.remove(&lane.org);
            }
        }
        self.with_room.remove(&(lane.pass, lane.id));
        if let Some(at) = alarm(lane) {
            self.timers.remove(&(at, lane.id));
        }
    }
}

fn alarm(lane: &Lane) -> Option<Timestamp> {
    let due = lane.next_due.filter(|_| !lane.runnable && !lane.paused)?;
    Some(lane.blocked_until.map_or(due, |until| due.max(until)))
}
