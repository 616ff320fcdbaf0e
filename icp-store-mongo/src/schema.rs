//! The version of the collections, kept in one document.

use icp_core::error::{Code, Error};
use mongodb::bson::doc;

use super::error::Failure;
use super::row::Fields;
use super::store::{META, MongoStore};

/// Raised with every change that an older version of this library would not understand.
pub(crate) const VERSION: u32 = 1;

/// The version that is noted; nothing where the database was never used.
pub(crate) async fn version(store: &MongoStore) -> Result<Option<u32>, Failure> {
    let found = store.light(META).find_one(doc! { "_id": "schema" }).await?;
    Ok(found.map(|found| found.small("version")).transpose()?)
}

/// Refuses collections that a newer version made.
pub(crate) async fn check(store: &MongoStore) -> Result<(), Failure> {
    let Some(version) = version(store).await?.filter(|version| *version > VERSION) else {
        return Ok(());
    };
    let message = format!(
        "the collections have version {version}, this library knows {VERSION}; use a newer one"
    );
    Err(Error::new(Code::StoreTooNew, message).into())
}

/// Notes the version; one that is higher by now stays.
pub(crate) async fn mark(store: &MongoStore) -> Result<(), Failure> {
    let raise = doc! { "$max": { "version": i64::from(VERSION) } };
    store.lasting(META).update_one(doc! { "_id": "schema" }, raise).upsert(true).await?;
    Ok(())
}
