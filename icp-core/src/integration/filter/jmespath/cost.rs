//! Upper bounds on what an expression can cost, as lines in the size of the document.
//!
//! A size counts JSON nodes and one more for every 16 bytes of text, keys included.

use jpx_core::ast::Ast;
use serde_json::Value;

const MAX_DEPTH: usize = 64;
const MAX_GROWTH: u64 = 16;
const MAX_WORK: u64 = 128;
const MAX_FIXED: u64 = 16_384;
const FUNCTIONS: &[&str] = &[
    "abs",
    "avg",
    "ceil",
    "contains",
    "ends_with",
    "floor",
    "keys",
    "length",
    "max",
    "min",
    "not_null",
    "reverse",
    "starts_with",
    "sum",
    "to_array",
    "to_number",
    "to_string",
    "type",
    "values",
];

/// The other functions of the language.
const UNBOUNDED: &[&str] = &["join", "map", "max_by", "merge", "min_by", "sort", "sort_by"];

pub(super) enum Refusal {
    Invalid(String),
    /// It is right, and has no bound.
    Foreign(String),
    Costly(String),
}

/// `slope · n + fixed`.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
struct Line {
    slope: u64,
    fixed: u64,
}

#[derive(Clone, Copy)]
struct Bound {
    size: Line,
    work: Line,
}

const ONE: Line = Line { slope: 0, fixed: 1 };
const INPUT: Line = Line { slope: 1, fixed: 0 };

impl Line {
    fn plus(self, other: Self) -> Self {
        Self {
            slope: self.slope.saturating_add(other.slope),
            fixed: self.fixed.saturating_add(other.fixed),
        }
    }

    fn most(self, other: Self) -> Self {
        Self { slope: self.slope.max(other.slope), fixed: self.fixed.max(other.fixed) }
    }

    fn times(self, factor: u64) -> Self {
        Self { slope: self.slope.saturating_mul(factor), fixed: self.fixed.saturating_mul(factor) }
    }

    fn of(self, inner: Self) -> Self {
        inner.times(self.slope).plus(Self { slope: 0, fixed: self.fixed })
    }

    fn total(self) -> u64 {
        self.slope.saturating_add(self.fixed)
    }
}

pub(super) fn admit(ast: &Ast) -> Result<(), Refusal> {
    let bound = bound(ast, 1)?;
    let fixed = bound.size.fixed.max(bound.work.fixed);
    if bound.size.slope > MAX_GROWTH || bound.work.slope > MAX_WORK || fixed > MAX_FIXED {
        return Err(Refusal::Costly(
            "the expression could cost too much; use fewer projections, lists and repeated `@`"
                .into(),
        ));
    }
    Ok(())
}

fn bound(ast: &Ast, depth: usize) -> Result<Bound, Refusal> {
    if depth > MAX_DEPTH {
        return Err(Refusal::Costly("nest or chain at most 64 parts".into()));
    }
    let sub = |ast: &Ast| bound(ast, depth + 1);
    Ok(match ast {
        Ast::Field { .. } | Ast::Index { .. } | Ast::Identity { .. } => {
            Bound { size: INPUT, work: ONE }
        }
        Ast::Literal { value, .. } => {
            let size = Line { slope: 0, fixed: size(value) };
            Bound { size, work: size }
        }
        Ast::Subexpr { lhs, rhs, .. } => {
            let (lhs, rhs) = (sub(lhs)?, sub(rhs)?);
            let size = rhs.size.of(lhs.size);
            let copy =
                if matches!(ast, Ast::Subexpr { lhs, .. } if borrows(lhs)) { ONE } else { size };
            Bound { size, work: lhs.work.plus(rhs.work.of(lhs.size)).plus(copy) }
        }
        Ast::Projection { lhs, rhs, .. } => {
            let (lhs, rhs) = (sub(lhs)?, sub(rhs)?);
            let each = rhs.work.total().saturating_add(rhs.size.total());
            let size = lhs.size.times(rhs.size.total().max(1));
            Bound { size, work: lhs.work.plus(lhs.size.times(each)) }
        }
        Ast::Flatten { node, .. } | Ast::ObjectValues { node, .. } => {
            let node = sub(node)?;
            Bound { size: node.size, work: node.work.plus(node.size).plus(ONE) }
        }
        Ast::Slice { step, .. } if *step == 0 || step.unsigned_abs() > 65_536 => {
            return Err(Refusal::Invalid("slice by a step between 1 and 65536".into()));
        }
        Ast::Slice { .. } => Bound { size: INPUT, work: INPUT.plus(ONE) },
        Ast::Or { lhs, rhs, .. } | Ast::And { lhs, rhs, .. } => either(sub(lhs)?, sub(rhs)?),
        Ast::Condition { predicate, then, .. } => {
            let (predicate, then) = (sub(predicate)?, sub(then)?);
            let work = predicate.work.plus(then.work).plus(ONE);
            Bound { size: then.size.most(ONE), work }
        }
        Ast::Not { node, .. } => Bound { size: ONE, work: sub(node)?.work.plus(ONE) },
        Ast::Comparison { lhs, rhs, .. } => {
            let (lhs, rhs) = (sub(lhs)?, sub(rhs)?);
            let compared = lhs.size.min(rhs.size);
            Bound { size: ONE, work: lhs.work.plus(rhs.work).plus(compared).plus(ONE) }
        }
        Ast::MultiList { elements, .. } => sum(elements.iter().map(sub))?,
        Ast::MultiHash { elements, .. } => sum(elements.iter().map(|pair| {
            let value = sub(&pair.value)?;
            let key = Line { slope: 0, fixed: text(&pair.key) };
            Ok(Bound { size: value.size.plus(key), work: value.work })
        }))?,
        Ast::Function { name, args, .. } => {
            known(name)?;
            function(name, sum(args.iter().map(sub))?)
        }
        _ => {
            return Err(Refusal::Foreign(
                "`let`, variables and `&` expressions are not available in filters".into(),
            ));
        }
    })
}

