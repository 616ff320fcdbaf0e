//! The declarative form: total, bounded, without regular expressions.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use crate::document::pointer::{child, nearest};
use crate::document::{Path, Step, equal, order};
use crate::error::{Code, Violation};

const MAX_DEPTH: usize = 16;
const MAX_NODES: usize = 256;
const GROUPS: &[&str] = &["$and", "$or", "$not"];
const OPERATORS: &[&str] = &[
    "$eq",
    "$ne",
    "$gt",
    "$gte",
    "$lt",
    "$lte",
    "$in",
    "$nin",
    "$exists",
    "$starts_with",
    "$ends_with",
    "$contains",
    "$not",
];

#[derive(Clone, Debug)]
pub(super) enum Test {
    All(Vec<Test>),
    Any(Vec<Test>),
    Not(Box<Test>),
    Value(Path, Operator),
}

#[derive(Clone, Debug)]
pub(super) enum Operator {
    Equal(Value),
    Differs(Value),
    Ordered(&'static str, Value),
    In(Vec<Value>),
    NotIn(Vec<Value>),
    Exists(bool),
    StartsWith(String),
    EndsWith(String),
    Contains(Value),
}

pub(super) fn compile(spec: &Map<String, Value>, at: &str) -> Result<Test, Vec<Violation>> {
    let mut compiler = Compiler { nodes: 0, violations: Vec::new() };
    let test = compiler.group(spec, at, 1);
    if compiler.nodes > MAX_NODES {
        compiler.violations.push(costly(at, "use at most 256 conditions and values"));
    }
    match test {
        Some(test) if compiler.violations.is_empty() => Ok(test),
        _ => Err(compiler.violations),
    }
}

fn costly(at: &str, message: &str) -> Violation {
    Violation::new(at, Code::FilterTooCostly.as_str(), message)
}

struct Compiler {
    nodes: usize,
    violations: Vec<Violation>,
}

impl Compiler {
    fn refuse<T>(&mut self, at: &str, message: impl Into<String>) -> Option<T> {
        self.violations.push(Violation::new(at, Code::FilterInvalid.as_str(), message));
        None
    }

    fn enter(&mut self, at: &str, depth: usize) -> Option<()> {
        self.nodes += 1;
        if depth > MAX_DEPTH {
            self.violations.push(costly(at, "nest at most 16 levels"));
            return None;
        }
        (self.nodes <= MAX_NODES).then_some(())
    }

    fn group(&mut self, spec: &Map<String, Value>, at: &str, depth: usize) -> Option<Test> {
        self.enter(at, depth)?;
        let mut tests = Vec::new();
        for (key, value) in spec {
            let place = child(at, key);
            tests.extend(match key.as_str() {
                "$and" => self.list(value, &place, depth).map(Test::All),
                "$or" => self.list(value, &place, depth).map(Test::Any),
                "$not" => match value {
                    Value::Object(inner) => self.group(inner, &place, depth + 1).map(negate),
                    _ => self.refuse(&place, "give `$not` an object of conditions"),
                },
                name if name.starts_with('$') => self.refuse(
                    &place,
                    format!("unknown operator {name:.32?} here{}", nearest(name, GROUPS)),
                ),
                "jmespath" => self.refuse(
                    &place,
                    "an expression is the whole filter; a field of the payload is `data.jmespath`",
                ),
                path => match Path::parse(path) {
                    Ok(path) => self.field(&path, value, &place, depth + 1),
                    Err(error) => self.refuse(&place, error.to_string()),
                },
            });
        }
        Some(Test::All(tests))
    }

    fn list(&mut self, value: &Value, at: &str, depth: usize) -> Option<Vec<Test>> {
        let items = match value.as_array() {
            Some(items) if !items.is_empty() => items,
            _ => return self.refuse(at, "give a list of at least one object of conditions"),
        };
        let mut tests = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let place = child(at, index);
            tests.extend(match item {
                Value::Object(inner) => self.group(inner, &place, depth + 1),
                _ => self.refuse(&place, "expected an object of conditions"),
            });
        }
        Some(tests)
    }

    fn field(&mut self, path: &Path, spec: &Value, at: &str, depth: usize) -> Option<Test> {
        let operators = match spec {
            Value::Object(map) if map.keys().any(|key| key.starts_with('$')) => map,
            operand => {
                self.operand(operand, at, depth)?;
                return Some(Test::Value(path.clone(), Operator::Equal(operand.clone())));
            }
        };
        self.enter(at, depth)?;
        let mut tests = Vec::new();
        for (name, operand) in operators {
            let place = child(at, name);
            if name == "$not" {
                let is_operators = operand
                    .as_object()
                    .is_some_and(|map| map.keys().any(|key| key.starts_with('$')));
                tests.extend(if is_operators {
                    self.field(path, operand, &place, depth + 1).map(negate)
                } else {
                    self.refuse(&place, "give `$not` an object of operators")
                });
            } else if self.operand(operand, &place, depth + 1).is_some() {
                let operator = self.operator(name, operand, &place);
                tests.extend(operator.map(|operator| Test::Value(path.clone(), operator)));
            }
        }
        Some(Test::All(tests))
    }

