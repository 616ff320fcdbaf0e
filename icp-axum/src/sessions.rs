//! People: logging in and out, passwords, acting as somebody else; and who one is.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{Extensions, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use icp_core::access::{Area, BuiltInRole, OPERATORS, Operation, PermissionSet, Principal};
use icp_core::engine::{Impersonation, Login, Tokens};
use icp_core::id::{OrgId, ResourceId};
use icp_core::resource::Document;
use icp_core::secret::SecretString;
use icp_core::{Code, Engine};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::FirstUser;
use crate::auth::{Caller, place};
use crate::command::Command;
use crate::endpoint::{Endpoint, Permit, may};
use crate::extract::{Body, Input};
use crate::problem::{Problem, Result};

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let auth = "/api/v1/auth";
    let impersonation = may(Area::Users, Operation::Configure);
    vec![
        Endpoint::post(Permit::Open, format!("{auth}/bootstrap"), bootstrap)
            .named("bootstrap", "Makes the first user, who may do everything; once, and where the host lets requests do so")
            .takes::<Bootstrap>()
            .answers_nothing(204),
        Endpoint::post(Permit::Open, format!("{auth}/login"), log_in)
            .named("logIn", "Begins a session of a user")
            .takes::<Credentials>()
            .answers::<TokensView>(200),
        Endpoint::post(Permit::Open, format!("{auth}/refresh"), refresh)
            .named("refreshSession", "Goes on with a session; the token is good for this once")
            .takes::<Refresh>()
            .answers::<TokensView>(200),
        Endpoint::post(Permit::Open, format!("{auth}/logout"), log_out)
            .named("logOut", "Ends a session")
            .takes::<Refresh>()
            .answers_nothing(204),
        Endpoint::get(Permit::Known, format!("{auth}/me"), me)
            .named("me", "Says who calls, and what they may do")
            .answers::<Me>(200),
        Endpoint::put(Permit::Known, format!("{auth}/password"), change_password)
            .named("changePassword", "Sets the caller's own password, and ends their sessions")
            .takes::<PasswordChange>()
            .answers_nothing(204),
        Endpoint::post(impersonation, format!("{auth}/impersonate"), impersonate)
            .named("impersonate", "Lets an operator act in a role of an organization")
            .takes::<Impersonate>()
            .answers::<TokensView>(200),
        Endpoint::put(
            may(Area::Users, Operation::Write),
            "/api/v1/organizations/{org}/users/{id}/password",
            set_password,
        )
        .named("setUserPassword", "Sets the password of a user, and ends their sessions")
        .takes::<NewPassword>()
        .answers::<Document>(200),
        Endpoint::get(Permit::Known, "/api/v1/permissions", permissions)
            .named("listPermissions", "Lists every permission, and what the built-in roles have")
            .answers::<Permissions>(200),
    ]
}

macro_rules! inputs {
    ($($name:ident)+) => {$(
        impl Input for $name {
            const INVALID: Code = Code::ResourceInvalid;
        }
    )+};
}

inputs!(Bootstrap Credentials Refresh PasswordChange Impersonate NewPassword);

/// The first user.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Bootstrap {
    /// Their address.
    #[schemars(length(min = 3, max = 240))]
    email: String,
    /// Their password, of 12 characters or more.
    #[schemars(with = "String", extend("format" = "password", "writeOnly" = true))]
    password: Password,
}

/// A text that is shown nowhere.
#[derive(Deserialize)]
#[serde(transparent)]
struct Password(String);

impl From<Password> for SecretString {
    fn from(password: Password) -> Self {
        Self::from(password.0)
    }
}

