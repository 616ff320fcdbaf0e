//! How far a database is, and what is still to be made in it.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt;
use icp_core::error::{Code, Error, Result};
use mongodb::IndexModel;
use mongodb::bson::Document;

use super::error::{Failure, told};
use super::store::MongoStore;
use super::{index, schema};

/// The indexes and the schema version of a store.
///
/// Any number of nodes may apply them at once. One that is killed on the way leaves nothing that the
/// next would not finish.
#[derive(Debug)]
#[must_use = "nothing is looked at before it is asked"]
pub struct Migrations(MongoStore);

/// How far a database is.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct MigrationStatus {
    /// The version of its schema; `None` where the database was never used.
    pub version: Option<u32>,
    /// The version that this build makes, and reads.
    pub known: u32,
    /// The collections of the store that are there, in order.
    pub collections: Vec<String>,
    /// How many of the store's indexes are there.
    pub indexes: usize,
    /// What is to be made, in order.
    pub pending: Vec<PlannedMigration>,
}

/// Something that would be made.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PlannedMigration {
    /// An index, and its collection where that is missing.
    Index {
        /// The collection.
        collection: String,
        /// The name of the index.
        name: String,
        /// Its keys, as MongoDB's shell writes them.
        keys: String,
    },
    /// The schema version that is noted.
    Version(u32),
}

impl Migrations {
    pub(crate) fn new(store: MongoStore) -> Self {
        Self(store)
    }

    /// What there is, and what is to be made; changes nothing.
    ///
    /// # Errors
    ///
    /// As for opening the store, except that a newer database is told and no error.
    pub async fn status(&self) -> Result<MigrationStatus> {
        told("migrate", status(&self.0).await)
    }

    /// What [`apply`](Self::apply) would make; changes nothing.
    ///
    /// # Errors
    ///
    /// As for [`apply`](Self::apply).
    pub async fn dry_run(&self) -> Result<Vec<PlannedMigration>> {
        told("migrate", pending(&self.0).await)
    }

    /// Makes what is missing.
    ///
    /// # Errors
    ///
    /// As for opening the store; [`StoreForeign`](Code::StoreForeign) where an index of ours has
    /// other keys or options, which is left alone.
    pub async fn apply(&self) -> Result<()> {
        told("migrate", apply(&self.0).await)
    }
}

pub(crate) async fn apply(store: &MongoStore) -> Result<(), Failure> {
    if !pending(store).await?.is_empty() {
        index::create(store).await?;
        schema::mark(store).await?;
    }
    Ok(())
}

/// Refuses a database in which something is missing.
pub(crate) async fn require(store: &MongoStore) -> Result<(), Failure> {
    let missing = pending(store).await?.len();
    if missing == 0 {
        return Ok(());
    }
    let message = format!(
        "{missing} indexes or versions are pending; apply them with `migrations().apply()`, or let \
         the store do it with `migrate(true)`"
    );
    Err(Error::new(Code::StoreOutdated, message).into())
}

async fn pending(store: &MongoStore) -> Result<Vec<PlannedMigration>, Failure> {
    schema::check(store).await?;
    Ok(status(store).await?.pending)
}

async fn status(store: &MongoStore) -> Result<MigrationStatus, Failure> {
    let version = schema::version(store).await?;
    let there: BTreeSet<String> = store.0.db.list_collection_names().await?.into_iter().collect();
    let (mut collections, mut indexes) = (Vec::new(), 0);
    let mut pending = Vec::new();
    for (noun, wanted) in index::all() {
        let collection = store.name(noun);
        let mut found = BTreeMap::new();
        if there.contains(&collection) {
            let listed = store.light(noun).list_indexes().await?;
            let listed: Vec<IndexModel> = listed.try_collect().await?;
            found = listed.into_iter().filter_map(|index| Some((name(&index)?, index))).collect();
            collections.push(collection.clone());
        }
        let missing = missing(&collection, &wanted, &found)?;
        indexes += wanted.len() - missing.len();
        pending.extend(missing);
    }
    if version.is_none_or(|version| version < schema::VERSION) {
        pending.push(PlannedMigration::Version(schema::VERSION));
    }
    collections.sort();
    Ok(MigrationStatus { version, known: schema::VERSION, collections, indexes, pending })
}

fn name(index: &IndexModel) -> Option<String> {
    index.options.as_ref()?.name.clone()
}

/// Those of the wanted indexes of a collection that are not among those found.
///
/// # Errors
///
/// [`StoreForeign`](Code::StoreForeign) where one of the name is there that is another.
fn missing(
    collection: &str,
    wanted: &[IndexModel],
    found: &BTreeMap<String, IndexModel>,
) -> Result<Vec<PlannedMigration>> {
    let mut missing = Vec::new();
    for index in wanted {
        let name = name(index).unwrap_or_default();
        match found.get(&name) {
            None => missing.push(PlannedMigration::Index {
                collection: collection.to_owned(),
                name,
                keys: index.keys.to_string(),
            }),
            Some(other) if shape(other) == shape(index) => {}
            Some(_) => {
                return Err(Error::new(
                    Code::StoreForeign,
                    format!(
                        "the index {name} of {collection} is not the one icp makes; drop it, or \
                         choose another prefix or database"
                    ),
                ));
            }
        }
    }
    Ok(missing)
}

/// What tells two indexes of the same name apart.
fn shape(index: &IndexModel) -> (String, bool, bool, Option<&Document>) {
    let options = index.options.as_ref();
    let is = |flag: Option<bool>| flag.unwrap_or_default();
    (
        index.keys.to_string(),
        is(options.and_then(|options| options.unique)),
        is(options.and_then(|options| options.sparse)),
        options.and_then(|options| options.partial_filter_expression.as_ref()),
    )
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;
    use mongodb::options::IndexOptions;

    use super::*;

    fn index(name: &str, keys: Document, sparse: Option<bool>) -> IndexModel {
        let mut options = IndexOptions::builder().name(name.to_owned()).build();
        options.sparse = sparse;
        IndexModel::builder().keys(keys).options(options).build()
    }

    fn found(indexes: &[IndexModel]) -> BTreeMap<String, IndexModel> {
        indexes.iter().map(|index| (name(index).unwrap(), index.clone())).collect()
    }

    #[test]
    fn what_is_missing_follows_from_what_is_there() {
        let wanted = [
            index("of_org", doc! { "org": 1, "_id": 1 }, None),
            index("age", doc! { "at": 1 }, Some(true)),
        ];
        let names = |found: &[IndexModel]| {
            let missing = missing("icp_event", &wanted, &self::found(found)).unwrap();
            let name = |planned: PlannedMigration| match planned {
                PlannedMigration::Index { name, .. } => name,
                PlannedMigration::Version(_) => unreachable!(),
            };
            missing.into_iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["of_org", "age"]);
        assert_eq!(names(&wanted[..1]), ["age"]);
        let of_a_host = index("orders", doc! { "order": 1 }, None);
        let all = [wanted[0].clone(), wanted[1].clone(), of_a_host];
        assert!(names(&all).is_empty());
    }

    #[test]
    fn an_index_that_is_another_is_refused() {
        let wanted = [index("age", doc! { "at": 1 }, Some(true))];
        for other in [
            index("age", doc! { "at": -1 }, Some(true)),
            index("age", doc! { "at": 1, "org": 1 }, Some(true)),
            index("age", doc! { "at": 1 }, None),
        ] {
            let refused = missing("icp_event", &wanted, &found(&[other])).unwrap_err();
            assert_eq!(refused.code(), Code::StoreForeign);
            assert!(refused.to_string().contains("drop it"), "{refused}");
        }
    }
}
