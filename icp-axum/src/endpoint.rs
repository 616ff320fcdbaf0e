//! One operation of the API: where it is, who answers it, and what its document says.

use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use icp_core::Engine;
use icp_core::access::{Area, Operation, Permission};
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// Makes the schema of a body, its parts named in the generator.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The kind of resource a route is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KindRoute {
    /// The name of the kind.
    pub(crate) name: &'static str,
}

/// Who may call an operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Permit {
    /// Everybody, known or not.
    Open,
    /// Everybody who is known.
    Known,
    /// Who has the permission: in the organization that the path names; in all of them where it
    /// names none.
    May(Permission),
}

/// Lets those call who have this permission.
pub(crate) const fn may(area: Area, operation: Operation) -> Permit {
    Permit::May(Permission::new(area, operation))
}

/// An operation of the API.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) permit: Permit,
    /// Whether who has the permission in some units of the organization is let in as well, to what
    /// is of these units.
    pub(crate) by_unit: bool,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) id: String,
    pub(crate) summary: String,
    pub(crate) query: &'static [&'static str],
    pub(crate) headers: &'static [&'static str],
    pub(crate) takes: Option<Content>,
    pub(crate) status: u16,
    pub(crate) answers: Option<Content>,
    /// Whether the bodies go as CSV as well.
    pub(crate) csv: bool,
    /// The kind whose spec takes the place of `spec` in bodies.
    pub(crate) kind: Option<&'static str>,
    pub(crate) handler: MethodRouter<Engine>,
}

/// A body: its media type and schema.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content {
    pub(crate) media: &'static str,
    pub(crate) schema: SchemaOf,
}

macro_rules! methods {
    ($($name:ident = $method:ident;)+) => {$(
        pub(crate) fn $name<H, T>(permit: Permit, path: impl Into<String>, handler: H) -> Self
        where
            H: Handler<T, Engine>,
            T: 'static,
        {
            Self::new(permit, Method::$method, path.into(), $name(handler))
        }
    )+};
}

impl Endpoint {
    methods! {
        get = GET;
        post = POST;
        put = PUT;
        patch = PATCH;
        delete = DELETE;
    }

    fn new(permit: Permit, method: Method, path: String, handler: MethodRouter<Engine>) -> Self {
        Self {
            permit,
            by_unit: false,
            method,
            path,
            id: String::new(),
            summary: String::new(),
            query: &[],
            headers: &[],
            takes: None,
            status: 200,
            answers: None,
            csv: false,
            kind: None,
            handler,
        }
    }

    /// Its name in the document and one line for people.
    pub(crate) fn named(mut self, id: impl Into<String>, summary: impl Into<String>) -> Self {
        self.id = id.into();
        self.summary = summary.into();
        self
    }

    /// The query parameters it takes.
    pub(crate) fn query(mut self, names: &'static [&'static str]) -> Self {
        self.query = names;
        self
    }

    /// The header fields that change what it does.
    pub(crate) fn headers(mut self, names: &'static [&'static str]) -> Self {
        self.headers = names;
        self
    }

    /// The JSON body it takes.
    pub(crate) fn takes<T: JsonSchema>(self) -> Self {
        self.takes_as::<T>("application/json")
    }

    /// The body it takes, by its media type.
    pub(crate) fn takes_as<T: JsonSchema>(mut self, media: &'static str) -> Self {
        self.takes = Some(Content { media, schema: SchemaGenerator::subschema_for::<T> });
        self
    }

    /// The status and JSON body of its success.
    pub(crate) fn answers<T: JsonSchema>(self, status: u16) -> Self {
        self.answers_as::<T>(status, "application/json")
    }

    /// The status and body of its success, by its media type.
    pub(crate) fn answers_as<T: JsonSchema>(mut self, status: u16, media: &'static str) -> Self {
        self.status = status;
        self.answers = Some(Content { media, schema: SchemaGenerator::subschema_for::<T> });
        self
    }

    /// The status of a success without a body.
    pub(crate) fn answers_nothing(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Takes and gives its bodies as CSV as well.
    pub(crate) fn csv_too(mut self) -> Self {
        self.csv = true;
        self
    }

    /// Lets those in as well who have the permission in some units of the organization: its handler
    /// asks how far they reach.
    pub(crate) fn by_unit(self) -> Self {
        Self { by_unit: true, ..self }
    }

    /// Makes it a route of a kind of resource.
    pub(crate) fn of_kind(mut self, name: &'static str) -> Self {
        self.kind = Some(name);
        self
    }
}
