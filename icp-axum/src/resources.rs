//! Configuration: one set of handlers for every kind of resource.

mod bulk;
mod list;
mod versions;

use axum::http::header::{CONTENT_TYPE, ETAG, IF_MATCH, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, extract::State};
use icp_core::access::{ApiKeySpec, Operation, OrganizationSpec, Reach, UserSpec};
use icp_core::id::{OrgId, ResourceId};
use icp_core::integration::IntegrationSpec;
use icp_core::issuer::IssuerSpec;
use icp_core::resource::{Difference, Document, Draft, Expect, Kind, Revision, Spec};
use icp_core::{Code, Engine, Error};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use self::list::Fields;
use crate::command::Command;
use crate::endpoint::{Endpoint, KindRoute, may};
use crate::extract::{
    Body, Input, Location as Requested, MERGE_PATCH, Params, PatchBody, Query, header,
};
use crate::page::Listing;
use crate::problem::{Problem, Result};

const SHOW: &[&str] = &["fields"];
const PAGE: &[&str] = &["limit", "cursor"];
pub(crate) use bulk::refusal;

pub(crate) const GUARD: &[&str] = &["If-Match"];

impl Input for Draft {
    const INVALID: Code = Code::ResourceInvalid;
}

/// The routes of one kind. Organizations are at the top, all others below theirs.
pub(crate) fn endpoints(kind: &dyn Kind) -> Vec<Endpoint> {
    let (name, plural) = (kind.name(), kind.plural());
    let top = "/api/v1/organizations";
    let is_organization = name == OrganizationSpec::KIND;
    let (many, one) = if is_organization {
        (top.to_owned(), format!("{top}/{{org}}"))
    } else {
        (format!("{top}/{{org}}/{plural}"), format!("{top}/{{org}}/{plural}/{{id}}"))
    };
    let (a, s) = (capital(name), capital(plural));
    let read = may(kind.area(), Operation::Read);
    // What an organization may use of what all share is not its own to say.
    let (write, delete) = if is_organization {
        let configure = may(kind.area(), Operation::Configure);
        (configure, configure)
    } else {
        (may(kind.area(), Operation::Write), may(kind.area(), Operation::Delete))
    };
    let list = if is_organization {
        Endpoint::get(read, &many, list::organizations)
    } else {
        Endpoint::get(read, &many, list::list)
    };
    let list = list.query(list::LIST);
    let routes = [
        Endpoint::post(write, &many, create)
            .named(format!("create{a}"), format!("Makes a new {name}"))
            .takes::<Draft>()
            .answers::<Document>(201),
        list.named(format!("list{s}"), format!("Lists {plural}, ordered by id"))
            .answers::<Listing<Document>>(200),
        Endpoint::get(read, &one, get)
            .named(format!("get{a}"), format!("Shows one {name}, its secrets masked"))
            .query(SHOW)
            .answers::<Document>(200),
        Endpoint::put(write, &one, replace)
            .named(format!("replace{a}"), format!("Puts a whole new version of the {name}"))
            .headers(GUARD)
            .takes::<Draft>()
            .answers::<Document>(200),
        Endpoint::patch(write, &one, merge)
            .named(format!("patch{a}"), format!("Changes the {name} by a merge patch"))
            .headers(GUARD)
            .takes_as::<Value>(MERGE_PATCH)
            .answers::<Document>(200),
        Endpoint::delete(delete, &one, remove)
            .named(format!("delete{a}"), format!("Deletes the {name}"))
            .headers(GUARD)
            .answers_nothing(204),
        Endpoint::get(read, format!("{one}/history"), versions::history)
            .named(format!("get{a}History"), format!("Lists the versions of the {name}"))
            .query(PAGE)
            .answers::<Listing<Document>>(200),
        Endpoint::get(read, format!("{one}/versions/{{version}}"), versions::version)
            .named(format!("get{a}Version"), format!("Shows one version of the {name}"))
            .answers::<Document>(200),
        Endpoint::get(read, format!("{one}/versions/compare"), versions::compare)
            .named(format!("compare{a}Versions"), format!("Tells two versions of the {name} apart"))
            .query(versions::COMPARE)
            .answers::<Difference>(200),
        Endpoint::post(write, format!("{one}/rollback"), versions::rollback)
            .named(
                format!("rollback{a}"),
                format!("Makes an earlier version of the {name} the next"),
            )
            .headers(GUARD)
            .takes::<versions::Rollback>()
            .answers::<Document>(200),
    ];
    let mut routes = Vec::from(routes);
    let bulk = if is_organization {
        Endpoint::post(write, format!("/api/v1/bulk/{plural}"), bulk::organizations)
    } else {
        Endpoint::post(write, format!("{top}/{{org}}/bulk/{plural}"), bulk::bulk)
    };
    routes.push(
        bulk.named(
            format!("bulk{s}"),
            format!("Makes, changes, switches or deletes many {plural}"),
        )
        .takes::<bulk::Bulk>()
        .answers::<bulk::BulkAnswer>(200),
    );
    if !is_organization && name != IntegrationSpec::KIND {
        routes.push(
            Endpoint::post(write, format!("{one}/duplicate"), duplicate)
                .named(format!("duplicate{a}"), format!("Makes a copy of the {name}"))
                .takes::<Duplicate>()
                .answers::<Document>(201),
        );
    }
    // What proves who a principal is is not copied, and does not come back.
    let left_out: &[String] = match name {
        ApiKeySpec::KIND => {
            &[format!("create{a}"), format!("rollback{a}"), format!("duplicate{a}")]
        }
        UserSpec::KIND => &[format!("rollback{a}"), format!("duplicate{a}")],
        // Two issuers of the same tokens cannot be.
        IssuerSpec::KIND => &[format!("duplicate{a}")],
        _ => &[],
    };
    routes.retain(|endpoint| !left_out.contains(&endpoint.id));
    let routes = routes.into_iter().map(|endpoint| endpoint.of_kind(name));
    if kind.in_units() { routes.map(Endpoint::by_unit).collect() } else { routes.collect() }
}

