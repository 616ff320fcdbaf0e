//! Sums of outcomes, a document for each organization, integration and hour or day, and for each
//! class of failures of those.
//!
//! Each document notes the last batch of each session that was added to it, so that one that is
//! repeated after it broke off adds what is missing and nothing else.

use async_trait::async_trait;
use icp_core::analytics::{
    AnalyticsStore, Counts, FailureCount, Grain, Rollup, RollupBatch, RollupBy, RollupKey,
    RollupQuery,
};
use icp_core::error::Result;
use icp_core::id::{OrgId, ResourceId};
use icp_core::retention::{Prune, Pruned, RollupCutoffs};
use icp_core::time::Timestamp;
use mongodb::bson::{Document, doc};

use super::batch::{Lasts, Miss, Statement};
use super::error::{Failure, told};
use super::retention::{again, remove};
use super::row::{Fields, count, ms};
use super::store::{MongoStore, ROLLUP, ROLLUP_FAILURE};

#[async_trait]
impl AnalyticsStore for MongoStore {
    async fn add_rollups(&self, batch: &RollupBatch) -> Result<()> {
        told("add statistics", add(self, batch).await)
    }

    async fn rollups(&self, org: &OrgId, query: &RollupQuery) -> Result<Vec<Rollup>> {
        told("sum up statistics", sums(self, org, query).await)
    }

    async fn rolled_failures(
        &self,
        org: &OrgId,
        query: &RollupQuery,
        limit: usize,
    ) -> Result<Vec<FailureCount>> {
        told("sum up failures", failures(self, org, query, limit).await)
    }
}

async fn add(store: &MongoStore, batch: &RollupBatch) -> Result<(), Failure> {
    let (mut sums, mut failures) = (Vec::new(), Vec::new());
    for (key, counted) in batch.rows() {
        let numbers = Counts::NAMES.iter().zip(counted.counts.numbers());
        let some = numbers.filter(|(_, number)| *number > 0);
        let more: Document =
            some.map(|(name, number)| ((*name).to_owned(), number.cast_signed().into())).collect();
        sums.push(statement(batch, &key, None, more));
        for (class, count) in &counted.failures {
            let more = doc! { "failures": count.cast_signed() };
            failures.push(statement(batch, &key, Some(class), more));
        }
    }
    add_to(store, ROLLUP_FAILURE, &failures).await?;
    add_to(store, ROLLUP, &sums).await
}

/// A miss means that the sum was added before, or that another node made the document at the same
/// moment; a second look adds to the latter.
async fn add_to(store: &MongoStore, noun: &str, sums: &[Statement]) -> Result<(), Failure> {
    let missed = store.update(noun, sums, Miss::Known, Lasts::Yes).await?.missed;
    let again: Vec<_> = missed.iter().filter_map(|at| sums.get(*at).cloned()).collect();
    store.update(noun, &again, Miss::Counted, Lasts::Yes).await?;
    Ok(())
}

fn statement(
    batch: &RollupBatch,
    key: &RollupKey,
    class: Option<&str>,
    more: Document,
) -> Statement {
    let RollupKey { org, grain, begins, integration } = key;
    let seen = format!("seen.{}", batch.session);
    let mut id = format!("{org}/{grain}/{}/{integration}", begins.as_millis());
    let mut made = doc! {
        "org": org.as_str(),
        "grain": grain.as_str(),
        "begins": ms(*begins),
        "integration": integration.as_str(),
    };
    if let Some(class) = class {
        id.extend(["/", class]);
        made.insert("class", class);
    }
    let sequence = batch.sequence.cast_signed();
    // A number is above none, and a missing field is not below one.
    let mut filter = doc! { "_id": id };
    filter.insert(seen.clone(), doc! { "$not": { "$gte": sequence } });
    let mut change = doc! { "$setOnInsert": made, "$set": { seen: sequence } };
    if !more.is_empty() {
        change.insert("$inc", more);
    }
    Statement { filter, change: change.into() }
}

fn asked(org: &OrgId, query: &RollupQuery) -> Document {
    let mut asked = doc! {
        "org": org.as_str(),
        "grain": query.grain.as_str(),
        "begins": { "$gte": ms(query.since), "$lt": ms(query.until) },
    };
    if let Some(integration) = &query.integration {
        asked.insert("integration", integration.as_str());
    }
    asked
}

async fn sums(
    store: &MongoStore,
    org: &OrgId,
    query: &RollupQuery,
) -> Result<Vec<Rollup>, Failure> {
    let by = match query.by {
        RollupBy::Time => "$begins",
        RollupBy::Integration => "$integration",
    };
    let mut group = doc! { "_id": by };
    for name in Counts::NAMES {
        group.insert(name, doc! { "$sum": format!("${name}") });
    }
    let stages = vec![
        doc! { "$match": asked(org, query) },
        doc! { "$group": group },
        doc! { "$sort": { "_id": 1 } },
    ];
    let found = store.aggregate(ROLLUP, stages).await?;
    found.iter().map(|found| Ok(rollup(found, query.by)?)).collect()
}

fn rollup(found: &Document, by: RollupBy) -> Result<Rollup> {
    let mut numbers = [0; Counts::LEN];
    for (number, name) in numbers.iter_mut().zip(Counts::NAMES) {
        *number = found.int(name)?.cast_unsigned();
    }
    let counts = Counts::of_numbers(&numbers);
    Ok(match by {
        RollupBy::Time => {
            let begins: Timestamp = found.time("_id")?;
            Rollup { begins: Some(begins), integration: None, counts }
        }
        RollupBy::Integration => {
            let integration: ResourceId = found.named("_id")?;
            Rollup { begins: None, integration: Some(integration), counts }
        }
    })
}

async fn failures(
    store: &MongoStore,
    org: &OrgId,
    query: &RollupQuery,
    limit: usize,
) -> Result<Vec<FailureCount>, Failure> {
    let by = doc! { "integration": "$integration", "class": "$class" };
    let stages = vec![
        doc! { "$match": asked(org, query) },
        doc! { "$group": { "_id": by, "failures": { "$sum": "$failures" } } },
        doc! { "$project": {
            "_id": 0, "integration": "$_id.integration", "class": "$_id.class", "failures": 1,
        } },
        doc! { "$sort": { "failures": -1, "integration": 1, "class": 1 } },
        doc! { "$limit": count(limit.max(1)) },
    ];
    let found = store.aggregate(ROLLUP_FAILURE, stages).await?;
    let failure = |found: &Document| -> Result<FailureCount, Failure> {
        Ok(FailureCount {
            integration: found.named("integration")?,
            class: found.text("class")?.to_owned(),
            count: found.int("failures")?.cast_unsigned(),
        })
    };
    found.iter().map(failure).collect()
}

/// Failures and sums each by themselves: a repeated batch may have brought one without the other.
pub(crate) async fn prune(
    store: &MongoStore,
    prune: &Prune,
    cutoffs: &RollupCutoffs,
    limit: usize,
) -> Result<Pruned, Failure> {
    let mut pruned = Pruned::default();
    for grain in Grain::ALL {
        for noun in [ROLLUP_FAILURE, ROLLUP] {
            let old = doc! {
                "org": prune.org.as_str(),
                "grain": grain.as_str(),
                "begins": { "$lt": ms(cutoffs.before(grain)) },
            };
            let order = doc! { "org": 1, "grain": 1, "begins": 1 };
            let gone = remove(store, noun, old, order, limit).await?;
            if noun == ROLLUP {
                pruned.rollups += gone;
            }
            pruned.next = pruned.next.or_else(|| again(gone, limit));
        }
    }
    Ok(pruned)
}
