//! The OpenAPI 3.1 document, made from the table of routes and the types of its bodies.

mod answers;
mod examples;
mod page;
mod parameters;

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use icp_core::Engine;
use icp_core::resource::KindRegistry;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::endpoint::{Content, Endpoint, Permit};
use crate::extract::{CSV, Query};
use crate::problem::{Problem, Result};
use crate::router;
use crate::transfer::YAML;
use parameters::parameters;

const SCHEMAS: &str = "/components/schemas";

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get(Permit::Known, "/api/v1/openapi.json", get)
            .named("openapi", "Shows this document")
            .answers::<Map<String, Value>>(200),
        Endpoint::get(Permit::Open, "/api/v1/docs", page::get)
            .named("docs", "Shows this document as a page")
            .answers_as::<String>(200, page::HTML),
    ]
}

async fn get(State(engine): State<Engine>, query: Query) -> Result<Response> {
    query.only(&[])?;
    let text = document(engine.resources().kinds()).to_string();
    let tag = format!("\"{}\"", STANDARD_NO_PAD.encode(Sha256::digest(&text)));
    Ok(([(CONTENT_TYPE, "application/json".to_owned()), (ETAG, tag)], text).into_response())
}

/// The OpenAPI 3.1 document of the routes for `kinds`.
#[must_use]
pub fn document(kinds: &KindRegistry) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = SCHEMAS.into();
        settings.meta_schema = None;
    });
    let mut schemas = settings.into_generator();
    let problem = schemas.subschema_for::<Problem>().to_value();
    let mut paths = Map::new();
    for endpoint in router::endpoints(kinds) {
        let operation = operation(&endpoint, &mut schemas, &problem);
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method.as_str().to_ascii_lowercase()] = operation;
    }
    let mut components = schemas.take_definitions(true);
    for kind in kinds.iter() {
        add_spec(&mut components, kind.name(), kind.schema().clone());
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "icp",
            "description": "An integration control plane: signed webhooks that are never silently lost.",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "security": [{ "bearer": [] }, { "header": [] }],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "header": { "type": "apiKey", "in": "header", "name": "X-API-Key" },
            },
        },
    })
}

fn operation(endpoint: &Endpoint, schemas: &mut SchemaGenerator, problem: &Value) -> Value {
    let mut success = json!({ "description": endpoint.summary });
    if let Some(content) = endpoint.answers {
        // A body that is taken as CSV is answered by a report.
        let csv = endpoint.csv && endpoint.takes.is_none();
        success["content"] = body(content, csv, endpoint.kind, schemas);
    }
    if endpoint.query.contains(&"fields") {
        loosen(&mut success);
    }
    let mut operation = json!({
        "operationId": endpoint.id,
        "summary": endpoint.summary,
        "parameters": parameters(endpoint),
        "responses": answers::responses(endpoint, success, problem),
    });
    if let Some(content) = endpoint.takes {
        let mut forms = body(content, endpoint.csv, endpoint.kind, schemas);
        if let Some(example) = examples::of(&endpoint.id) {
            forms[content.media]["example"] = example;
        }
        operation["requestBody"] =
            json!({ "required": !is_optional(&endpoint.id), "content": forms });
    }
    if let Permit::May(permission) = endpoint.permit {
        operation["x-permission"] = json!(permission.to_string());
    }
    if endpoint.by_unit {
        operation["x-by-unit"] = json!(true);
    }
    if endpoint.permit == Permit::Open {
        operation["security"] = json!([]);
    }
    operation
}

/// Whether the body of an operation may be left out.
fn is_optional(id: &str) -> bool {
    id == "cancelDelivery" || id.starts_with("duplicate")
}

/// Lets an answer be less than whole: only the fields that are asked for may be there.
fn loosen(success: &mut Value) {
    let Some(Value::Object(forms)) = success.get_mut("content") else { return };
    for form in forms.values_mut() {
        let whole = form["schema"].take();
        form["schema"] = json!({ "anyOf": [whole, { "type": "object" }] });
    }
}

fn body(content: Content, csv: bool, kind: Option<&str>, schemas: &mut SchemaGenerator) -> Value {
    let mut schema = (content.schema)(schemas).to_value();
    let is_document =
        ["Document", "Draft"].iter().any(|name| schema["$ref"] == format!("#{SCHEMAS}/{name}"));
    if let Some(kind) = kind.filter(|_| is_document) {
        let spec = json!({ "$ref": format!("#{SCHEMAS}/{}", spec_name(kind)) });
        schema = json!({ "allOf": [schema, { "properties": { "spec": spec } }] });
    }
    let mut forms = json!({ content.media: { "schema": schema.clone() } });
    if csv {
        forms[CSV] = json!({ "schema": { "type": "string" } });
    }
    if csv && schema["$ref"] == format!("#{SCHEMAS}/Rows") {
        forms[YAML] = json!({ "schema": schema });
    }
    forms
}

fn spec_name(kind: &str) -> String {
    format!("spec.{kind}")
}

/// Moves the schema of a kind in, its own definitions beside those of the others. One that is
/// called as another that is there takes the kind into its name.
fn add_spec(components: &mut Map<String, Value>, kind: &str, mut schema: Value) {
    let Value::Object(fields) = &mut schema else { return };
    fields.remove("$schema");
    let definitions = match fields.remove("$defs") {
        Some(Value::Object(definitions)) => definitions,
        _ => Map::new(),
    };
    let taken = taken(components, &definitions);
    let name = |name: &str| match taken.contains(name) {
        true => format!("{kind}.{name}"),
        false => name.to_owned(),
    };
    for (own, mut definition) in definitions {
        rebase(&mut definition, &name);
        components.insert(name(&own), definition);
    }
    rebase(&mut schema, &name);
    components.insert(spec_name(kind), schema);
}

/// Which of `definitions` cannot keep their names: another is called so, or what they refer to
/// cannot keep its name.
fn taken(components: &Map<String, Value>, definitions: &Map<String, Value>) -> BTreeSet<String> {
    let mut taken = BTreeSet::new();
    loop {
        let name = |name: &str| match taken.contains(name) {
            true => String::new(),
            false => name.to_owned(),
        };
        let clashes = definitions.iter().filter(|(own, definition)| {
            let mut definition = Value::clone(definition);
            rebase(&mut definition, &name);
            components.get(*own).is_some_and(|other| *other != definition)
        });
        let clashes: BTreeSet<_> = clashes.map(|(own, _)| own.clone()).collect();
        if clashes == taken {
            return taken;
        }
        taken = clashes;
    }
}

fn rebase(schema: &mut Value, name: &impl Fn(&str) -> String) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(target)) = fields.get_mut("$ref")
                && let Some(own) = target.strip_prefix("#/$defs/")
            {
                *target = format!("#{SCHEMAS}/{}", name(own));
            }
            fields.values_mut().for_each(|field| rebase(field, name));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rebase(item, name)),
        _ => {}
    }
}
