//! Files of lookup entries: any bytes are a table or a list of problems, and a table that was
//! exported can be imported again.

use icp_core::Engine;
use icp_core::id::ResourceId;
use icp_core::lookup::{Format, Import, ImportMode, ImportReport};
use icp_core::resource::{Actor, Draft, Expect, Resources};
use icp_core::store::MemoryStore;
use icp_fuzz::Draw;
use serde_json::{Value, json};

use crate::world::{block_on, org};

#[test]
fn imports() {
    bolero::check!().with_iterations(400).with_max_len(1_024).for_each(target);
}

fn target(bytes: &[u8]) {
    let mut draw = Draw::of(bytes);
    let format = draw.one(&[Format::Csv, Format::Json]);
    let data = match (draw.below(4), format) {
        (0, _) => bytes.get(2..).unwrap_or_default().to_vec(),
        (_, Format::Json) => entries(&mut draw).to_string().into_bytes(),
        _ => csv(&mut draw).into_bytes(),
    };
    block_on(round(&data, format));
}

async fn round(data: &[u8], format: Format) {
    let engine = Engine::builder(MemoryStore::new()).build().unwrap();
    let (resources, host, table) = (engine.resources(), Actor::host(), id("t"));
    for (kind, id, spec) in [
        ("organization", None, json!({ "units": [{ "id": "eu" }] })),
        ("lookup", Some(table.clone()), json!({ "entries": [] })),
    ] {
        let draft = Draft { id, spec, ..Draft::default() };
        resources.create(&org(), kind, draft, &host).await.unwrap();
    }
    // An error is one of the whole file, such as too large a one, or what a row alone cannot
    // show, such as a unit that is not there.
    let Ok(report) = import(resources, data, format).await else { return };
    assert_eq!(report.applied, report.problems.is_empty());
    if !report.applied {
        return;
    }
    assert_eq!(report.added, report.rows);
    for format in [Format::Csv, Format::Json] {
        let file = resources.export_lookup(&org(), &table, format, false).await.unwrap();
        let again = import(resources, &file, format).await.unwrap();
        let shown = String::from_utf8_lossy(&file).into_owned();
        assert_eq!(again.problems, [], "{shown}");
        assert_eq!((again.unchanged, again.changed), (report.rows, 0), "{shown}");
        assert_eq!((again.added, again.removed), (0, 0), "{shown}");
    }
}

async fn import(
    resources: &Resources,
    data: &[u8],
    format: Format,
) -> icp_core::Result<ImportReport> {
    let import = Import { data, format, mode: ImportMode::Replace, validate_only: false };
    resources.import_lookup(&org(), &id("t"), import, Expect::Present, &Actor::host()).await
}

fn id(text: &str) -> ResourceId {
    ResourceId::new(text).unwrap()
}

fn entries(draw: &mut Draw<'_>) -> Value {
    let entry = |draw: &mut Draw<'_>| {
        let mut entry = json!({ "key": draw.text(), "value": draw.value(2) });
        if draw.rarely(3) {
            entry["unit"] = draw.one(&["eu", "eu", "us"]).into();
        }
        if draw.rarely(3) {
            entry["category"] = draw.text().into();
        }
        if draw.rarely(3) {
            entry["active"] = draw.rarely(2).into();
        }
        entry
    };
    (0..draw.below(6)).map(|_| entry(draw)).collect()
}

fn csv(draw: &mut Draw<'_>) -> String {
    let header = draw.one(&["key,value", "value,key,unit", "key,json,active", "key", "key,nope"]);
    let columns = header.split(',').count();
    let mut text = header.to_owned();
    for _ in 0..draw.below(6) {
        text += draw.one(&["\n", "\r\n", "\r"]);
        let fields = (0..columns).map(|_| field(draw));
        text += &fields.collect::<Vec<_>>().join(draw.one(&[",", ",", ",", ";"]));
    }
    text
}

fn field(draw: &mut Draw<'_>) -> String {
    match draw.below(5) {
        0 => draw.one(&["eu", "true", "{\"a\":1}", "\"", "", "a,b"]).to_owned(),
        1 => format!("\"{}\"", draw.text().replace('"', "\"\"")),
        2 => draw.byte().to_string(),
        _ => draw.text(),
    }
}
