//! A table, ready to be searched.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Number, Value};

use super::spec::size;
use super::{LookupSpec, Missing};
use crate::document::Path;
use crate::id::ResourceId;

/// A compiled table; entries that are not active are left out.
#[derive(Debug)]
pub struct Table {
    rows: Box<[Row]>,
    scopes: HashMap<Option<ResourceId>, Scope>,
    reverse: Box<[Path]>,
    missing: Missing,
    bytes: usize,
}

#[derive(Debug)]
struct Row {
    key: Arc<str>,
    value: Value,
}

/// The rows of one unit, or of the organization itself.
#[derive(Debug)]
struct Scope {
    keys: HashMap<Arc<str>, usize>,
    /// For each path of `reverse`.
    values: Box<[HashMap<Scalar, usize>]>,
}

/// A value that has an exact equal: numbers by their value, so that `1` is `1.0`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Scalar {
    Text(Box<str>),
    Integer(i128),
    /// A number with a fraction, or beyond 2^64, by its bits.
    Float(u64),
    Truth(bool),
}

/// An entry that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found<'a> {
    /// Its key.
    pub key: &'a str,
    /// What the key stands for.
    pub value: &'a Value,
}

impl Table {
    pub(super) fn new(spec: &LookupSpec, reverse: Vec<Path>) -> Self {
        let mut table = Self {
            rows: Box::default(),
            scopes: HashMap::new(),
            reverse: reverse.into(),
            missing: spec.on_missing.clone(),
            bytes: size(&spec.entries),
        };
        let mut rows = Vec::new();
        for entry in spec.entries.iter().filter(|entry| entry.active) {
            let row = Row { key: entry.key.as_str().into(), value: entry.value.clone() };
            table.add(entry.unit.clone(), &row, rows.len());
            rows.push(row);
        }
        table.rows = rows.into();
        table
    }

    fn add(&mut self, unit: Option<ResourceId>, row: &Row, index: usize) {
        let paths = &self.reverse;
        let scope = self.scopes.entry(unit).or_insert_with(|| Scope {
            keys: HashMap::new(),
            values: paths.iter().map(|_| HashMap::new()).collect(),
        });
        scope.keys.entry(Arc::clone(&row.key)).or_insert(index);
        for (path, values) in paths.iter().zip(&mut scope.values) {
            if let Some(scalar) = path.get(&row.value).and_then(Scalar::of) {
                values.entry(scalar).or_insert(index);
            }
        }
    }

    /// The bytes of all its entries as JSON, those that are not active too.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What a key stands for that has no entry.
    #[must_use]
    pub fn missing(&self) -> &Missing {
        &self.missing
    }

    /// Whether entries are found in reverse by this path.
    #[must_use]
    pub fn is_reversible(&self, path: &Path) -> bool {
        self.place(path).is_some()
    }

    /// The entry with this key in the first of `units` that has it, then in the organization
    /// itself.
    pub(super) fn by_key<'a, 'u>(
        &'a self,
        units: impl Iterator<Item = &'u ResourceId>,
        key: &str,
    ) -> Option<Found<'a>> {
        self.first(units, |scope| scope.keys.get(key))
    }

    /// The first entry whose value has `wanted` at `path`, as [`by_key`](Self::by_key). `None`
    /// too where the table is not searched by this path.
    pub(super) fn by_value<'a, 'u>(
        &'a self,
        units: impl Iterator<Item = &'u ResourceId>,
        path: &Path,
        wanted: &Value,
    ) -> Option<Found<'a>> {
        let place = self.place(path)?;
        let wanted = Scalar::of(wanted)?;
        self.first(units, |scope| scope.values.get(place)?.get(&wanted))
    }

    fn first<'a, 'u>(
        &'a self,
        units: impl Iterator<Item = &'u ResourceId>,
        search: impl Fn(&'a Scope) -> Option<&'a usize>,
    ) -> Option<Found<'a>> {
        let own = self.scopes.get(&None);
        // Most tables have no entries of units, and a unit can be far below the organization.
        let of_units = self.scopes.len() > usize::from(own.is_some());
        let mut scopes = units
            .take_while(|_| of_units)
            .filter_map(|unit| self.scopes.get(&Some(unit.clone())))
            .chain(own);
        let row = self.rows.get(*scopes.find_map(search)?)?;
        Some(Found { key: &row.key, value: &row.value })
    }

    fn place(&self, path: &Path) -> Option<usize> {
        self.reverse.iter().position(|known| known.steps() == path.steps())
    }
}

