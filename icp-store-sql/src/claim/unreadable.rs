//! Deliveries that cannot be read. Left where they are, they would end every claim that meets them,
//! and with it those of all other lanes.

use icp_core::error::Code;
use icp_core::time::Timestamp;

use super::heads::Head;
use crate::error::Failure;
use crate::letter::NEVER;
use crate::link::Conn;
use crate::row::{self, DELIVERY};
use crate::statement::{padded, statement, values};

pub(crate) const ROWS: &str = "WITH v (id) AS (VALUES ";

/// Deliveries, one in each row.
pub(crate) fn rows_sql() -> String {
    format!(
        ") SELECT {DELIVERY}, d.id FROM (SELECT DISTINCT id FROM v) AS v \
         CROSS JOIN icp_delivery d ON d.id = v.id"
    )
}

/// As dead letters that no round repeats: nothing of them is lost, and whoever mends the row can
/// replay it.
pub(crate) const END: &str = "UPDATE icp_delivery SET state = 3, letter_due = ?, \
     reason_code = 'unreadable', reason_message = 'the store cannot read it', updated_at = ? \
     WHERE id = ? AND state = 0";

/// As [`END`], of a lease that was left behind.
pub(crate) const END_LEASED: &str = "UPDATE icp_delivery SET state = 3, letter_due = ?, \
     owner = NULL, lease_until = NULL, reason_code = 'unreadable', \
     reason_message = 'the store cannot read it', updated_at = ? WHERE id = ? AND state = 1";

pub(crate) async fn end_leased(
    conn: &mut Conn<'_>,
    id: &[u8],
    now: Timestamp,
) -> Result<(), Failure> {
    let end = statement(END_LEASED).bind(NEVER).bind(now.as_millis()).bind(id.to_vec());
    end.execute(conn).await?;
    Ok(())
}

/// Ends those of ready deliveries that cannot be read; answers their names.
pub(super) async fn end(
    conn: &mut Conn<'_>,
    heads: &[Head],
    now: Timestamp,
) -> Result<Vec<String>, Failure> {
    let mut ended = Vec::new();
    for chunk in padded(heads) {
        let mut query = values(ROWS, chunk.len(), 1, &rows_sql());
        for head in chunk {
            query.bind(head.id.to_bytes().to_vec());
        }
        for found in query.fetch_all(&mut *conn).await? {
            match row::delivery(&found) {
                Err(failure) if failure.is_corrupt() => {}
                read => {
                    read?;
                    continue;
                }
            }
            let id: &[u8] = found.try_get(1)?;
            let end = statement(END).bind(NEVER).bind(now.as_millis()).bind(id.to_vec());
            end.execute(&mut *conn).await?;
            ended.push(row::delivery_name(&found, 1)?);
        }
    }
    Ok(ended)
}

/// Tells of what was ended, once that is committed.
pub(crate) fn tell(names: &[String]) {
    for name in names {
        tracing::error!(
            icp.delivery.id = name.as_str(),
            icp.error = Code::StoreCorrupt.as_str(),
            "a delivery cannot be read; it ended as a dead letter, to be replayed once its row is \
             mended"
        );
    }
}
