//! Names whose hashes collide. The engine's hash of a text is `h * 263 + unit` over its units of
//! 16 bits, without a secret, so that colliding texts can be computed.

use std::time::Duration;

use icp_sandbox::Limits;
use serde_json::json;

use super::{BOUNDED, STOPPED, Street};
use crate::fixture::{function, plan, report};

/// Two units that weigh the same: one more in the first is 263 less in the second.
fn pair(n: u32) -> [char; 2] {
    [0x0100 + n, 0xd000 - 263 * n].map(|unit| char::from_u32(unit).unwrap())
}

/// Up to 40,000 texts of four characters with the same hash.
fn colliding(count: u32) -> Vec<String> {
    (0..count).map(|n| [pair(n / 200), pair(n % 200)].concat().iter().collect()).collect()
}

/// As many texts of the same size with hashes of their own.
fn control(count: u32) -> Vec<String> {
    let unit = |n: u32| char::from_u32(n).unwrap();
    let text = |n| [0x0100 + n / 200, 0x8000, 0x0100 + n % 200, 0x8000].map(unit);
    (0..count).map(|n| text(n).iter().collect()).collect()
}

fn members(names: &[String]) -> String {
    let members: Vec<_> = names.iter().map(|name| format!("\"{name}\":1")).collect();
    format!("{{{}}}", members.join(","))
}

#[test]
fn the_names_collide() {
    let hash = |text: &String| {
        text.encode_utf16().fold(1_u32, |h, unit| h.wrapping_mul(263).wrapping_add(unit.into()))
    };
    let mut names = colliding(40_000);
    assert!(names.iter().all(|name| hash(name) == hash(&names[0])));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 40_000);
    let mut hashes: Vec<_> = control(4_096).iter().map(hash).collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert!(hashes.len() > 4_000);
}

/// Were this to fail because the flood costs nothing, the engine would have got a secret in its
/// hash, and the tests below would prove nothing.
#[tokio::test]
async fn names_within_the_limit_cost_more_and_are_read_all_the_same() {
    let mut limits = Limits::default();
    // It is the cost that is looked at, on any machine.
    limits.deadline_ms = Limits::MAX.deadline_ms;
    let street = Street::with(limits).await;
    let count = function("return Object.keys(payload).length");
    let cost = async |names: &[String]| -> Duration {
        let mut least = Duration::MAX;
        for _ in 0..3 {
            let done = report(&street.sandbox, "villain", &count, &members(names)).await.unwrap();
            least = least.min(done.cpu);
        }
        least
    };
    let (flood, equal) = (cost(&colliding(4_096)).await, cost(&control(4_096)).await);
    assert!(flood > equal * 3, "{flood:?} and {equal:?}");
    street.meet("at the limit", &count, &members(&colliding(4_096)), &["4096"]).await;
    let beyond = &members(&colliding(4_097));
    street.meet("beyond the limit", &count, beyond, &["!input_too_many_names"]).await;
    // Names count once, wherever they are.
    let halves = [members(&colliding(2_048)), members(&control(2_048))].join(",");
    street.meet("in several objects", &function("return 1"), &format!("[{halves}]"), &["1"]).await;
    let more = [members(&colliding(2_049)), members(&control(2_048))].join(",");
    let codes = &["!input_too_many_names"];
    street.meet("too many", &function("return 1"), &format!("[{more}]"), codes).await;
}

#[tokio::test]
async fn the_largest_limits_are_bounded_as_well() {
    let mut limits = Limits::default();
    (limits.names, limits.input_bytes) = (Limits::MAX.names, Limits::MAX.input_bytes);
    let street = Street::with(limits).await;
    let flood = members(&colliding(20_000));
    let count = function("return Object.keys(payload).length");
    let codes = [BOUNDED, &["20000"]].concat();
    street.meet("20,000 names", &count, &flood, &codes).await;
    for step in [
        json!({ "jmespath": { "source": "length(keys(@))" } }),
        json!({ "jsonata": { "source": "$count($keys($))" } }),
    ] {
        street.meet("another language", &plan(json!([step])), &flood, &codes).await;
    }
}

#[tokio::test]
async fn names_that_a_program_makes_are_bounded() {
    let mut names = json!(colliding(16_384)).to_string();
    names.retain(|text| text != ' ');
    assert!(names.len() <= 256 << 10, "{}", names.len());
    let street = Street::new().await;
    let codes = [STOPPED, &["!memory", "16384"]].concat();
    for (name, body) in [
        (
            "members",
            "const o = {}; for (const v of payload) o[v] = 1; return Object.keys(o).length",
        ),
        ("entries", "return Object.keys(Object.fromEntries(payload.map((v) => [v, 1]))).length"),
        (
            "parsed",
            "const text = '{' + payload.map((v) => `\"${v}\":1`).join(',') + '}'; return Object.keys(JSON.parse(text)).length",
        ),
        ("map", "return new Map(payload.map((v) => [v, 1])).size"),
        ("set", "return new Set(payload).size"),
        ("symbols", "const s = payload.map((v) => Symbol.for(v)); return s.length"),
        ("grouped", "return Object.keys(Object.groupBy(payload, (v) => v)).length"),
    ] {
        street.meet(name, &function(body), &names, &codes).await;
    }
}