impl Scalar {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.as_str().into())),
            Value::Bool(truth) => Some(Self::Truth(*truth)),
            Value::Number(number) => Self::number(number),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn number(number: &Number) -> Option<Self> {
        if let Some(integer) = number.as_i128() {
            return Some(Self::Integer(integer));
        }
        let float = number.as_f64()?;
        // What lies beyond has no equal among the integers that JSON numbers are held as.
        const BEYOND: f64 = 36_893_488_147_419_103_232.0;
        if float.fract() == 0.0 && float.abs() < BEYOND {
            #[expect(clippy::cast_possible_truncation, reason = "integral and within ±2^65")]
            return Some(Self::Integer(float as i128));
        }
        Some(Self::Float(float.to_bits()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::document::equal;
    use crate::lookup::LookupEntry;

    fn table(spec: Value) -> Table {
        let spec: LookupSpec = serde_json::from_value(spec).unwrap();
        let paths = spec.reverse.iter().map(|text| Path::parse(text).unwrap()).collect();
        Table::new(&spec, paths)
    }

    fn units(names: &[&str]) -> Vec<ResourceId> {
        names.iter().map(|name| ResourceId::new(name).unwrap()).collect()
    }

    #[test]
    fn the_nearest_unit_wins_and_then_the_organization() {
        let table = table(json!({"reverse": ["@"], "entries": [
            {"key": "a", "value": "all"},
            {"key": "a", "value": "eu", "unit": "eu"},
            {"key": "a", "value": "off", "unit": "de", "active": false},
            {"key": "b", "value": "de only", "unit": "de"},
            {"key": "twin", "value": "eu"},
        ]}));
        let find = |at: &[&str], key: &str| {
            table.by_key(units(at).iter(), key).map(|found| found.value.clone())
        };
        for (at, key, expected) in [
            (vec![], "a", Some("all")),
            (vec!["us"], "a", Some("all")),
            (vec!["eu"], "a", Some("eu")),
            (vec!["de", "eu"], "a", Some("eu")),
            (vec!["de", "eu"], "b", Some("de only")),
            (vec!["eu"], "b", None),
            (vec![], "A", None),
        ] {
            assert_eq!(find(&at, key), expected.map(Value::from), "{at:?} {key}");
        }
        let path = Path::parse("@").unwrap();
        let reverse =
            |at: &[&str]| table.by_value(units(at).iter(), &path, &json!("eu")).unwrap().key;
        assert_eq!((reverse(&[]), reverse(&["de", "eu"])), ("twin", "a"));
    }

    #[test]
    fn reverse_is_by_exact_value_of_declared_paths_and_the_first_wins() {
        let table = table(json!({"reverse": ["code", "@"], "entries": [
            {"key": "one", "value": {"code": 1}},
            {"key": "uno", "value": {"code": 1.0}},
            {"key": "text", "value": {"code": "1"}},
            {"key": "big", "value": {"code": 9_007_199_254_740_993_i64}},
            {"key": "half", "value": {"code": 0.5}},
            {"key": "yes", "value": true},
            {"key": "none", "value": null},
            {"key": "list", "value": {"code": [1]}},
        ]}));
        let find = |path: &str, value: Value| {
            let path = Path::parse(path).unwrap();
            table.by_value([].iter(), &path, &value).map(|found| found.key)
        };
        for (path, value, expected) in [
            ("code", json!(1), Some("one")),
            ("code", json!(1.0), Some("one")),
            (r#"["code"]"#, json!(1), Some("one")),
            ("code", json!("1"), Some("text")),
            ("code", json!(9_007_199_254_740_993_i64), Some("big")),
            ("code", json!(9_007_199_254_740_992.0), None),
            ("code", json!(0.5), Some("half")),
            ("code", json!([1]), None),
            ("code", json!(true), None),
            ("@", json!(true), Some("yes")),
            ("@", json!(null), None),
            ("other", json!(1), None),
        ] {
            assert_eq!(find(path, value.clone()), expected, "{path} {value}");
        }
    }

    fn scalar() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<bool>().prop_map(Value::from),
            (-3_i64..3).prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-6_i32..6).prop_map(|half| json!(f64::from(half) / 2.0)),
            any::<f64>().prop_map(|float| json!(float)),
            "[ab1]{0,2}".prop_map(Value::from),
        ]
    }

    proptest! {
        #[test]
        fn reverse_finds_what_a_search_of_all_entries_finds(
            values in prop::collection::vec(scalar(), 0..12), wanted in scalar(),
        ) {
            let entries = values.iter().enumerate().map(|(index, value)| LookupEntry {
                key: index.to_string(),
                value: json!({"code": value}),
                unit: None,
                category: None,
                active: index % 4 != 3,
            });
            let spec = LookupSpec { entries: entries.collect(), ..LookupSpec::default() };
            let path = Path::parse("code").unwrap();
            let table = Table::new(&spec, vec![path.clone()]);
            let expected = spec.entries.iter().filter(|entry| entry.active && !wanted.is_null())
                .find(|entry| equal(&entry.value["code"], &wanted))
                .map(|entry| entry.key.as_str());
            let found = table.by_value([].iter(), &path, &wanted);
            prop_assert_eq!(found.map(|found| found.key), expected);
        }
    }
}
