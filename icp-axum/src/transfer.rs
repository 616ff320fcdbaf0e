//! The resources of an organization as a file, and a file as resources.

mod apply;
mod file;
mod import;

use std::collections::VecDeque;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, VARY};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};
use icp_core::access::{Area, Operation, OrganizationSpec, Permission};
use icp_core::id::{OrgId, ResourceId};
use icp_core::integration::IntegrationSpec;
use icp_core::resource::{Actor, ListQuery, Resources, Spec};
use icp_core::store::PageQuery;
use icp_core::{Code, Engine};

pub(crate) use self::file::YAML;
use self::file::{Format, Row, Rows};
use crate::auth::Caller;
use crate::endpoint::{Endpoint, may};
use crate::extract::{Params, Query, preferred};
use crate::problem::{Problem, Result};
use crate::resources::permit;

const EXPORT: &[&str] = &["kind", "format"];

/// How many resources are read at once.
const AT_ONCE: usize = 100;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let org = "/api/v1/organizations/{org}";
    let (read, write) =
        (may(Area::Integrations, Operation::Export), may(Area::Integrations, Operation::Write));
    vec![
        Endpoint::get(read, format!("{org}/export"), export)
            .named("exportResources", "Shows resources as a file, their secrets masked")
            .query(EXPORT)
            .answers::<Rows>(200)
            .csv_too(),
        Endpoint::post(write, format!("{org}/import"), import::import)
            .named("importResources", "Makes the rows of a file resources")
            .query(import::IMPORT)
            .takes::<Rows>()
            .csv_too()
            .answers::<import::ImportAnswer>(200),
        Endpoint::post(write, format!("{org}/apply"), apply::apply)
            .named("applyResources", "Makes changes of several kinds in one write, or none of them")
            .takes::<apply::Plan>()
            .answers::<apply::PlanAnswer>(200),
    ]
}

async fn export(
    State(engine): State<Engine>,
    Caller(actor): Caller,
    params: Params,
    query: Query,
    headers: HeaderMap,
) -> Result<Response> {
    let query = query.only(EXPORT)?;
    let org = params.org()?;
    let format = match query.one("format")? {
        Some(name) => {
            Format::named(name).ok_or_else(|| query.refuse("format", "use json, yaml or csv"))?
        }
        None => preferred(&headers, &Format::MEDIA).and_then(Format::of).ok_or_else(|| {
            let hint = format!("accept one of: {}", Format::MEDIA.join(", "));
            Problem::new(Code::NotAcceptable, hint)
        })?,
    };
    let fields = [
        (CONTENT_TYPE, format.media().to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{org}.{}\"", format.name())),
        (VARY, "accept".to_owned()),
    ];
    let kinds = kinds(engine.resources(), &query, &actor)?;
    let resources = engine.resources().clone();
    let mut export = Export { resources, org, kinds, after: None, format, count: 0, ended: false };
    // What fails at once is answered as a problem; what fails later breaks the answer off.
    let first = export.part().await?;
    let rest = stream::try_unfold(export, |mut export| async {
        Ok::<_, icp_core::Error>(export.part().await?.map(|part| (part, export)))
    });
    let parts = stream::iter(first.map(Ok)).chain(rest);
    Ok((fields, Body::from_stream(parts)).into_response())
}

/// The kinds that are asked for: by default all that the actor may export. Those that others
/// refer to come first.
fn kinds(resources: &Resources, query: &Query, actor: &Actor) -> Result<VecDeque<&'static str>> {
    let allowed = |area| Permission::new(area, Operation::Export);
    let mut chosen = VecDeque::new();
    let wanted: Vec<_> = query.all("kind").collect();
    for name in &wanted {
        let known = resources.kinds().get(name).ok();
        let kind = known.filter(|kind| kind.name() != OrganizationSpec::KIND);
        let kind = kind.ok_or_else(|| {
            let known = exportable(resources).map(|kind| kind.name()).collect::<Vec<_>>();
            query.refuse("kind", format!("use one of: {}", known.join(", ")))
        })?;
        permit(actor, allowed(kind.area()))?;
        chosen.push_back(kind.name());
    }
    if wanted.is_empty() {
        let kinds = exportable(resources);
        let kinds = kinds.filter(|kind| permit(actor, allowed(kind.area())).is_ok());
        chosen.extend(kinds.map(|kind| kind.name()));
    }
    let (last, mut first): (VecDeque<_>, VecDeque<_>) =
        chosen.into_iter().partition(|name| *name == IntegrationSpec::KIND);
    first.extend(last);
    Ok(first)
}

fn exportable(
    resources: &Resources,
) -> impl Iterator<Item = &std::sync::Arc<dyn icp_core::resource::Kind>> {
    resources.kinds().iter().filter(|kind| kind.name() != OrganizationSpec::KIND)
}

/// A file that is written part by part.
struct Export {
    resources: Resources,
    org: OrgId,
    /// The kinds that are still to be written.
    kinds: VecDeque<&'static str>,
    after: Option<ResourceId>,
    format: Format,
    /// How many rows were written.
    count: usize,
    ended: bool,
}

impl Export {
    async fn part(&mut self) -> Result<Option<Bytes>, icp_core::Error> {
        if self.ended {
            return Ok(None);
        }
        let Some(kind) = self.kinds.front() else {
            self.ended = true;
            return Ok(Some(self.format.end(self.count).into()));
        };
        let page = PageQuery { after: self.after.take(), limit: AT_ONCE };
        let query = ListQuery { labels: Vec::new(), page };
        let page = self.resources.list(&self.org, kind, &query).await?;
        if page.more {
            self.after = page.items.last().map(|document| document.id.clone());
        } else {
            self.kinds.pop_front();
        }
        let rows: Vec<_> = page.items.into_iter().map(Row::of).collect();
        let text = self.format.write(&rows, self.count)?;
        self.count += rows.len();
        Ok(Some(text.into()))
    }
}