fn either(a: Bound, b: Bound) -> Bound {
    Bound { size: a.size.most(b.size), work: a.work.plus(b.work).plus(ONE) }
}

// Every part is copied into the whole.
fn sum(parts: impl Iterator<Item = Result<Bound, Refusal>>) -> Result<Bound, Refusal> {
    parts.into_iter().try_fold(Bound { size: ONE, work: ONE }, |whole, part| {
        let part = part?;
        Ok(Bound {
            size: whole.size.plus(part.size),
            work: whole.work.plus(part.work).plus(part.size),
        })
    })
}

fn known(name: &str) -> Result<(), Refusal> {
    if FUNCTIONS.contains(&name) {
        return Ok(());
    }
    let hint = crate::document::pointer::nearest(name, FUNCTIONS);
    let why = format!("function {name:.32?} is not available in filters{hint}");
    Err(if UNBOUNDED.contains(&name) { Refusal::Foreign(why) } else { Refusal::Invalid(why) })
}

fn function(name: &str, args: Bound) -> Bound {
    let size = match name {
        // A control character of one byte is written as six.
        "to_string" => args.size.times(6),
        "keys" | "max" | "min" | "not_null" | "reverse" | "to_array" | "values" => args.size,
        _ => ONE,
    };
    Bound { size, work: args.work.plus(args.size).plus(size) }
}

// What is borrowed from the document is not copied on the way.
fn borrows(ast: &Ast) -> bool {
    match ast {
        Ast::Field { .. } | Ast::Index { .. } | Ast::Identity { .. } | Ast::Literal { .. } => true,
        Ast::Subexpr { lhs, rhs, .. } => borrows(lhs) && borrows(rhs),
        _ => false,
    }
}

fn text(text: &str) -> u64 {
    (text.len() / 16 + 1) as u64
}

fn size(value: &Value) -> u64 {
    match value {
        Value::String(string) => text(string),
        Value::Array(items) => items.iter().map(size).sum::<u64>() + 1,
        Value::Object(map) => map.iter().map(|(key, item)| text(key) + size(item)).sum::<u64>() + 1,
        _ => 1,
    }
}

/// Whether any part could look at the payload; unsure is yes.
pub(super) fn reads_data(ast: &Ast) -> bool {
    match ast {
        Ast::Field { name, .. } => name == "data",
        Ast::Literal { .. } | Ast::Index { .. } | Ast::Slice { .. } => false,
        Ast::Not { node, .. } => reads_data(node),
        Ast::Comparison { lhs, rhs, .. }
        | Ast::Or { lhs, rhs, .. }
        | Ast::And { lhs, rhs, .. }
        | Ast::Subexpr { lhs, rhs, .. } => reads_data(lhs) || reads_data(rhs),
        Ast::Function { args, .. } => args.iter().any(reads_data),
        _ => true,
    }
}
