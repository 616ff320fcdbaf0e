//! By which texts resources are found.

use std::collections::BTreeSet;

use icp_core::access::Holder;
use icp_core::error::{Code, Error};
use icp_core::resource::Record;

use crate::error::Failure;
use crate::link::Conn;
use crate::row;
use crate::statement::{exact, statement, text, values};

pub(crate) const HOLDER: &str = "SELECT org, kind, id FROM icp_handle WHERE handle = ?";
pub(crate) const FORGET: &str = "DELETE FROM icp_handle WHERE org = ? AND kind = ? AND id = ?";
const COUNT: &str = "SELECT count(*) FROM icp_handle WHERE org = ? AND kind = ? AND id = ?";
const PUT: (&str, &str) =
    ("INSERT INTO icp_handle (handle, org, kind, id) VALUES ", " ON CONFLICT (handle) DO NOTHING");

pub(crate) async fn holder(conn: &mut Conn<'_>, handle: &str) -> Result<Option<Holder>, Failure> {
    let found = statement(HOLDER).bind(handle.as_bytes().to_vec()).fetch_optional(conn).await?;
    let Some(found) = found else { return Ok(None) };
    Ok(Some(Holder {
        org: row::org(&found, 0)?,
        kind: found.try_get::<&str>(1)?.into(),
        id: row::resource_id(&found, 2)?,
    }))
}

/// Lets the resource be found by these texts and no others. Called under the lock of
/// configuration.
///
/// Whether one was taken is told by what is there afterwards: the rows of others may be out of
/// sight.
pub(crate) async fn set(
    conn: &mut Conn<'_>,
    record: &Record,
    handles: &[String],
) -> Result<(), Failure> {
    of(record, FORGET).execute(&mut *conn).await?;
    let handles: Vec<&String> = handles.iter().collect::<BTreeSet<_>>().into_iter().collect();
    if handles.is_empty() {
        return Ok(());
    }
    for chunk in exact(&handles) {
        let mut put = values(PUT.0, chunk.len(), 4, PUT.1);
        for handle in chunk {
            put.bind(handle.as_bytes().to_vec()).bind(text(record.org.as_str()));
            put.bind(text(&record.kind)).bind(text(record.id.as_str()));
        }
        put.changes(&mut *conn).await?;
    }
    let held: i64 = of(record, COUNT).fetch_one(conn).await?.try_get(0)?;
    if usize::try_from(held).is_ok_and(|held| held == handles.len()) {
        return Ok(());
    }
    let message = "another resource is found by one of the handles; use another";
    Err(Error::new(Code::HandleTaken, message).into())
}

fn of(record: &Record, sql: &'static str) -> crate::statement::Statement {
    statement(sql)
        .bind(text(record.org.as_str()))
        .bind(text(&record.kind))
        .bind(text(record.id.as_str()))
}
