//! What integrations have used of their rates.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use icp_core::delivery::Lane;
use icp_core::delivery::health::Meter;
use icp_core::id::{OrgId, ResourceId};
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, doc};

use super::batch::{Lasts, Miss, Statement};
use super::error::Failure;
use super::row::{Fields, ms};
use super::store::{METER, MongoStore};

/// How often a meter is read again where others were quicker.
const ROUNDS: usize = 16;

/// The meters of the limited integrations among some lanes. Empty, and at no cost, where none
/// has a limit.
#[derive(Debug, Default)]
pub(crate) struct Meters(HashMap<String, i64>);

fn name(org: &OrgId, integration: &ResourceId) -> String {
    format!("{org}/{integration}")
}

impl Meters {
    pub(crate) async fn load<'a>(
        store: &MongoStore,
        lanes: impl Iterator<Item = &'a Lane>,
    ) -> Result<Self, Failure> {
        let limited = lanes.filter(|lane| lane.rules.rate_limit.is_some());
        let names: BTreeSet<String> =
            limited.map(|lane| name(&lane.org, &lane.integration)).collect();
        if names.is_empty() {
            return Ok(Self::default());
        }
        let names: Vec<Bson> = names.into_iter().map(Bson::from).collect();
        let found = store.all(METER, doc! { "_id": { "$in": names } }, doc! {}).await?;
        let used =
            found.iter().map(|meter| Ok((meter.text("_id")?.to_owned(), meter.int("used")?)));
        Ok(Self(used.collect::<Result<_, Failure>>()?))
    }

    fn meter(&self, lane: &Lane) -> Meter {
        let used = self.0.get(&name(&lane.org, &lane.integration));
        Meter::from_micros(used.copied().unwrap_or_default())
    }

    /// How many deliveries of the lane its integration's rate has room for.
    pub(crate) fn room(&self, lane: &Lane, now: Timestamp) -> usize {
        let Some(limit) = &lane.rules.rate_limit else { return usize::MAX };
        usize::try_from(self.meter(lane).room(limit, now)).unwrap_or(usize::MAX)
    }

    /// Until when the lane waits for its integration's rate.
    pub(crate) fn blocks(&self, lane: &Lane, now: Timestamp) -> Option<Timestamp> {
        self.meter(lane).blocks_until(&lane.rules.rate_limit?, now)
    }

    /// Takes up to `wanted` off the rate, for nobody else to take; answers how many.
    pub(crate) async fn take(
        &mut self,
        store: &MongoStore,
        lane: &Lane,
        wanted: usize,
        now: Timestamp,
    ) -> Result<usize, Failure> {
        let Some(limit) = lane.rules.rate_limit else { return Ok(wanted) };
        for _ in 0..ROUNDS {
            let count = wanted.min(self.room(lane, now));
            if count == 0 {
                return Ok(0);
            }
            let before = self.meter(lane);
            let after = before.used(&limit, u32::try_from(count).unwrap_or(u32::MAX), now);
            if self.swap(store, lane, before, after).await? {
                return Ok(count);
            }
            self.0.extend(Self::load(store, std::iter::once(lane)).await?.0);
        }
        Ok(0)
    }

    /// Changes the meter, unless somebody else has meanwhile.
    async fn swap(
        &mut self,
        store: &MongoStore,
        lane: &Lane,
        before: Meter,
        after: Meter,
    ) -> Result<bool, Failure> {
        let id = name(&lane.org, &lane.integration);
        let statement = Statement {
            filter: doc! { "_id": &id, "used": before.as_micros() },
            change: doc! { "$set": {
                "used": after.as_micros(),
                "org": lane.org.as_str(),
                "integration": lane.integration.as_str(),
            } }
            .into(),
        };
        let won =
            store.update(METER, &[statement], Miss::Known, Lasts::No).await?.missed.is_empty();
        if won {
            self.0.insert(id, after.as_micros());
        }
        Ok(won)
    }

    /// Gives back what was taken for deliveries that were not leased after all.
    pub(crate) async fn give_back(
        &mut self,
        store: &MongoStore,
        lane: &Lane,
        count: usize,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let Some(limit) = lane.rules.rate_limit.filter(|_| count > 0) else { return Ok(()) };
        let from = Meter::from_micros(ms(now).saturating_mul(1_000));
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let part = from.used(&limit, count, now).as_micros() - from.as_micros();
        let id = name(&lane.org, &lane.integration);
        let less = doc! { "$inc": { "used": -part } };
        store.light(METER).update_one(doc! { "_id": &id }, less).await?;
        if let Some(used) = self.0.get_mut(&id) {
            *used -= part;
        }
        Ok(())
    }
}

/// Lets an integration start with its whole rate.
pub(crate) async fn forget(
    store: &MongoStore,
    org: &OrgId,
    integration: &ResourceId,
) -> Result<(), Failure> {
    store.lasting(METER).delete_one(doc! { "_id": name(org, integration) }).await?;
    Ok(())
}

/// What the organization's integrations have used.
pub(crate) async fn of_org(
    store: &MongoStore,
    org: &OrgId,
) -> Result<Vec<(ResourceId, Meter)>, Failure> {
    // Names hold no `/`, and `0` follows it: these are the meters whose names begin with the
    // organization and a slash.
    let (from, to) = (format!("{org}/"), format!("{org}0"));
    let found = store.all(METER, doc! { "_id": { "$gte": from, "$lt": to } }, doc! {}).await?;
    let meters = found
        .iter()
        .map(|meter| Ok((meter.named("integration")?, Meter::from_micros(meter.int("used")?))));
    let meters: BTreeMap<ResourceId, Meter> = meters.collect::<Result<_, Failure>>()?;
    Ok(meters.into_iter().collect())
}
