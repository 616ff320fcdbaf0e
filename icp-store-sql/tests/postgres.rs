//! What is special to PostgreSQL: servers, roles, migrations, names, the host's transactions.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "postgres/access.rs"]
mod access;
mod database;
#[path = "postgres/foreign.rs"]
mod foreign;
#[path = "postgres/hint.rs"]
mod hint;
#[path = "postgres/host.rs"]
mod host;
#[path = "postgres/migration.rs"]
mod migration;
#[path = "postgres/policy.rs"]
mod policy;
#[path = "database/role.rs"]
mod role;
#[path = "postgres/rows.rs"]
mod rows;
#[path = "postgres/scratch.rs"]
mod scratch;
#[path = "postgres/wall.rs"]
mod wall;

mod fixture;
