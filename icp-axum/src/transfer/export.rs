//! Files that are written part by part, so that a long one is never held whole.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, VARY};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};
use icp_core::access::{OPERATORS, Operation, OrganizationSpec, Permission};
use icp_core::id::{OrgId, ResourceId};
use icp_core::integration::IntegrationSpec;
use icp_core::resource::{Actor, Kind, ListQuery, Resources, Spec};
use icp_core::store::PageQuery;
use icp_core::{Code, Engine, Error};

use super::file::{Format, Row};
use crate::auth::Caller;
use crate::extract::{Params, Query, preferred};
use crate::problem::{Problem, Result};

pub(super) const RESOURCES: &[&str] = &["kind", "format"];
pub(super) const ORGANIZATIONS: &[&str] = &["format"];

/// How many resources are read at once.
const AT_ONCE: usize = 100;

pub(super) async fn resources(
    State(engine): State<Engine>,
    Caller(actor): Caller,
    params: Params,
    query: Query,
    headers: HeaderMap,
) -> Result<Response> {
    let query = query.only(RESOURCES)?;
    let (org, format) = (params.org()?, format(&query, &headers)?);
    let name = org.to_string();
    let kinds = kinds(engine.resources(), &query, &actor)?;
    let resources = engine.resources().clone();
    let rows = Source::Resources { resources, org, kinds, after: None };
    Export { rows, format, count: 0, ended: false }.answer(&name).await
}

pub(super) async fn organizations(
    State(engine): State<Engine>,
    Caller(actor): Caller,
    query: Query,
    headers: HeaderMap,
) -> Result<Response> {
    let query = query.only(ORGANIZATIONS)?;
    let format = format(&query, &headers)?;
    let rows = Source::Organizations { engine, actor, after: None, ended: false };
    Export { rows, format, count: 0, ended: false }.answer("organizations").await
}

/// The format that the query names, or else that the header fields prefer.
fn format(query: &Query, headers: &HeaderMap) -> Result<Format> {
    match query.one("format")? {
        Some(name) => {
            Format::named(name).ok_or_else(|| query.refuse("format", "use json, yaml or csv"))
        }
        None => preferred(headers, &Format::MEDIA).and_then(Format::of).ok_or_else(|| {
            let hint = format!("accept one of: {}", Format::MEDIA.join(", "));
            Problem::new(Code::NotAcceptable, hint)
        }),
    }
}

/// The kinds that are asked for: by default all that the actor may export. Those that others
/// refer to come first.
fn kinds(resources: &Resources, query: &Query, actor: &Actor) -> Result<VecDeque<&'static str>> {
    let mut chosen = VecDeque::new();
    let wanted: Vec<_> = query.all("kind").collect();
    for name in &wanted {
        let known = resources.kinds().get(name).ok();
        let kind = known.filter(|kind| kind.name() != OrganizationSpec::KIND);
        let kind = kind.ok_or_else(|| {
            let known = exportable(resources).map(|kind| kind.name()).collect::<Vec<_>>();
            query.refuse("kind", format!("use one of: {}", known.join(", ")))
        })?;
        permit(actor, &**kind)?;
        chosen.push_back(kind.name());
    }
    if wanted.is_empty() {
        let kinds = exportable(resources);
        let kinds = kinds.filter(|kind| permit(actor, &***kind).is_ok());
        chosen.extend(kinds.map(|kind| kind.name()));
    }
    let (last, mut first): (VecDeque<_>, VecDeque<_>) =
        chosen.into_iter().partition(|name| *name == IntegrationSpec::KIND);
    first.extend(last);
    Ok(first)
}

/// Which kinds are in the file is for each of them to ask.
fn permit(actor: &Actor, kind: &dyn Kind) -> Result<()> {
    let permission = Permission::new(kind.area(), Operation::Export);
    if actor.may.as_ref().is_none_or(|authority| authority.here.has(permission)) {
        return Ok(());
    }
    let message = format!("ask for a role that has `{permission}` in this organization");
    Err(Problem::new(Code::PermissionDenied, message))
}

fn exportable(resources: &Resources) -> impl Iterator<Item = &Arc<dyn Kind>> {
    resources.kinds().iter().filter(|kind| kind.name() != OrganizationSpec::KIND)
}

/// A file that is written part by part.
struct Export {
    rows: Source,
    format: Format,
    /// How many rows were written.
    count: usize,
    ended: bool,
}

/// Where the rows of a file come from.
enum Source {
    Resources {
        resources: Resources,
        org: OrgId,
        /// The kinds that are still to be written.
        kinds: VecDeque<&'static str>,
        after: Option<ResourceId>,
    },
    Organizations {
        engine: Engine,
        actor: Actor,
        after: Option<OrgId>,
        ended: bool,
    },
}

impl Export {
    /// What fails at once is answered as a problem; what fails later breaks the answer off.
    async fn answer(mut self, name: &str) -> Result<Response> {
        let file = format!("attachment; filename=\"{name}.{}\"", self.format.name());
        let fields = [
            (CONTENT_TYPE, self.format.media().to_owned()),
            (CONTENT_DISPOSITION, file),
            (VARY, "accept".to_owned()),
        ];
        let first = self.part().await?;
        let rest = stream::try_unfold(self, |mut export| async {
            Ok::<_, Error>(export.part().await?.map(|part| (part, export)))
        });
        let parts = stream::iter(first.map(Ok)).chain(rest);
        Ok((fields, Body::from_stream(parts)).into_response())
    }

    async fn part(&mut self) -> Result<Option<Bytes>, Error> {
        if self.ended {
            return Ok(None);
        }
        let Some(rows) = self.rows.next().await? else {
            self.ended = true;
            return Ok(Some(self.format.end(self.count).into()));
        };
        let text = self.format.write(&rows, self.count)?;
        self.count += rows.len();
        Ok(Some(text.into()))
    }
}

impl Source {
    /// The next rows, which may be none of many; nothing behind the last.
    async fn next(&mut self) -> Result<Option<Vec<Row>>, Error> {
        match self {
            Self::Resources { resources, org, kinds, after } => {
                let Some(kind) = kinds.front() else { return Ok(None) };
                let page = PageQuery { after: after.take(), limit: AT_ONCE };
                let query = ListQuery { labels: Vec::new(), page };
                let page = resources.list(org, kind, &query).await?;
                if page.more {
                    *after = page.items.last().map(|document| document.id.clone());
                } else {
                    kinds.pop_front();
                }
                Ok(Some(page.items.into_iter().map(Row::of).collect()))
            }
            Self::Organizations { ended: true, .. } => Ok(None),
            Self::Organizations { engine, actor, after, ended } => {
                let page = PageQuery { after: after.take(), limit: AT_ONCE };
                let page = engine.resources().organizations(&page).await?;
                *ended = !page.more;
                let mut rows = Vec::with_capacity(page.items.len());
                for document in page.items {
                    let org = OrgId::new(document.id.as_str())?;
                    *after = Some(org.clone());
                    // Each installation has operators of its own.
                    if org.as_str() != OPERATORS {
                        engine.note_crossing(&org, actor).await?;
                        rows.push(Row::of(document));
                    }
                }
                Ok(Some(rows))
            }
        }
    }
}
