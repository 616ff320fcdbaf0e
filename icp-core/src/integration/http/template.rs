//! Addresses, header fields and bodies with places for values of an event, each value escaped for
//! where it stands.

use std::fmt::Write as _;
use std::io;

use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Value, json};
use url::Url;

use crate::document::Path;
use crate::document::pointer::child;
use crate::document::template::{Part, Template, TooLong, text_of};
use crate::error::Violation;
use crate::event::Event;
use crate::id::ResourceId;
use crate::transform::MAX_OUTPUT;

/// The longest address that is made, in bytes.
const MAX_URL: usize = 8 << 10;
/// The longest value of a header field that is made, in bytes.
const MAX_HEADER: usize = 8 << 10;
const MAX_BODY_NODES: usize = 2_000;
const MAX_BODY_DEPTH: usize = 64;

const FIXED: &str = "scheme, host and port cannot hold places; write them out, with the `/` behind \
                     them";

/// What places are paths into: what conditions see of the event, its body as it is to be sent.
pub(super) fn document(event: &Event, body: &[u8]) -> Value {
    let data: Option<Value> =
        if event.is_json() { serde_json::from_slice(body).ok() } else { None };
    json!({
        "id": event.id,
        "type": event.event_type.as_str(),
        "org": event.org.as_str(),
        "unit": event.unit.as_ref().map(ResourceId::as_str),
        "ordering_key": event.ordering_key,
        "received_at": event.received_at,
        "content_type": event.content_type,
        "data": data,
    })
}

/// An address whose scheme, host and port are fixed.
#[derive(Debug)]
pub(super) struct UrlTemplate {
    pieces: Box<[Piece]>,
    /// The address with `x` in every place.
    literal: Url,
}

#[derive(Debug)]
enum Piece {
    Text(Box<str>),
    InPath(Path),
    InQuery(Path),
}

/// How far a text has come within an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stretch {
    Authority,
    Path,
    Query,
    Fragment,
}

impl UrlTemplate {
    /// Reads an address, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let template = Template::parse(text)?;
        let mut pieces = Vec::new();
        let (mut literal, mut other) = (String::new(), String::new());
        let mut stretch = Stretch::Authority;
        for part in template.parts() {
            let piece = match part {
                Part::Text(text) => {
                    literal.push_str(text);
                    other.push_str(text);
                    stretch = stretch.after(&literal, text);
                    Piece::Text(text.clone())
                }
                Part::Place(path) => {
                    literal.push('x');
                    other.push('y');
                    match stretch {
                        Stretch::Authority => {
                            return Err(FIXED.to_owned());
                        }
                        Stretch::Path => Piece::InPath(path.clone()),
                        Stretch::Query => Piece::InQuery(path.clone()),
                        Stretch::Fragment => return Err("a fragment is not sent".to_owned()),
                    }
                }
            };
            pieces.push(piece);
        }
        if template.has_places() && has_dot_segment(&literal) {
            return Err("write the path without `.` and `..`".to_owned());
        }
        let read =
            |text: &str| Url::parse(text).map_err(|error| format!("is not an address: {error}"));
        let literal = read(&literal)?;
        // However addresses are read: what a value is must make no difference to these.
        if shape(&read(&other)?) != shape(&literal) {
            return Err(FIXED.to_owned());
        }
        Ok(Self { pieces: pieces.into(), literal })
    }

    /// The address, with `x` in every place.
    pub(super) fn literal(&self) -> &Url {
        &self.literal
    }

    pub(super) fn has_places(&self) -> bool {
        self.pieces.iter().any(|piece| !matches!(piece, Piece::Text(_)))
    }

    /// The address with the values of `document`, or why there is none.
    pub(super) fn fill(&self, document: &Value) -> Result<Url, String> {
        let value = |path: &Path| path.get(document).and_then(text_of);
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::InPath(path) => match value(path).filter(|value| !value.is_empty()) {
                    Some(value) => percent_encode(&value, &mut text),
                    None => return Err(format!("`{path}` is missing or empty")),
                },
                Piece::InQuery(path) => match value(path) {
                    Some(value) => percent_encode(&value, &mut text),
                    None => return Err(format!("`{path}` is missing")),
                },
            }
            if text.len() > MAX_URL {
                return Err(format!("the address has more than {MAX_URL} bytes"));
            }
        }
        if has_dot_segment(&text) {
            return Err("a value makes a segment `.` or `..` of the path".to_owned());
        }
        let url = Url::parse(&text).map_err(|error| format!("it is no address: {error}"))?;
        // Escaping sees to it; a value that got out of its place all the same is not sent.
        if shape(&url) != shape(&self.literal) {
            return Err("a value does not stay in its place".to_owned());
        }
        Ok(url)
    }
}

impl Stretch {
    /// Where `text` ends, which is the end of `whole`.
    fn after(self, whole: &str, text: &str) -> Self {
        let (start, rest) = match self {
            Self::Authority => {
                let Some((_, rest)) = whole.split_once("://") else { return self };
                let Some(end) = rest.find(['/', '?', '#', '\\']) else { return self };
                (Self::Path, &rest[end..])
            }
            other => (other, text),
        };
        rest.chars().fold(start, |stretch, c| match (stretch, c) {
            (Self::Path, '?') => Self::Query,
            (Self::Path | Self::Query, '#') => Self::Fragment,
            (stretch, _) => stretch,
        })
    }
}

/// What no value may change of an address.
fn shape(url: &Url) -> impl PartialEq {
    (
        url.scheme().to_owned(),
        url.username().to_owned(),
        url.password().map(str::to_owned),
        url.host_str().map(str::to_owned),
        url.port(),
        url.path_segments().map(Iterator::count),
        url.query_pairs().count(),
        url.fragment().map(str::to_owned),
    )
}

