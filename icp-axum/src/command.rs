//! What every request that does something has in common.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use icp_core::Engine;
use icp_core::resource::Actor;

use crate::auth::Caller;
use crate::extract::{Params, Query};
use crate::problem::{Problem, Result};

/// Who asks for something to be done to what the path names. A command has no query parameters.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) engine: Engine,
    pub(crate) actor: Actor,
    pub(crate) params: Params,
}

impl FromRequestParts<Engine> for Command {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, engine: &Engine) -> Result<Self> {
        let Caller(actor) = Caller::from_request_parts(parts, engine).await?;
        let params = Params::from_request_parts(parts, engine).await?;
        let Ok(query) = Query::from_request_parts(parts, engine).await;
        query.only(&[])?;
        Ok(Self { engine: engine.clone(), actor, params })
    }
}
