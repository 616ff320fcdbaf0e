//! What every request that does something has in common.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use icp_core::access::Reach;
use icp_core::engine::Within;
use icp_core::resource::{Actor, Resources};
use icp_core::{Code, Engine};

use crate::auth::Caller;
use crate::extract::{Params, Query};
use crate::problem::{Problem, Result};

/// Who asks for something to be done to what the path names. A command has no query parameters.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) engine: Engine,
    pub(crate) actor: Actor,
    pub(crate) params: Params,
    reach: Reach,
}

impl Command {
    /// The resources of organizations, as far as the caller reaches.
    pub(crate) fn reached(&self) -> Resources {
        self.engine.resources().within(self.reach.clone())
    }

    /// The organization in the path, as far as the caller reaches in it.
    pub(crate) fn within(&self) -> Result<Within> {
        Ok(self.engine.within(self.params.org()?, self.reach.clone()))
    }
}

impl FromRequestParts<Engine> for Command {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, engine: &Engine) -> Result<Self> {
        let Caller(actor) = Caller::from_request_parts(parts, engine).await?;
        let params = Params::from_request_parts(parts, engine).await?;
        let Ok(query) = Query::from_request_parts(parts, engine).await;
        query.only(&[])?;
        let unknown = || Problem::new(Code::Internal, "the route is not behind the api key");
        let reach = parts.extensions.get::<Reach>().cloned().ok_or_else(unknown)?;
        Ok(Self { engine: engine.clone(), actor, params, reach })
    }
}