    fn operand(&mut self, value: &Value, at: &str, depth: usize) -> Option<()> {
        self.enter(at, depth)?;
        match value {
            Value::Array(items) => {
                items.iter().try_for_each(|item| self.operand(item, at, depth + 1))
            }
            Value::Object(map) => {
                map.values().try_for_each(|item| self.operand(item, at, depth + 1))
            }
            _ => Some(()),
        }
    }

    fn operator(&mut self, name: &str, operand: &Value, at: &str) -> Option<Operator> {
        let own = || operand.clone();
        let built = match name {
            "$eq" => return Some(Operator::Equal(own())),
            "$ne" => return Some(Operator::Differs(own())),
            "$contains" => return Some(Operator::Contains(own())),
            "$gt" | "$gte" | "$lt" | "$lte" => {
                let known = OPERATORS.iter().find(|known| **known == name);
                let fits = operand.is_number() || operand.is_string();
                known
                    .filter(|_| fits)
                    .map(|name| Operator::Ordered(name, own()))
                    .ok_or("a number or a string")
            }
            "$in" => operand.as_array().cloned().map(Operator::In).ok_or("a list"),
            "$nin" => operand.as_array().cloned().map(Operator::NotIn).ok_or("a list"),
            "$exists" => operand.as_bool().map(Operator::Exists).ok_or("true or false"),
            "$starts_with" => {
                operand.as_str().map(|text| Operator::StartsWith(text.into())).ok_or("a string")
            }
            "$ends_with" => {
                operand.as_str().map(|text| Operator::EndsWith(text.into())).ok_or("a string")
            }
            _ => {
                let hint = nearest(name, OPERATORS);
                return self.refuse(at, format!("unknown operator {name:.32?}{hint}"));
            }
        };
        match built {
            Ok(operator) => Some(operator),
            Err(wanted) => self.refuse(at, format!("give `{name}` {wanted}")),
        }
    }
}

fn negate(test: Test) -> Test {
    Test::Not(Box::new(test))
}

impl Test {
    pub(super) fn check(&self, document: &Value) -> Result<(), String> {
        match self {
            Self::All(tests) => tests.iter().try_for_each(|test| test.check(document)),
            Self::Any(tests) => {
                let mut first = None;
                for test in tests {
                    match test.check(document) {
                        Ok(()) => return Ok(()),
                        Err(why) => first = first.or(Some(why)),
                    }
                }
                Err(format!("no branch of `$or` holds, first: {}", first.unwrap_or_default()))
            }
            Self::Not(test) => match test.check(document) {
                Ok(()) => Err("the condition under `$not` holds".into()),
                Err(_) => Ok(()),
            },
            Self::Value(path, operator) if operator.holds(path.get(document)) => Ok(()),
            Self::Value(path, operator) => Err(format!("`{path}` fails `{}`", operator.name())),
        }
    }

    pub(super) fn reads_data(&self) -> bool {
        match self {
            Self::All(tests) | Self::Any(tests) => tests.iter().any(Self::reads_data),
            Self::Not(test) => test.reads_data(),
            Self::Value(path, _) => match path.steps().first() {
                Some(Step::Key(key)) => &**key == "data",
                Some(Step::Index(_)) => false,
                None => true,
            },
        }
    }
}

