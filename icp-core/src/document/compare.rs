//! Equality and order of JSON values, exact for every number `serde_json` can hold.

use std::cmp::Ordering;

use serde_json::{Number, Value};

/// Whether two values are equal: numbers by value (`1` equals `1.0`), objects without regard
/// to the order of keys.
#[must_use]
pub fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => numbers(a, b) == Some(Ordering::Equal),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

/// The order of two numbers by value, or of two strings by code point; `None` for any other
/// pair.
///
/// Numbers are held as `i64`, `u64` or `f64`, and an integer is compared with a float without
/// rounding the integer: `9007199254740993` is greater than `9007199254740992.0`.
#[must_use]
pub fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => numbers(a, b),
        (Value::String(a), Value::String(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        _ => None,
    }
}

fn numbers(a: &Number, b: &Number) -> Option<Ordering> {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        (Some(a), None) => Some(integer_with_float(a, b.as_f64()?)),
        (None, Some(b)) => Some(integer_with_float(b, a.as_f64()?).reverse()),
        (None, None) => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

// JSON floats are finite, and every `i64` and `u64` lies well inside ±2^65, so a float beyond
// that decides by its sign and the rest converts to `i128` without loss.
fn integer_with_float(integer: i128, float: f64) -> Ordering {
    const BEYOND: f64 = 36_893_488_147_419_103_232.0;
    if float >= BEYOND {
        return Ordering::Less;
    }
    if float <= -BEYOND {
        return Ordering::Greater;
    }
    let floor = float.floor();
    #[expect(clippy::cast_possible_truncation, reason = "an integral float within ±2^65")]
    let whole = floor as i128;
    integer.cmp(&whole).then(if float > floor { Ordering::Less } else { Ordering::Equal })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_compare_without_rounding() {
        let table = [
            (json!(1), json!(1.0), Ordering::Equal),
            (json!(9_007_199_254_740_993_i64), json!(9_007_199_254_740_992.0), Ordering::Greater),
            (json!(u64::MAX), json!(18_446_744_073_709_551_616.0), Ordering::Less),
            (json!(-1), json!(u64::MAX), Ordering::Less),
            (json!(-3), json!(-2.5), Ordering::Less),
            (json!(-2), json!(-2.5), Ordering::Greater),
            (json!(i64::MIN), json!(-1e300), Ordering::Greater),
            (json!(0), json!(-0.0), Ordering::Equal),
        ];
        for (a, b, expected) in table {
            assert_eq!(order(&a, &b), Some(expected), "{a} and {b}");
            assert_eq!(order(&b, &a), Some(expected.reverse()), "{b} and {a}");
        }
    }

    #[test]
    fn kinds_do_not_mix() {
        assert_eq!(order(&json!("1"), &json!(1)), None);
        assert!(!equal(&json!("1"), &json!(1)));
        assert!(equal(&json!({"a": [1, 2.0]}), &json!({"a": [1.0, 2]})));
        assert!(!equal(&json!({"a": 1}), &json!({"b": 1})));
    }

    proptest! {
        #[test]
        fn integers_order_as_integers(a: i64, b: i64) {
            prop_assert_eq!(order(&json!(a), &json!(b)), Some(a.cmp(&b)));
        }

        #[test]
        fn floats_and_integers_are_antisymmetric(a: i64, b in -1e20_f64..1e20) {
            let forward = order(&json!(a), &json!(b)).unwrap();
            prop_assert_eq!(order(&json!(b), &json!(a)), Some(forward.reverse()));
        }
    }
}
