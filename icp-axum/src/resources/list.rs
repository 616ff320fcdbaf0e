//! Lists of resources: filtered, in an order, and only as wide as asked for.

use std::borrow::Borrow;

use axum::extract::State;
use axum::{Extension, Json};
use icp_core::access::Reach;
use icp_core::resource::{Document, Filter, Found, Kind, MAX_FILTERS, Search, select};
use icp_core::{Code, Engine, Error};
use serde::Serialize;
use serde_json::Value;

use crate::endpoint::KindRoute;
use crate::extract::{Params, Query};
use crate::page::{Listing, Pager};
use crate::problem::{Problem, Result};

pub(super) const LIST: &[&str] = &["limit", "cursor", "label", "filter", "sort", "fields"];

pub(super) async fn list(
    State(engine): State<Engine>,
    Extension(kind): Extension<KindRoute>,
    Extension(reach): Extension<Reach>,
    params: Params,
    query: Query,
) -> Result<Json<Listing<Shown<Document>>>> {
    let query = query.only(LIST)?;
    let resources = engine.resources().within(reach);
    let pager = Pager::of(&query)?;
    let search = search(&query, &pager, resources.kinds().get(kind.name)?.as_ref())?;
    listing(&query, &pager, resources.search(&params.org()?, kind.name, &search).await?)
}

pub(super) async fn organizations(
    State(engine): State<Engine>,
    Extension(kind): Extension<KindRoute>,
    query: Query,
) -> Result<Json<Listing<Shown<Document>>>> {
    let query = query.only(LIST)?;
    let resources = engine.resources();
    let pager = Pager::of(&query)?;
    let search = search(&query, &pager, resources.kinds().get(kind.name)?.as_ref())?;
    listing(&query, &pager, resources.search_organizations(&search).await?)
}

fn search(query: &Query, pager: &Pager, kind: &dyn Kind) -> Result<Search> {
    let page = pager.query()?;
    Ok(Search {
        labels: labels(query)?,
        filters: filters(query, kind)?,
        sort: query.one("sort")?.map(str::parse).transpose()?.unwrap_or_default(),
        after: page.after,
        limit: page.limit,
    })
}

fn listing(query: &Query, pager: &Pager, found: Found) -> Result<Json<Listing<Shown<Document>>>> {
    let fields = Fields::of(query)?;
    let items = found.items.into_iter().map(|document| fields.of_document(document));
    let items = items.collect::<Result<_>>()?;
    Ok(Json(pager.leading_to(items, found.next.as_ref())))
}

pub(super) fn labels(query: &Query) -> Result<Vec<(String, String)>> {
    let labels = query.all("label").map(|label| {
        let pair = label.split_once(':').map(|(key, value)| (key.to_owned(), value.to_owned()));
        pair.ok_or_else(|| query.refuse("label", "use the form key:value"))
    });
    labels.collect()
}

fn filters(query: &Query, kind: &dyn Kind) -> Result<Vec<Filter>> {
    if query.all("filter").count() > MAX_FILTERS {
        return Err(query.refuse("filter", format!("use at most {MAX_FILTERS} filters")));
    }
    let filters = query.all("filter").map(|text| Filter::parse(text, kind).map_err(Problem::from));
    filters.collect()
}

/// The fields of documents that are asked for; all by default.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    query: &'a Query,
    names: Option<Vec<&'a str>>,
}

impl<'a> Fields<'a> {
    pub(super) fn of(query: &'a Query) -> Result<Self> {
        let names = query.one("fields")?.map(|names| names.split(',').map(str::trim).collect());
        Ok(Self { query, names })
    }

    /// Whether nothing is left out.
    pub(super) fn are_all(&self) -> bool {
        self.names.is_none()
    }

    /// What is shown of `document`.
    pub(super) fn of_document<D: Borrow<Document>>(&self, document: D) -> Result<Shown<D>> {
        let Some(names) = &self.names else { return Ok(Shown::Whole(document)) };
        let document = serde_json::to_value(document.borrow()).map_err(|error| {
            Error::new(Code::Internal, "a document cannot be written").caused_by(error)
        })?;
        let part = select(&document, names).map_err(|hint| self.query.refuse("fields", hint))?;
        Ok(Shown::Part(part))
    }
}

/// A document, or those of its fields that were asked for.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Shown<D> {
    Whole(D),
    Part(Value),
}