/// Whether the path has a segment that addresses are read without.
fn has_dot_segment(url: &str) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.split(['/', '\\']).any(|segment| {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        segment == "." || segment == ".."
    })
}

/// Escapes all but what RFC 3986 calls unreserved.
fn percent_encode(value: &str, text: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

/// The value of a header field, with places.
#[derive(Debug)]
pub(super) struct HeaderTemplate(Template);

impl HeaderTemplate {
    /// Reads a value, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let template = Template::parse(text)?;
        let sendable = |part: &Part| match part {
            Part::Text(text) => HeaderValue::from_str(text).is_ok(),
            Part::Place(_) => true,
        };
        if !template.parts().iter().all(sendable) {
            return Err("has a value that cannot be sent".to_owned());
        }
        Ok(Self(template))
    }

    /// The value; `None` where one of its own values is missing or all of them are empty.
    pub(super) fn fill(&self, document: &Value) -> Result<Option<HeaderValue>, String> {
        let too_long = |TooLong| format!("the value has more than {MAX_HEADER} bytes");
        let text = self.0.render_with(document, true, MAX_HEADER, header_encode);
        let Some(text) = text.map_err(too_long)? else { return Ok(None) };
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        HeaderValue::from_str(text).map(Some).map_err(|_| "it is no header value".to_owned())
    }
}

/// Escapes, as in an address, what a header field cannot hold: line breaks above all.
fn header_encode(value: &str, text: &mut String) {
    for c in value.chars() {
        if c == ' ' || c.is_ascii_graphic() {
            text.push(c);
        } else {
            percent_encode(c.encode_utf8(&mut [0; 4]), text);
        }
    }
}

/// A JSON document, with places in its texts.
#[derive(Debug)]
pub(super) struct BodyTemplate(Node);

#[derive(Debug)]
enum Node {
    Fixed(Value),
    Value(Path),
    Text(Template),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl BodyTemplate {
    /// Compiles a document; `at` is the pointer to it.
    pub(super) fn compile(document: &Value, at: &str) -> Result<Self, Vec<Violation>> {
        let mut compiler = Compiler { nodes: 0, found: Vec::new() };
        let node = compiler.node(document, at, 0);
        if compiler.nodes > MAX_BODY_NODES {
            let message = format!("use at most {MAX_BODY_NODES} values");
            compiler.found.push(Violation::new(at, "too_large", message));
        }
        if compiler.found.is_empty() { Ok(Self(node)) } else { Err(compiler.found) }
    }

    /// The document with its places filled, as JSON text.
    pub(super) fn fill(&self, document: &Value) -> Result<Bytes, String> {
        let mut out = Bounded(Vec::new());
        let too_large = |_| format!("the body has more than {MAX_OUTPUT} bytes");
        self.0.write(document, &mut out).map_err(too_large)?;
        Ok(out.0.into())
    }
}

struct Compiler {
    nodes: usize,
    found: Vec<Violation>,
}

impl Compiler {
    fn node(&mut self, value: &Value, at: &str, depth: usize) -> Node {
        self.nodes += 1;
        if depth > MAX_BODY_DEPTH {
            let message = format!("use at most {MAX_BODY_DEPTH} levels");
            self.found.push(Violation::new(at, "too_deep", message));
            return Node::Fixed(Value::Null);
        }
        match value {
            Value::String(text) => self.text(text, at),
            Value::Array(items) => {
                let items = items.iter().enumerate();
                let items = items.map(|(n, item)| self.node(item, &child(at, n), depth + 1));
                Node::Array(items.collect())
            }
            Value::Object(members) => {
                let members = members.iter().map(|(name, member)| {
                    (name.clone(), self.node(member, &child(at, name), depth + 1))
                });
                Node::Object(members.collect())
            }
            other => Node::Fixed(other.clone()),
        }
    }

    fn text(&mut self, text: &str, at: &str) -> Node {
        match Template::parse(text) {
            Err(message) => {
                self.found.push(Violation::new(at, "template_malformed", message));
                Node::Fixed(Value::Null)
            }
            Ok(template) => match template.parts() {
                [Part::Place(path)] => Node::Value(path.clone()),
                _ if template.has_places() => Node::Text(template),
                _ => Node::Fixed(text.into()),
            },
        }
    }
}

impl Node {
    fn write(&self, document: &Value, out: &mut Bounded) -> io::Result<()> {
        let written = match self {
            Self::Fixed(value) => serde_json::to_writer(&mut *out, value),
            Self::Value(path) => {
                let value = path.get(document).unwrap_or(&Value::Null);
                serde_json::to_writer(&mut *out, value)
            }
            Self::Text(template) => {
                let text = template.render(document, false, MAX_OUTPUT);
                let text = text.map_err(|TooLong| io::Error::other("too long"))?;
                serde_json::to_writer(&mut *out, &text.unwrap_or_default())
            }
            Self::Array(items) => {
                return list(out, b"[]", items, |item, out| item.write(document, out));
            }
            Self::Object(members) => {
                return list(out, b"{}", members, |(name, member), out| {
                    serde_json::to_writer(&mut *out, name)?;
                    io::Write::write_all(out, b":")?;
                    member.write(document, out)
                });
            }
        };
        Ok(written?)
    }
}

fn list<T>(
    out: &mut Bounded,
    [open, close]: &[u8; 2],
    items: &[T],
    write: impl Fn(&T, &mut Bounded) -> io::Result<()>,
) -> io::Result<()> {
    use io::Write;
    out.write_all(&[*open])?;
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        write(item, out)?;
    }
    out.write_all(&[*close])
}

/// Bytes up to what a transformation may give.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other("too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