async fn create(
    Extension(kind): Extension<KindRoute>,
    command: Command,
    requested: Requested,
    Body(draft): Body<Draft>,
) -> Result<Response> {
    let (resources, Command { engine, actor, params, .. }) = (command.reached(), command);
    let org = if kind.name == OrganizationSpec::KIND {
        match &draft.id {
            Some(id) => OrgId::new(id.as_str())?,
            None => OrgId::generate(engine.ids()),
        }
    } else {
        params.org()?
    };
    let document = resources.create(&org, kind.name, draft, &actor).await?;
    let location = (LOCATION, requested.of(&document.id));
    Ok((StatusCode::CREATED, [location], versioned(document)).into_response())
}

async fn get(
    State(engine): State<Engine>,
    Extension(kind): Extension<KindRoute>,
    Extension(reach): Extension<Reach>,
    params: Params,
    query: Query,
) -> Result<Response> {
    let query = query.only(SHOW)?;
    let (org, id) = target(&params, kind)?;
    let fields = Fields::of(&query)?;
    let shown = engine.resources().within(reach).look_at(&org, kind.name, &id).await?;
    let tag = [(ETAG, etag(&shown))];
    if fields.are_all() {
        let media = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        return Ok((tag, media, shown.json()?).into_response());
    }
    Ok((tag, Json(fields.of_document(&**shown)?)).into_response())
}

/// A copy of a resource.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Duplicate {
    /// The id of the copy; generated by default.
    #[serde(default)]
    id: Option<ResourceId>,
    /// The name of the copy; by default that of the original with ` (Copy)` behind.
    #[serde(default)]
    name: Option<String>,
}

impl Input for Duplicate {
    const INVALID: Code = Code::ResourceInvalid;
}

async fn duplicate(
    Extension(kind): Extension<KindRoute>,
    command: Command,
    requested: Requested,
    body: Option<Body<Duplicate>>,
) -> Result<Response> {
    let (within, Command { actor, params, .. }) = (command.within()?, command);
    let (org, id) = target(&params, kind)?;
    let called = body.map(|Body(copy)| (copy.id, copy.name)).unwrap_or_default();
    let copy = within.resources().copy(&org, kind.name, &id, called, &actor).await?;
    let location = (LOCATION, requested.beside(2, &copy.id));
    Ok((StatusCode::CREATED, [location], versioned(copy)).into_response())
}

