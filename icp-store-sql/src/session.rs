//! The sessions of engines: who may hold leases, and for how long it has been heard of.

use icp_core::delivery::SessionBeat;
use icp_core::error::{Code, Error};
use icp_core::id::SessionId;
use icp_core::time::Timestamp;

use crate::error::Failure;
use crate::link::Conn;
use crate::row;
use crate::statement::statement;

/// Keeps a session known until this transaction ends, so that no lease is given to one that is
/// being forgotten.
pub(crate) async fn hold(conn: &mut Conn<'_>, session: SessionId) -> Result<(), Failure> {
    if conn.dialect().is_shared() {
        let sql = format!("SELECT id FROM icp_session WHERE id = ?{}", conn.dialect().for_share());
        statement(sql).bind(session.to_bytes()).fetch_all(conn).await?;
    }
    Ok(())
}

pub(crate) async fn open(
    conn: &mut Conn<'_>,
    session: SessionId,
    now: Timestamp,
) -> Result<(), Failure> {
    statement(
        "INSERT INTO icp_session (id, beat, beaten_at) VALUES (?, 0, ?) \
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(session.to_bytes().to_vec())
    .bind(now.as_millis())
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn beat(
    conn: &mut Conn<'_>,
    session: SessionId,
    now: Timestamp,
) -> Result<(), Failure> {
    let done = statement("UPDATE icp_session SET beat = beat + 1, beaten_at = ? WHERE id = ?")
        .bind(now.as_millis())
        .bind(session.to_bytes().to_vec())
        .execute(conn)
        .await?;
    if done > 0 {
        return Ok(());
    }
    Err(Error::new(Code::LeaseLost, "the session is not known any more; send nothing more").into())
}

pub(crate) async fn list(conn: &mut Conn<'_>) -> Result<Vec<SessionBeat>, Failure> {
    let rows = statement("SELECT id, beat FROM icp_session ORDER BY id").fetch_all(conn).await?;
    rows.iter()
        .map(|found| {
            let session = SessionId::from_bytes(row::bytes(found, 0)?);
            Ok(SessionBeat { session, beat: found.try_get::<i64>(1)?.cast_unsigned() })
        })
        .collect()
}

pub(crate) const CLOSE: &str = "DELETE FROM icp_session WHERE id = ?1 AND NOT EXISTS \
     (SELECT 1 FROM icp_delivery WHERE state = 1 AND owner = ?1)";

pub(crate) async fn close(conn: &mut Conn<'_>, session: SessionId) -> Result<(), Failure> {
    statement(CLOSE).bind(session.to_bytes().to_vec()).execute(conn).await?;
    Ok(())
}
