//! The whole way, from a publish to a real receiver, on every store.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::needless_pass_by_value, reason = "`json!` is handed over at the call")]

#[path = "../database/mod.rs"]
mod database;
mod stage;

/// Runs each test once on each store.
macro_rules! on_every_store {
    ($($test:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::stage::Backend::memory().await).await;
            })+
        }
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::stage::Backend::sqlite().await).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let server = crate::database::Server::Postgres;
                super::$test(crate::stage::Backend::on(server).await).await;
            })+
        }
        mod mysql {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let server = crate::database::Server::MySql;
                super::$test(crate::stage::Backend::on(server).await).await;
            })+
        }
        mod mongodb {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let server = crate::database::Server::MongoDb;
                super::$test(crate::stage::Backend::on(server).await).await;
            })+
        }
    };
}
pub(crate) use on_every_store;

mod configuration;
mod delivery;
mod doze;
mod engines;
mod lanes;
mod letters;
mod notices;
mod operations;
mod order;
mod poison;
mod replay;
mod rotation;
mod secrets;
mod sources;
mod transaction;
mod trial;
