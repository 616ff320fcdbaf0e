//! The OpenAPI 3.1 document, made from the table of routes and the types of its bodies.

use axum::Json;
use axum::extract::State;
use icp_core::Engine;
use icp_core::resource::KindRegistry;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::endpoint::{Content, Endpoint, Permit};
use crate::extract::{CSV, Query};
use crate::problem::{PROBLEM_JSON, Problem, Result};
use crate::router;

const SCHEMAS: &str = "/components/schemas";

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get(Permit::Known, "/api/v1/openapi.json", get)
            .named("openapi", "Shows this document")
            .answers::<Map<String, Value>>(200),
    ]
}

async fn get(State(engine): State<Engine>, query: Query) -> Result<Json<Value>> {
    query.only(&[])?;
    Ok(Json(document(engine.resources().kinds())))
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
    let failure = json!({
        "description": "A problem by RFC 9457",
        "content": { PROBLEM_JSON: { "schema": problem } },
    });
    let mut operation = json!({
        "operationId": endpoint.id,
        "summary": endpoint.summary,
        "parameters": parameters(endpoint),
        "responses": { endpoint.status.to_string(): success, "default": failure },
    });
    if let Some(content) = endpoint.takes {
        operation["requestBody"] = json!({
            "required": endpoint.id != "cancelDelivery",
            "content": body(content, endpoint.csv, endpoint.kind, schemas),
        });
    }
    if let Permit::May(permission) = endpoint.permit {
        operation["x-permission"] = json!(permission.to_string());
    }
    if endpoint.permit == Permit::Open {
        operation["security"] = json!([]);
    }
    operation
}

fn body(content: Content, csv: bool, kind: Option<&str>, schemas: &mut SchemaGenerator) -> Value {
    let mut schema = (content.schema)(schemas).to_value();
    let is_document =
        ["Document", "Draft"].iter().any(|name| schema["$ref"] == format!("#{SCHEMAS}/{name}"));
    if let Some(kind) = kind.filter(|_| is_document) {
        let spec = json!({ "$ref": format!("#{SCHEMAS}/{}", spec_name(kind)) });
        schema = json!({ "allOf": [schema, { "properties": { "spec": spec } }] });
    }
    let mut forms = json!({ content.media: { "schema": schema } });
    if csv {
        forms[CSV] = json!({ "schema": { "type": "string" } });
    }
    forms
}

fn parameters(endpoint: &Endpoint) -> Vec<Value> {
    let in_path = endpoint.path.split('/').filter_map(|segment| {
        let name = segment.strip_prefix('{')?.strip_suffix('}')?;
        Some(json!({
            "name": name, "in": "path", "required": true, "schema": { "type": "string" },
        }))
    });
    let in_query = endpoint.query.iter().map(|name| {
        let schema = match *name {
            "limit" => json!({ "type": "integer", "minimum": 1, "maximum": 1000, "default": 50 }),
            "label" => json!({ "type": "array", "items": { "type": "string" } }),
            "since" | "until" => json!({ "type": "string", "format": "date-time" }),
            _ => json!({ "type": "string" }),
        };
        json!({ "name": name, "in": "query", "schema": schema })
    });
    let in_header = endpoint
        .headers
        .iter()
        .map(|name| json!({ "name": name, "in": "header", "schema": { "type": "string" } }));
    in_path.chain(in_query).chain(in_header).collect()
}

fn spec_name(kind: &str) -> String {
    format!("spec.{kind}")
}

/// Moves the schema of a kind in, its own definitions beside those of the others.
fn add_spec(components: &mut Map<String, Value>, kind: &str, mut schema: Value) {
    rebase(&mut schema);
    let Value::Object(fields) = &mut schema else { return };
    fields.remove("$schema");
    if let Some(Value::Object(definitions)) = fields.remove("$defs") {
        components.extend(definitions);
    }
    components.insert(spec_name(kind), schema);
}

fn rebase(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(target)) = fields.get_mut("$ref")
                && let Some(name) = target.strip_prefix("#/$defs/")
            {
                *target = format!("#{SCHEMAS}/{name}");
            }
            fields.values_mut().for_each(rebase);
        }
        Value::Array(items) => items.iter_mut().for_each(rebase),
        _ => {}
    }
}
