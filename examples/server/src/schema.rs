//! How far the tables of a store are, whichever store it is.

use icp::Result;

use crate::config::Config;
use crate::location::{Location, Scheme};
use crate::store::{about, not_built_in};

/// The steps by which the tables of a store come to be.
#[derive(Debug)]
pub(crate) enum Schema {
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    Sql(icp::store_sql::Migrations),
    #[cfg(feature = "mongodb")]
    Mongo(icp::store_mongo::Migrations),
}

/// How far they are.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Status {
    /// Whether anything is there.
    pub(crate) used: bool,
    /// What is to come, a line each.
    pub(crate) pending: Vec<String>,
    /// Whether a newer version of the server was here.
    pub(crate) newer: bool,
}

impl Schema {
    /// Those of the store that the settings name.
    pub(crate) async fn of(config: &Config) -> Result<Self> {
        let opened = match &config.store_url {
            #[cfg(feature = "sqlite")]
            Location::Sqlite(path) => {
                Ok(Self::Sql(icp::store_sql::sqlite::SqliteStore::builder(path).migrations()))
            }
            #[cfg(feature = "postgres")]
            Location::Server(Scheme::Postgres, url) => {
                icp::store_sql::postgres::PostgresStore::builder(url.expose())
                    .migrations()
                    .map(Self::Sql)
            }
            #[cfg(feature = "mysql")]
            Location::Server(Scheme::MySql, url) => {
                icp::store_sql::mysql::MySqlStore::builder(url.expose()).migrations().map(Self::Sql)
            }
            #[cfg(feature = "mongodb")]
            Location::Server(Scheme::MongoDb, url) => {
                icp::store_mongo::MongoStore::builder(url.expose())
                    .migrations()
                    .await
                    .map(Self::Mongo)
            }
            other => Err(not_built_in(other.scheme())),
        };
        opened.map_err(|error| about(&config.store_url, &error))
    }

    /// How far they are; changes nothing.
    pub(crate) async fn status(&self, config: &Config) -> Result<Status> {
        self.look().await.map_err(|error| about(&config.store_url, &error))
    }

    async fn look(&self) -> Result<Status> {
        match self {
            #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
            Self::Sql(steps) => {
                let status = steps.status().await?;
                let pending = status.pending.iter().map(|step| format!("migration {step}"));
                Ok(Status {
                    used: !status.applied.is_empty(),
                    pending: pending.collect(),
                    newer: !status.newer.is_empty(),
                })
            }
            #[cfg(feature = "mongodb")]
            Self::Mongo(steps) => {
                use icp::store_mongo::PlannedMigration;

                let status = steps.status().await?;
                let pending = status.pending.iter().map(|step| match step {
                    PlannedMigration::Index { collection, name, keys } => {
                        format!("index {name} of {collection} on {keys}")
                    }
                    PlannedMigration::Version(version) => format!("version {version}"),
                    other => format!("{other:?}"),
                });
                Ok(Status {
                    used: status.version.is_some(),
                    pending: pending.collect(),
                    newer: status.version.is_some_and(|version| version > status.known),
                })
            }
        }
    }

    /// The statements that [`apply`](Self::apply) would run, where the store has any.
    pub(crate) async fn statements(&self, config: &Config) -> Result<Vec<String>> {
        match self {
            #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
            Self::Sql(steps) => {
                let planned = steps.dry_run().await;
                let planned = planned.map_err(|error| about(&config.store_url, &error))?;
                Ok(planned.into_iter().map(|step| step.sql).collect())
            }
            #[cfg(feature = "mongodb")]
            Self::Mongo(_) => Ok(self.status(config).await?.pending),
        }
    }

    /// Does what is pending.
    pub(crate) async fn apply(&self, config: &Config) -> Result<()> {
        let done = match self {
            #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
            Self::Sql(steps) => steps.apply().await,
            #[cfg(feature = "mongodb")]
            Self::Mongo(steps) => steps.apply().await,
        };
        done.map_err(|error| about(&config.store_url, &error))
    }
}
