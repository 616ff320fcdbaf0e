use icp_core::delivery::{Attempt, LaneId};
use icp_core::time::Timestamp;
use mongodb::bson::{Bson, doc};

use super::batch::{Lasts, Miss};
use super::error::{Failure, contended};
use super::lane::{self, Change};
use super::row::bin;
use super::store::{LANE, MongoStore};

/// How often a lane is judged again where another node was quicker.
const ROUNDS: usize = 64;

/// Takes what attempts say of a lane's receiver into its health, together with `change`.
///
/// The judgement is the engine's own, so the lane is read, judged and written back where nobody
/// else has changed what it allows.
pub(crate) async fn observe(
    store: &MongoStore,
    lane: LaneId,
    change: &Change,
    attempts: &[&Attempt],
    floor: Option<i64>,
    now: Timestamp,
) -> Result<(), Failure> {
    for _ in 0..ROUNDS {
        let Some(mut seen) = lane::look_up(store, [lane]).await?.remove(&lane) else {
            return Ok(());
        };
        let (turns, before) = (seen.turns, seen.lane.blocked_until);
        attempts.iter().for_each(|attempt| seen.lane.observe(attempt, now));
        let mut change = change.clone();
        if let Some(until) = seen.lane.blocked_until.filter(|_| seen.lane.blocked_until != before) {
            change.block(until);
        }
        let mut stages: Vec<Bson> = vec![doc! { "$set": lane::health(&seen.lane)? }.into()];
        stages.extend(change.stages(floor, now));
        let filter = doc! { "_id": bin(lane.to_bytes()), "turns": turns };
        let statement = lane::statement(filter, stages);
        let missed = store.update(LANE, &[statement], Miss::Known, Lasts::No).await?.missed;
        if missed.is_empty() {
            return Ok(());
        }
    }
    Err(contended().into())
}
