//! Which servers will do.

use icp_core::error::{Code, Error, Result};
use sqlx::MySqlConnection;

use crate::error::Failure;

/// Refuses a server that cannot skip locked rows, without which nodes wait for each other, and a
/// connection that would cut off values that are too long.
pub(super) async fn check(conn: &mut MySqlConnection) -> Result<(), Failure> {
    let sql = "SELECT CAST(version() AS CHAR), CAST(@@sql_mode AS CHAR)";
    let (version, mode): (String, String) = sqlx::query_as(sql).fetch_one(conn).await?;
    judge(&version)?;
    Ok(judge_mode(&mode)?)
}

fn judge_mode(mode: &str) -> Result<()> {
    if mode.split(',').any(|part| matches!(part, "STRICT_TRANS_TABLES" | "STRICT_ALL_TABLES")) {
        return Ok(());
    }
    let message = "the connections of the pool are not strict; add STRICT_TRANS_TABLES to their \
         `sql_mode`";
    Err(Error::new(Code::ConfigInvalid, message))
}

fn judge(version: &str) -> Result<()> {
    let mariadb = version.contains("MariaDB");
    let (name, least) = if mariadb { ("MariaDB", [10, 6, 0]) } else { ("MySQL", [8, 0, 19]) };
    if numbers(version) >= least {
        return Ok(());
    }
    let [major, minor, patch] = least;
    let message =
        format!("the server is {name} {version}; use version {major}.{minor}.{patch} or later");
    Err(Error::new(Code::Unsupported, message))
}

/// The first three numbers, behind the prefix by which MariaDB passes for an old MySQL.
fn numbers(version: &str) -> [u32; 3] {
    let version = version.strip_prefix("5.5.5-").unwrap_or(version);
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().ok());
    [(); 3].map(|()| parts.next().flatten().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_not_cut_off() {
        assert!(judge_mode("NO_ZERO_DATE,STRICT_TRANS_TABLES").is_ok());
        assert!(judge_mode("STRICT_ALL_TABLES").is_ok());
        assert_eq!(judge_mode("ANSI_QUOTES").unwrap_err().code(), Code::ConfigInvalid);
    }

    #[test]
    fn servers_without_skip_locked_are_refused() {
        for (version, fine) in [
            ("10.11.19-MariaDB-0+deb12u1-log", true),
            ("5.5.5-10.6.21-MariaDB", true),
            ("11.4.2-MariaDB", true),
            ("10.5.26-MariaDB", false),
            ("8.0.36-0ubuntu0.22.04.1", true),
            ("8.4.0", true),
            ("9.1.0", true),
            ("8.0.0", false),
            ("5.7.44-log", false),
        ] {
            assert_eq!(judge(version).is_ok(), fine, "{version}");
        }
        let error = judge("5.7.44").unwrap_err();
        assert_eq!(error.code(), Code::Unsupported);
        assert!(error.message().contains("8.0.19"), "{error}");
    }
}
