//! Publishing in the host's own transaction.

use icp::event::Event;
use serde_json::{Value, json};

use super::{event, json};
use crate::host::{Ended, Host};
use crate::location::{Backend, Location};
use crate::status::{Failure, Status};

/// Checks the event as publishing would. Nothing is stored: that is done by the host, which runs
/// the statement.
pub(super) async fn insert(host: &Host, body: &[u8]) -> Ended {
    let desk = host.desk()?;
    let event = event::strict(body)?;
    let event = desk.engine.accept(event).await?;
    let Some((sql, values)) = statement(host.store(), &event) else {
        let message = "this store has no outbox; use one of SQLite, PostgreSQL, MySQL or MariaDB";
        return Err(Failure::new(Status::Unsupported, message));
    };
    json(&json!({ "id": event.id.to_string(), "sql": sql, "values": values }))
}

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
fn statement(store: &Location, event: &Event) -> Option<(String, Vec<Value>)> {
    use icp::store_sql::{Dialect, OutboxInsert, outbox_insert};
    let dialect = match store {
        Location::Sqlite(_) => Dialect::Sqlite,
        Location::Server(Backend::Postgres, _) => Dialect::Postgres,
        Location::Server(Backend::MySql, _) => Dialect::MySql,
        Location::Server(Backend::MongoDb, _) | Location::Memory => return None,
    };
    let OutboxInsert { sql, values, .. } = outbox_insert(dialect, event);
    Some((sql, values.into_iter().map(value).collect()))
}

/// What is bound, as JSON has it; bytes in base64.
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
fn value(value: icp::store_sql::Value) -> Value {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use icp::store_sql::Value as Bound;
    match value {
        Bound::Int(int) => int.into(),
        Bound::Text(text) => text.as_deref().into(),
        Bound::Blob(blob) => {
            blob.map_or(Value::Null, |blob| json!({ "base64": STANDARD.encode(blob) }))
        }
    }
}

#[cfg(not(any(feature = "mysql", feature = "postgres", feature = "sqlite")))]
fn statement(_: &Location, _: &Event) -> Option<(String, Vec<Value>)> {
    None
}
