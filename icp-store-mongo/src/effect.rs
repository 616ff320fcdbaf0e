//! What a change of configuration does to lanes.
//!
//! Each effect carries a stamp that grows with every change, and each lane keeps the stamp of the
//! last effect of a kind: one that comes again, or late, changes nothing.

use icp_core::delivery::health::LaneRules;
use icp_core::error::{Code, Error};
use icp_core::id::{OrgId, ResourceId};
use icp_core::resource::{Effect, Revision};
use mongodb::bson::{Bson, Document, doc};

use super::batch::{Lasts, Miss};
use super::error::{Failure, contended, corrupt};
use super::lane::{self, Seen};
use super::meter;
use super::rest::{self, Why};
use super::row::{Fields, bin, kept, put};
use super::store::{LANE, MongoStore};

/// How often lanes are changed again where claims were quicker.
const ROUNDS: usize = 256;
/// How many effects a change has at the most.
const EFFECTS: i64 = 1 << 10;

/// An effect as a commit keeps it: the `at`-th of the change with this revision.
pub(crate) fn document(
    effect: &Effect,
    org: &OrgId,
    revision: Revision,
    at: usize,
) -> Result<Document, Failure> {
    let stamp = revision.0.cast_signed() * EFFECTS + i64::try_from(at).unwrap_or(EFFECTS - 1);
    let mut document = doc! { "org": org.as_str(), "stamp": stamp };
    match effect {
        Effect::Lanes { integration, max_in_flight, paused } => {
            document.insert("kind", "lanes");
            document.insert("integration", integration.as_str());
            document.insert("max_in_flight", i64::from(*max_in_flight));
            document.insert("paused", *paused);
        }
        Effect::Pause { integration, paused } => {
            document.insert("kind", "pause");
            put(&mut document, "integration", integration.as_ref().map(ResourceId::as_str));
            document.insert("paused", *paused);
        }
        Effect::Rules { integration, rules } => {
            document.insert("kind", "rules");
            document.insert("integration", integration.as_str());
            document.insert("rules", kept(rules)?);
        }
        Effect::Weight { weight } => {
            document.insert("kind", "weight");
            document.insert("weight", i64::from(*weight));
        }
        _ => {
            let message = "this effect of a change is not known to the mongodb store; update it";
            return Err(Error::new(Code::Unsupported, message).into());
        }
    }
    Ok(document)
}

pub(crate) async fn apply(store: &MongoStore, effect: &Document) -> Result<(), Failure> {
    let org: OrgId = effect.named("org")?;
    let stamp = effect.int("stamp")?;
    let integration: Option<ResourceId> =
        effect.contains_key("integration").then(|| effect.named("integration")).transpose()?;
    match (effect.text("kind")?, integration) {
        ("lanes", Some(integration)) => {
            let paused = effect.flag("paused");
            rest::set(store, &org, Why::Off(&integration), paused, stamp).await?;
            let max_in_flight = effect.small("max_in_flight")?;
            let parallel = doc! { "fifo": false };
            change(store, &org, &integration, "lanes_at", stamp, parallel, |seen| {
                seen.lane.max_in_flight = max_in_flight;
                Ok(doc! { "max_in_flight": i64::from(max_in_flight) })
            })
            .await?;
        }
        ("pause", Some(integration)) => {
            let paused = effect.flag("paused");
            rest::set(store, &org, Why::Paused(&integration), paused, stamp).await?;
        }
        ("pause", None) => {
            rest::set(store, &org, Why::Organization, effect.flag("paused"), stamp).await?;
        }
        ("rules", Some(integration)) => {
            let rules: LaneRules = effect.read("rules")?.unwrap_or_default();
            rule(store, &org, &integration, rules, stamp).await?;
        }
        ("weight", None) => {
            let older = older("weight_at", stamp);
            let filter = doc! { "org": org.as_str(), "$or": older };
            let weight = doc! { "weight": effect.int("weight")?, "weight_at": stamp };
            store.lasting(LANE).update_many(filter, doc! { "$set": weight }).await?;
        }
        _ => return Err(corrupt("an effect of a change is malformed").into()),
    }
    Ok(())
}

async fn rule(
    store: &MongoStore,
    org: &OrgId,
    integration: &ResourceId,
    rules: LaneRules,
    stamp: i64,
) -> Result<(), Failure> {
    let mut fresh = false;
    let kept = lane::rules(&rules)?;
    let floor = lane::floor(store).await?;
    change(store, org, integration, "rules_at", stamp, doc! {}, |seen| {
        if seen.lane.rules == rules {
            return Ok(Document::new());
        }
        fresh = true;
        seen.lane.change_rules(rules);
        let kept = kept.clone().map_or("$$REMOVE".into(), |kept| doc! { "$literal": kept }.into());
        let blocked = doc! { "$gt": ["$blocked_until", Bson::Null] };
        Ok(doc! {
            "rules": Bson::clone(&kept),
            "pass": { "$cond": [blocked, { "$max": ["$pass", floor] }, "$pass"] },
            "blocked_until": "$$REMOVE",
        })
    })
    .await?;
    if fresh {
        meter::forget(store, org, integration).await?;
    }
    Ok(())
}

fn older(mark: &str, stamp: i64) -> Vec<Document> {
    vec![doc! { mark: { "$exists": false } }, doc! { mark: { "$lt": stamp } }]
}

/// Changes every lane of the integration that no later change has touched.
async fn change(
    store: &MongoStore,
    org: &OrgId,
    integration: &ResourceId,
    mark: &str,
    stamp: i64,
    only: Document,
    mut edit: impl FnMut(&mut Seen) -> Result<Document, Failure>,
) -> Result<(), Failure> {
    let mut filter = doc! { "org": org.as_str(), "integration": integration.as_str() };
    filter.insert("$or", older(mark, stamp));
    filter.extend(only);
    for _ in 0..ROUNDS {
        let found = store.all(LANE, filter.clone(), lane::plain()).await?;
        let mut statements = Vec::with_capacity(found.len());
        for found in &found {
            let mut seen = Seen::read(found)?;
            let mut set = edit(&mut seen)?;
            set.extend(lane::health(&seen.lane)?);
            set.insert(mark, stamp);
            let filter = doc! { "_id": bin(seen.lane.id.to_bytes()), "turns": seen.turns };
            statements.push(lane::statement(filter, vec![doc! { "$set": set }.into()]));
        }
        if statements.is_empty() {
            return Ok(());
        }
        let missed = store.update(LANE, &statements, Miss::Known, Lasts::Yes).await?.missed;
        if missed.is_empty() {
            return Ok(());
        }
    }
    Err(contended().into())
}
