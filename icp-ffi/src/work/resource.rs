//! Resources of any kind.

use std::collections::BTreeMap;

use http::Method;
use icp::access::OrganizationSpec;
use icp::resource::Spec;
use icp::{Code, Error};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::route::{Ask, ask};
use crate::host::{Desk, Ended};
use crate::settings::{missing, read};
use crate::status::Failure;

/// Which resource, and what of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(default)]
    org: Option<String>,
    kind: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    document: Option<Box<RawValue>>,
    #[serde(default)]
    revision: Option<u64>,
    #[serde(default)]
    query: BTreeMap<String, Value>,
}

impl Input {
    fn is_organization(&self) -> bool {
        self.kind == OrganizationSpec::KIND
    }

    fn org(&self) -> Result<&str, Failure> {
        self.org.as_deref().ok_or_else(|| missing("/org", "name the organization"))
    }

    /// The path of all resources of the kind.
    fn many(&self, desk: &Desk) -> Result<Vec<String>, Failure> {
        let kind = desk.engine.resources().kinds().get(&self.kind)?;
        let top = "organizations".to_owned();
        if self.is_organization() {
            return Ok(vec![top]);
        }
        Ok(vec![top, self.org()?.to_owned(), kind.plural().to_owned()])
    }

    /// The path of the one that is meant.
    fn one(&self, desk: &Desk) -> Result<Vec<String>, Failure> {
        let mut path = self.many(desk)?;
        let id = self.id.as_deref();
        // An organization's id is that of its own resource.
        let id = if self.is_organization() { id.or(self.org.as_deref()) } else { id };
        path.push(id.ok_or_else(|| missing("/id", "name the resource"))?.to_owned());
        Ok(path)
    }

    fn has_id(&self) -> bool {
        self.id.is_some() || (self.is_organization() && self.org.is_some())
    }
}

fn asked(method: Method, path: &[String], body: Vec<u8>) -> Ask {
    let parts: Vec<_> = path.iter().map(String::as_str).collect();
    Ask::new(method, &parts, body)
}

/// Puts a version of a resource that is there, and makes one that is not. With a revision it has
/// to be there, at this revision.
pub(super) async fn put(desk: &Desk, body: &[u8]) -> Ended {
    let input: Input = read(body)?;
    let document = input.document.as_ref();
    let document = document.ok_or_else(|| missing("/document", "hand the resource in"))?;
    let document = document.get().as_bytes().to_vec();
    if !input.has_id() {
        return ask(desk, asked(Method::POST, &input.many(desk)?, document)).await;
    }
    let one = input.one(desk)?;
    let put = || asked(Method::PUT, &one, document.clone()).revision(input.revision);
    let absent = |failure: &Failure| {
        let unknown = [Code::ResourceNotFound.as_str(), Code::OrganizationUnknown.as_str()];
        failure.cause().is_some_and(|cause| unknown.contains(&cause))
    };
    match ask(desk, put()).await {
        Err(failure) if input.revision.is_none() && absent(&failure) => {}
        ended => return ended,
    }
    let id = one.last().map(String::as_str).unwrap_or_default();
    let made = with_id(&document, id)?;
    match ask(desk, asked(Method::POST, &input.many(desk)?, made)).await {
        // Another one was faster.
        Err(failure) if failure.cause() == Some(Code::ResourceExists.as_str()) => {
            ask(desk, put()).await
        }
        ended => ended,
    }
}

/// The document of a new resource of this id.
fn with_id(document: &[u8], id: &str) -> Result<Vec<u8>, Failure> {
    let mut members: BTreeMap<String, Box<RawValue>> = read(document)?;
    let text = serde_json::value::to_raw_value(id)
        .map_err(|_| Failure::from(Error::new(Code::Internal, "the id has no json form")))?;
    members.insert("id".to_owned(), text);
    super::json(&members)
}

pub(super) async fn get(desk: &Desk, body: &[u8]) -> Ended {
    let input: Input = read(body)?;
    ask(desk, asked(Method::GET, &input.one(desk)?, Vec::new())).await
}

pub(super) async fn list(desk: &Desk, body: &[u8]) -> Ended {
    let input: Input = read(body)?;
    let mut wanted = asked(Method::GET, &input.many(desk)?, Vec::new());
    wanted.query(&input.query)?;
    ask(desk, wanted).await
}

pub(super) async fn delete(desk: &Desk, body: &[u8]) -> Ended {
    let input: Input = read(body)?;
    let wanted = asked(Method::DELETE, &input.one(desk)?, Vec::new());
    ask(desk, wanted.revision(input.revision)).await
}