async fn replace(
    Extension(kind): Extension<KindRoute>,
    command: Command,
    headers: HeaderMap,
    Body(draft): Body<Draft>,
) -> Result<Response> {
    let (resources, Command { actor, params, .. }) = (command.reached(), command);
    let (org, id) = target(&params, kind)?;
    let expect = expected(&headers)?;
    let written = resources.replace(&org, kind.name, &id, draft, expect, &actor).await;
    Ok(versioned(written.map_err(|error| guarded(error, expect))?))
}

async fn merge(
    Extension(kind): Extension<KindRoute>,
    command: Command,
    headers: HeaderMap,
    PatchBody(patch): PatchBody,
) -> Result<Response> {
    let (resources, Command { actor, params, .. }) = (command.reached(), command);
    let (org, id) = target(&params, kind)?;
    let expect = expected(&headers)?;
    let written = resources.merge_patch(&org, kind.name, &id, &patch, expect, &actor).await;
    Ok(versioned(written.map_err(|error| guarded(error, expect))?))
}

async fn remove(
    Extension(kind): Extension<KindRoute>,
    command: Command,
    headers: HeaderMap,
) -> Result<StatusCode> {
    let (resources, Command { actor, params, .. }) = (command.reached(), command);
    let (org, id) = target(&params, kind)?;
    let expect = expected(&headers)?;
    let deleted = resources.delete(&org, kind.name, &id, expect, &actor).await;
    deleted.map_err(|error| guarded(error, expect))?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the path names. An organization's id is that of its own resource.
fn target(params: &Params, kind: KindRoute) -> Result<(OrgId, ResourceId)> {
    let org = params.org()?;
    let id = if kind.name == OrganizationSpec::KIND {
        ResourceId::new(org.as_str())?
    } else {
        params.parse("id")?
    };
    Ok((org, id))
}

pub(crate) fn versioned(document: Document) -> Response {
    ([(ETAG, etag(&document))], Json(document)).into_response()
}

/// The entity tag of a document: its revision, which no other version has.
fn etag(document: &Document) -> String {
    format!("\"{}\"", document.revision)
}

/// What `If-Match` asks for.
pub(crate) fn expected(headers: &HeaderMap) -> Result<Expect> {
    let Some(tag) = header(headers, IF_MATCH.as_str())?.map(str::trim) else {
        return Ok(Expect::Present);
    };
    if tag == "*" {
        return Ok(Expect::Present);
    }
    let revision = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')?.parse().ok());
    revision.map(|revision| Expect::Revision(Revision(revision))).ok_or_else(|| {
        let hint = "use `*` or the `etag` of one answer in `if-match`, as in \"17\"";
        Problem::new(Code::HeaderInvalid, hint)
    })
}

/// A revision that the caller asked for and that is not there fails the precondition.
pub(crate) fn guarded(error: Error, expect: Expect) -> Problem {
    let failed = error.code() == Code::RevisionConflict && matches!(expect, Expect::Revision(_));
    let problem = Problem::from(error);
    if failed { problem.with_status(StatusCode::PRECONDITION_FAILED) } else { problem }
}

fn capital(word: &str) -> String {
    word.split(['_', '-'])
        .map(|part| {
            let mut letters = part.chars();
            let first = letters.next().map(|first| first.to_ascii_uppercase());
            first.into_iter().chain(letters).collect::<String>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preconditions_are_strict() {
        let of = |text: &'static str| {
            expected(&HeaderMap::from_iter([(IF_MATCH, text.parse().unwrap())]))
        };
        assert_eq!(expected(&HeaderMap::new()).unwrap(), Expect::Present);
        assert_eq!(of("*").unwrap(), Expect::Present);
        assert_eq!(of("\"17\"").unwrap(), Expect::Revision(Revision(17)));
        for bad in ["17", "\"x\"", "W/\"17\"", "\"1\", \"2\"", "\"\"", ""] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_of_operations_are_in_camel_case() {
        assert_eq!(capital("inbound_route"), "InboundRoute");
    }
}