impl Operator {
    fn name(&self) -> &'static str {
        match self {
            Self::Equal(_) => "$eq",
            Self::Differs(_) => "$ne",
            Self::Ordered(name, _) => name,
            Self::In(_) => "$in",
            Self::NotIn(_) => "$nin",
            Self::Exists(_) => "$exists",
            Self::StartsWith(_) => "$starts_with",
            Self::EndsWith(_) => "$ends_with",
            Self::Contains(_) => "$contains",
        }
    }

    fn holds(&self, value: Option<&Value>) -> bool {
        let is = |wanted: &Value| value.is_some_and(|value| equal(value, wanted));
        let text = value.and_then(Value::as_str);
        match self {
            Self::Equal(wanted) => is(wanted),
            Self::Differs(wanted) => !is(wanted),
            Self::In(list) => list.iter().any(is),
            Self::NotIn(list) => !list.iter().any(is),
            Self::Exists(wanted) => value.is_some() == *wanted,
            Self::StartsWith(prefix) => text.is_some_and(|text| text.starts_with(prefix)),
            Self::EndsWith(suffix) => text.is_some_and(|text| text.ends_with(suffix)),
            Self::Ordered(name, bound) => {
                let found = value.and_then(|value| order(value, bound));
                found.is_some_and(|found| match *name {
                    "$gt" => found == Ordering::Greater,
                    "$gte" => found != Ordering::Less,
                    "$lt" => found == Ordering::Less,
                    _ => found != Ordering::Greater,
                })
            }
            Self::Contains(part) => match (value, part) {
                (Some(Value::Array(items)), part) => items.iter().any(|item| equal(item, part)),
                (Some(Value::String(text)), Value::String(part)) => text.contains(part.as_str()),
                _ => false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn verdict(spec: &Value) -> Result<(), String> {
        let document = json!({
            "type": "order.paid",
            "data": {"n": 5, "s": "abc", "list": [1, "x"], "null": null}
        });
        compile(spec.as_object().unwrap(), "").unwrap().check(&document)
    }

    #[test]
    fn operators_follow_the_table() {
        for (path, operators, expected) in [
            ("data.n", json!(5.0), true),
            ("data.n", json!("5"), false),
            ("data.n", json!({"$eq": 5}), true),
            ("data.n", json!({"$ne": 5}), false),
            ("data.gone", json!({"$ne": 5}), true),
            ("data.n", json!({"$gt": 5}), false),
            ("data.n", json!({"$gt": 4, "$lt": 6}), true),
            ("data.n", json!({"$gte": 5, "$lte": 5}), true),
            ("data.n", json!({"$lt": 5}), false),
            ("data.s", json!({"$gt": 4}), false),
            ("data.n", json!({"$in": [1, 5]}), true),
            ("data.gone", json!({"$in": [null]}), false),
            ("data.n", json!({"$nin": [1, 5]}), false),
            ("data.null", json!({"$exists": true}), true),
            ("data.gone", json!({"$exists": false}), true),
            ("data.s", json!({"$starts_with": "ab"}), true),
            ("data.n", json!({"$starts_with": ""}), false),
            ("data.s", json!({"$ends_with": "ab"}), false),
            ("data.s", json!({"$contains": "b"}), true),
            ("data.list", json!({"$contains": 1.0}), true),
            ("data.list", json!({"$contains": "y"}), false),
            ("data.n", json!({"$not": {"$gt": 5}}), true),
        ] {
            let spec = json!({path: operators});
            assert_eq!(verdict(&spec).is_ok(), expected, "{spec}");
        }
    }

    #[test]
    fn groups_combine_and_say_why() {
        assert_eq!(verdict(&json!({})), Ok(()));
        assert_eq!(verdict(&json!({"$or": [{"type": "x"}, {"data.n": 5}]})), Ok(()));
        assert_eq!(
            verdict(&json!({"type": "order.paid", "data.n": {"$gte": 9}})),
            Err("`data.n` fails `$gte`".into())
        );
        assert!(verdict(&json!({"$not": {"data.n": 5}})).is_err());
        assert!(verdict(&json!({"$and": [{"data.n": 5}, {"type": "x"}]})).is_err());
    }

    #[test]
    fn mistakes_are_pointed_at() {
        for (spec, pointer, part) in [
            (json!({"a": {"$gtee": 1}}), "/f/a/$gtee", "did you mean `$gte`?"),
            (json!({"$orr": []}), "/f/$orr", "did you mean `$or`?"),
            (json!({"$or": []}), "/f/$or", "at least one"),
            (json!({"a": {"$gt": true}}), "/f/a/$gt", "a number or a string"),
            (json!({"a..b": 1}), "/f/a..b", "malformed"),
            (json!({"$or": [{"jmespath": "data.n"}]}), "/f/$or/0/jmespath", "the whole filter"),
        ] {
            let list = compile(spec.as_object().unwrap(), "/f").unwrap_err();
            assert_eq!(list[0].pointer, pointer);
            assert_eq!(list[0].code, "filter_invalid");
            assert!(list[0].message.contains(part), "{}", list[0].message);
        }
    }

    #[test]
    fn depth_and_nodes_are_bounded() {
        let deep = (0..40).fold(json!({"a": 1}), |inner, _| json!({"$not": inner}));
        let wide = json!({"a": {"$in": vec![0; 300]}});
        let operand = (0..40).fold(json!(1), |inner, _| json!([inner]));
        for spec in [deep, wide, json!({"a": operand})] {
            let list = compile(spec.as_object().unwrap(), "").unwrap_err();
            assert_eq!(list[0].code, "filter_too_costly", "{list:?}");
        }
    }
}