async fn bootstrap(
    State(engine): State<Engine>,
    Extension(first): Extension<FirstUser>,
    Body(asked): Body<Bootstrap>,
) -> Result<StatusCode> {
    if first == FirstUser::ByTheHost {
        let message = "the host of this API makes the first principal by itself; ask who runs it";
        return Err(Problem::new(Code::PermissionDenied, message));
    }
    engine.bootstrap_user(&asked.email, asked.password.into()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How a user proves who they are.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Credentials {
    /// The organization of the user. Default that of the operators.
    #[serde(default)]
    organization: Option<OrgId>,
    /// The user's address.
    email: String,
    /// The user's password.
    #[schemars(with = "String", extend("format" = "password", "writeOnly" = true))]
    password: Password,
}

/// What a session gives its user.
#[derive(JsonSchema, Serialize)]
pub(crate) struct TokensView {
    /// To be sent as `Authorization: Bearer`.
    access_token: String,
    /// Always `Bearer`.
    token_type: &'static str,
    /// How long the access token is good, in seconds.
    expires_in: u64,
    /// What the session goes on with, once; missing where it ends with the access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// How long the refresh token is good, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_expires_in: Option<u64>,
}

impl TokensView {
    pub(crate) fn answer(tokens: &Tokens) -> Response {
        let refresh = tokens.refresh.as_ref();
        let view = Self {
            access_token: tokens.access.expose().to_owned(),
            token_type: "Bearer",
            expires_in: tokens.access_for.as_secs(),
            refresh_token: refresh.map(|token| token.expose().to_owned()),
            refresh_expires_in: refresh.map(|_| tokens.refresh_for.as_secs()),
        };
        ([(CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(view)).into_response()
    }
}

async fn log_in(
    State(engine): State<Engine>,
    extensions: Extensions,
    Body(asked): Body<Credentials>,
) -> Result<Response> {
    let from = place(&extensions);
    let org = match asked.organization {
        Some(org) => org,
        None => OrgId::new(OPERATORS)?,
    };
    let login = Login {
        org: &org,
        email: &asked.email,
        password: asked.password.into(),
        from: from.as_deref(),
    };
    let (tokens, _) = engine.log_in(login).await?;
    Ok(TokensView::answer(&tokens))
}

/// A session to go on with, or to end.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Refresh {
    /// The session's refresh token.
    #[schemars(with = "String", extend("format" = "password", "writeOnly" = true))]
    refresh_token: Password,
}

async fn refresh(State(engine): State<Engine>, Body(asked): Body<Refresh>) -> Result<Response> {
    let (tokens, _) = engine.refresh(&asked.refresh_token.0).await?;
    Ok(TokensView::answer(&tokens))
}

async fn log_out(State(engine): State<Engine>, Body(asked): Body<Refresh>) -> Result<StatusCode> {
    engine.log_out(&asked.refresh_token.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who calls.
#[derive(JsonSchema, Serialize)]
struct Me {
    /// What audit rows call them, as in `user:acme/ann` or `key:key_01…`.
    name: String,
    /// Their own organization; `null` for the host's own code.
    organization: Option<OrgId>,
    /// As what they act, where that is not as themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    acting_as: Option<String>,
    /// What they may do in their own organization.
    permissions: Vec<String>,
    /// What they may do in units of their own organization, and in the units below each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    units: Vec<InUnit>,
    /// What they may do in every organization.
    permissions_everywhere: Vec<String>,
}

/// What somebody may do in a unit.
#[derive(JsonSchema, Serialize)]
struct InUnit {
    /// The unit.
    unit: ResourceId,
    /// What they may do there.
    permissions: Vec<String>,
}

async fn me(Extension(principal): Extension<Principal>) -> Json<Me> {
    let home = principal.home().cloned();
    let here = home.as_ref().and_then(|home| principal.standing(home)).unwrap_or_default();
    Json(Me {
        name: principal.name().to_owned(),
        organization: home,
        acting_as: principal.acts_as().map(str::to_owned),
        permissions: texts(here.permissions),
        units: here
            .in_units
            .into_iter()
            .map(|(unit, may)| InUnit { unit, permissions: texts(may) })
            .collect(),
        permissions_everywhere: texts(principal.everywhere()),
    })
}

fn texts(set: PermissionSet) -> Vec<String> {
    set.iter().map(|permission| permission.to_string()).collect()
}

/// A new password of the caller.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PasswordChange {
    /// The present password.
    #[schemars(with = "String", extend("format" = "password", "writeOnly" = true))]
    present: Password,
    /// The new password, of 12 characters or more.
    #[schemars(with = "String", extend("format" = "password", "writeOnly" = true))]
    password: Password,
}

async fn change_password(
    State(engine): State<Engine>,
    Extension(principal): Extension<Principal>,
    Body(asked): Body<PasswordChange>,
) -> Result<StatusCode> {
    let PasswordChange { present, password } = asked;
    engine.change_password(&principal, present.into(), password.into()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// As whom an operator acts.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Impersonate {
    /// The organization.
    organization: OrgId,
    /// The role.
    role: ImpersonatedRole,
    /// Why, for the audit log; up to 500 characters.
    #[schemars(length(min = 1, max = 500))]
    reason: String,
}

/// A role that an operator can take.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ImpersonatedRole {
    /// The administrator of an organization.
    OrgAdmin,
    /// Somebody who looks at what is delivered.
    OrgUser,
}

async fn impersonate(
    State(engine): State<Engine>,
    Extension(principal): Extension<Principal>,
    Caller(actor): Caller,
    Body(asked): Body<Impersonate>,
) -> Result<Response> {
    let role = match asked.role {
        ImpersonatedRole::OrgAdmin => BuiltInRole::OrgAdmin,
        ImpersonatedRole::OrgUser => BuiltInRole::OrgUser,
    };
    let wanted = Impersonation { org: &asked.organization, role, reason: &asked.reason };
    Ok(TokensView::answer(&engine.impersonate(&principal, wanted, &actor).await?))
}

/// A password for a user.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewPassword {
    /// The password, of 12 characters or more.
    #[schemars(with = "String", extend("format" = "password", "writeOnly" = true))]
    password: Password,
}

async fn set_password(command: Command, Body(asked): Body<NewPassword>) -> Result<Json<Document>> {
    let Command { engine, actor, params, .. } = command;
    let (org, id) = (params.org()?, params.parse("id")?);
    Ok(Json(engine.set_password(&org, &id, asked.password.into(), &actor).await?))
}

/// Everything that can be granted.
#[derive(JsonSchema, Serialize)]
struct Permissions {
    /// Every permission.
    permissions: Vec<String>,
    /// The built-in roles.
    roles: Vec<RoleView>,
}

/// A built-in role.
#[derive(JsonSchema, Serialize)]
struct RoleView {
    /// Its name, as grants hold it.
    name: &'static str,
    /// What it may do.
    permissions: Vec<String>,
}

async fn permissions() -> Json<Permissions> {
    let roles = BuiltInRole::ALL
        .iter()
        .map(|role| RoleView { name: role.as_str(), permissions: texts(role.permissions()) });
    Json(Permissions { permissions: texts(PermissionSet::all()), roles: roles.collect() })
}
