//! Every index of every collection, in one place.

use futures_util::future::try_join_all;
use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;

use super::error::Failure;
use super::store::{
    AUDIT, COMMIT, DELIVERY, EVENT, LANE, MongoStore, OUTBOX, REPLAY, RESOURCE, REST, ROLLUP,
    ROLLUP_FAILURE, SLOT, VERSION,
};

/// How an index is limited to the documents it is for.
enum Part {
    All,
    /// Those that have one of the fields.
    Sparse,
    /// Those that match.
    Where(Document),
    /// Those that have the field, of which no two have the same.
    Unique,
    /// Those that match, of which no two have the same.
    UniqueWhere(Document),
}

/// Creates what is missing; several nodes may do so at once.
pub(crate) async fn create(store: &MongoStore) -> Result<(), Failure> {
    let made = all().map(|(noun, indexes)| async move {
        store.lasting(noun).create_indexes(indexes).await.map(drop)
    });
    try_join_all(made).await?;
    Ok(())
}

/// The indexes of each collection.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, Vec<IndexModel>)> {
    let models = |indexes: Indexes| {
        indexes.into_iter().map(|(name, keys, part)| model(name, keys, part)).collect()
    };
    table().into_iter().map(move |(noun, indexes)| (noun, models(indexes)))
}

fn model(name: &str, keys: Document, part: Part) -> IndexModel {
    let mut options = IndexOptions::builder().name(name.to_owned()).build();
    match part {
        Part::All => {}
        Part::Sparse => options.sparse = Some(true),
        Part::Where(filter) => options.partial_filter_expression = Some(filter),
        Part::Unique => {
            options.sparse = Some(true);
            options.unique = Some(true);
        }
        Part::UniqueWhere(filter) => {
            options.partial_filter_expression = Some(filter);
            options.unique = Some(true);
        }
    }
    IndexModel::builder().keys(keys).options(options).build()
}

type Indexes = Vec<(&'static str, Document, Part)>;

fn table() -> Vec<(&'static str, Indexes)> {
    use Part::{All, Sparse, Unique, UniqueWhere, Where};
    let ready = || Where(doc! { "state": "ready" });
    vec![
        (
            EVENT,
            vec![
                ("of_org", doc! { "org": 1, "_id": 1 }, All),
                ("live_key", doc! { "live_key": 1 }, Unique),
                (
                    "key_until",
                    doc! { "org": 1, "key_until": 1 },
                    Where(doc! { "key_until": { "$exists": true } }),
                ),
                (
                    "key",
                    doc! { "idempotency_key": 1, "org": 1, "_id": 1 },
                    Where(doc! { "idempotency_key": { "$exists": true } }),
                ),
                (
                    "subject",
                    doc! { "subject": 1, "org": 1, "_id": 1 },
                    Where(doc! { "subject": { "$exists": true } }),
                ),
                ("pending", doc! { "pending.id": 1 }, Sparse),
                ("erasing", doc! { "erasing": 1 }, Sparse),
            ],
        ),
        (
            DELIVERY,
            vec![
                ("ready", doc! { "lane": 1, "due_at": 1, "_id": 1 }, ready()),
                ("line", doc! { "line": 1, "_id": 1 }, Sparse),
                ("ordered", doc! { "lane": 1 }, Where(doc! { "fifo": true })),
                ("owner", doc! { "owner": 1, "_id": 1 }, Sparse),
                ("of_event", doc! { "event": 1, "_id": 1 }, All),
                ("of_org", doc! { "org": 1, "_id": 1 }, All),
                ("state", doc! { "state": 1 }, All),
                ("dead", doc! { "org": 1, "_id": 1 }, Where(doc! { "state": "dead" })),
                (
                    "expiring",
                    doc! { "expires_at": 1 },
                    Where(doc! { "state": "ready", "expires_at": { "$exists": true } }),
                ),
                ("judge_at", doc! { "judge_at": 1, "_id": 1 }, Sparse),
                ("job", doc! { "job": 1, "_id": 1 }, Sparse),
                ("erasing", doc! { "erasing": 1 }, Sparse),
                ("notices", doc! { "notices._id": 1 }, Sparse),
                ("owed", doc! { "owed.src": 1 }, Sparse),
                ("repeat", doc! { "repeat.id": 1 }, Sparse),
                (
                    "follows",
                    doc! { "event": 1, "integration": 1, "follows": 1 },
                    UniqueWhere(doc! { "follows": { "$exists": true } }),
                ),
                ("stir", doc! { "stir": 1 }, Sparse),
            ],
        ),
        (
            LANE,
            vec![
                ("turn", doc! { "turn": 1, "_id": 1 }, Sparse),
                ("alarm", doc! { "alarm": 1 }, Sparse),
                ("blocked", doc! { "blocked_until": 1 }, Sparse),
                ("busy", doc! { "org": 1, "busy": 1 }, Where(doc! { "busy": true })),
                ("floor", doc! { "busy": 1, "pass": 1 }, Where(doc! { "busy": true })),
                ("of_org", doc! { "org": 1, "integration": 1, "_id": 1 }, All),
                ("list", doc! { "org": 1, "_id": 1 }, All),
                ("in_flight", doc! { "in_flight": 1 }, Where(doc! { "in_flight": { "$gt": 0 } })),
                ("ill", doc! { "ill": 1 }, Sparse),
            ],
        ),
        (OUTBOX, vec![("of_org", doc! { "org": 1, "_id": 1 }, All)]),
        (
            RESOURCE,
            vec![
                ("place", doc! { "kind": 1, "org": 1, "id": 1 }, Unique),
                ("handles", doc! { "handles": 1 }, Sparse),
            ],
        ),
        (
            VERSION,
            vec![
                ("place", doc! { "kind": 1, "org": 1, "id": 1, "_id": 1 }, All),
                (
                    "of_org",
                    doc! { "org": 1, "next_at": 1 },
                    Where(doc! { "next_at": { "$exists": true } }),
                ),
            ],
        ),
        (
            AUDIT,
            vec![("of_org", doc! { "org": 1, "_id": 1 }, All), ("src", doc! { "src": 1 }, Unique)],
        ),
        (COMMIT, vec![("age", doc! { "at": 1 }, All)]),
        (
            REPLAY,
            vec![
                ("of_org", doc! { "org": 1, "_id": 1 }, All),
                ("open", doc! { "open": 1, "next_at": 1, "_id": 1 }, Sparse),
                ("owner", doc! { "owner": 1 }, Sparse),
                ("pending", doc! { "pending.id": 1 }, Sparse),
                (
                    "ended",
                    doc! { "org": 1, "ended_at": 1 },
                    Where(doc! { "ended_at": { "$exists": true } }),
                ),
            ],
        ),
        (SLOT, vec![("expiry", doc! { "expires_at": 1 }, All)]),
        (ROLLUP, vec![("of_org", doc! { "org": 1, "grain": 1, "begins": 1, "_id": 1 }, All)]),
        (
            ROLLUP_FAILURE,
            vec![("of_org", doc! { "org": 1, "grain": 1, "begins": 1, "_id": 1 }, All)],
        ),
        (REST, vec![("of_org", doc! { "org": 1, "integration": 1 }, All)]),
    ]
}
