//! Lanes that rest, and why: for those that are there, and for those yet to be made.

use std::collections::HashMap;

use icp_core::id::{OrgId, ResourceId};
use mongodb::bson::{Bson, Document, doc};

use super::batch::{Lasts, Miss, Statement};
use super::error::Failure;
use super::lane;
use super::row::Fields;
use super::store::{LANE, MongoStore, REST};

/// Why lanes rest.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Why<'a> {
    /// Their integration is off.
    Off(&'a ResourceId),
    /// Their integration is paused.
    Paused(&'a ResourceId),
    /// Their organization is paused.
    Organization,
}

impl Why<'_> {
    /// The part of a lane's `rests` that tells of it.
    const fn bit(self) -> i32 {
        match self {
            Self::Off(_) => 1,
            Self::Paused(_) => 2,
            Self::Organization => 4,
        }
    }

    /// The integration, or the empty name that stands for all.
    fn name(&self) -> &str {
        match self {
            Self::Off(integration) | Self::Paused(integration) => integration.as_str(),
            Self::Organization => "",
        }
    }

    /// What a lane keeps of the last change of this reason.
    const fn mark(self) -> &'static str {
        match self {
            Self::Off(_) => "off_at",
            Self::Paused(_) => "paused_at",
            Self::Organization => "held_at",
        }
    }
}

/// The reasons that were found, by organization and integration.
#[derive(Debug, Default)]
pub(crate) struct Rests(HashMap<(String, String), i32>);

impl Rests {
    /// The reasons why lanes of the integration rest; 0 where there is none.
    pub(crate) fn bits(&self, org: &OrgId, integration: &ResourceId) -> i32 {
        let of = |name: &str| {
            self.0.get(&(org.as_str().to_owned(), name.to_owned())).copied().unwrap_or_default()
        };
        of(integration.as_str()) | of("")
    }
}

/// Why lanes of these integrations rest.
pub(crate) async fn of(
    store: &MongoStore,
    places: &[(&OrgId, &ResourceId)],
) -> Result<Rests, Failure> {
    let mut orgs: Vec<&str> = places.iter().map(|(org, _)| org.as_str()).collect();
    orgs.sort_unstable();
    orgs.dedup();
    let mut names: Vec<&str> = places.iter().map(|(_, integration)| integration.as_str()).collect();
    names.push("");
    let filter = doc! { "org": { "$in": orgs }, "integration": { "$in": names }, "paused": true };
    let mut rests = Rests::default();
    for found in store.all(REST, filter, doc! {}).await? {
        let key = (found.text("org")?.to_owned(), found.text("integration")?.to_owned());
        *rests.0.entry(key).or_default() |= i32::try_from(found.int("why")?).unwrap_or_default();
    }
    Ok(rests)
}

/// Lets lanes rest, or go on where nothing else keeps them at rest, unless a later change has said
/// something else.
pub(crate) async fn set(
    store: &MongoStore,
    org: &OrgId,
    why: Why<'_>,
    paused: bool,
    stamp: i64,
) -> Result<(), Failure> {
    note(store, org, why, paused, stamp).await?;
    let bit = why.bit();
    let mut filter = doc! {
        "org": org.as_str(),
        "$or": [{ why.mark(): { "$exists": false } }, { why.mark(): { "$lt": stamp } }],
    };
    if !matches!(why, Why::Organization) {
        filter.insert("integration", why.name());
    }
    let has = doc! { "$mod": [{ "$floor": { "$divide": ["$rests", bit] } }, 2] };
    let has: Bson = doc! { "$toInt": has }.into();
    let rests = if paused {
        doc! { "$add": ["$rests", { "$multiply": [bit, { "$subtract": [1, has] }] }] }
    } else {
        doc! { "$subtract": ["$rests", { "$multiply": [bit, has] }] }
    };
    // A lane that goes on looks for what waited, and starts no earlier than those that run.
    let floor = if paused { None } else { lane::floor(store).await? };
    let goes_on = doc! { "$and": [{ "$gt": ["$rests", 0] }, { "$eq": [rests.clone(), 0] }] };
    let pass: Bson = match floor {
        Some(floor) => {
            doc! { "$cond": [goes_on.clone(), { "$max": ["$pass", floor] }, "$pass"] }.into()
        }
        None => "$pass".into(),
    };
    let stages: Vec<Document> = vec![
        doc! { "$set": {
            "pass": pass,
            "runnable": { "$or": ["$runnable", goes_on.clone()] },
            "next_due": { "$cond": [goes_on.clone(), "$$REMOVE", { "$ifNull": ["$next_due", "$$REMOVE"] }] },
            "wakes": { "$add": ["$wakes", 1_i64] },
            "rests": rests,
            why.mark(): stamp,
        } },
        lane::finish().as_document().cloned().unwrap_or_default(),
    ];
    store.lasting(LANE).update_many(filter, stages).await?;
    Ok(())
}

/// Keeps the reason for lanes that are made later.
async fn note(
    store: &MongoStore,
    org: &OrgId,
    why: Why<'_>,
    paused: bool,
    stamp: i64,
) -> Result<(), Failure> {
    let id = format!("{org}/{}/{}", why.name(), why.bit());
    let set = doc! {
        "org": org.as_str(),
        "integration": why.name(),
        "why": why.bit(),
        "paused": paused,
        "stamp": stamp,
    };
    let statement = Statement {
        filter: doc! { "_id": id, "stamp": { "$lt": stamp } },
        change: doc! { "$set": set }.into(),
    };
    // Where a later change is noted, the insert of this one fails, which is right.
    store.update(REST, &[statement], Miss::Known, Lasts::Yes).await?;
    Ok(())
}
