//! The version of the collections, kept in one document.

use icp_core::error::{Code, Error};
use mongodb::bson::doc;

use super::error::Failure;
use super::row::Fields;
use super::store::{META, MongoStore};

/// Raised with every change that an older version of this library would not understand.
pub(crate) const VERSION: i64 = 1;

/// Refuses collections that a newer version made.
pub(crate) async fn check(store: &MongoStore) -> Result<(), Failure> {
    let found = store.light(META).find_one(doc! { "_id": "schema" }).await?;
    let version = found.map(|found| found.int("version")).transpose()?.unwrap_or(VERSION);
    if version > VERSION {
        return Err(Error::new(
            Code::StoreTooNew,
            format!(
                "the collections have version {version}, this library knows {VERSION}; use a \
                 newer one"
            ),
        )
        .into());
    }
    Ok(())
}

/// Notes the version; one that is higher by now stays.
pub(crate) async fn mark(store: &MongoStore) -> Result<(), Failure> {
    let raise = doc! { "$max": { "version": VERSION } };
    store.lasting(META).update_one(doc! { "_id": "schema" }, raise).upsert(true).await?;
    Ok(())
}
