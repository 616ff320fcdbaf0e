//! Bounds that stand in a file beside this one.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// Writes the bounds anew when it is set to 1.
const BLESS: &str = "ICP_BLESS";

/// What was counted for a round of each operation.
pub(crate) type Figures = BTreeMap<&'static str, u64>;

/// Fails where a figure is above its bound by more than `room`, in percent, and where it is so far
/// `below` that the bound would let it grow again.
pub(crate) fn hold(file: &str, figures: &Figures, room: u64, below: Option<u64>) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/counts").join(file);
    if blessed() {
        let text = serde_json::to_string_pretty(figures).unwrap();
        return fs::write(&path, text + "\n").unwrap();
    }
    let text = fs::read_to_string(&path).unwrap_or_default();
    let bounds: BTreeMap<String, u64> = serde_json::from_str(&text).unwrap_or_default();
    let wrong: Vec<String> = figures
        .iter()
        .filter_map(|(name, figure)| wrong(name, *figure, *bounds.get(*name)?, room, below))
        .collect();
    assert!(
        wrong.is_empty(),
        "{file}: {}; look for the cause, or run `{BLESS}=1 cargo test --workspace --test counts` \
         and commit the file",
        wrong.join("; ")
    );
    let known: Vec<_> = bounds.keys().map(String::as_str).collect();
    let counted: Vec<_> = figures.keys().copied().collect();
    assert_eq!(known, counted, "{file} has other operations; run `{BLESS}=1 cargo test ..`");
}

fn wrong(name: &str, figure: u64, bound: u64, room: u64, below: Option<u64>) -> Option<String> {
    let percent = |more: u64| bound + bound * more / 100;
    if figure > percent(room) {
        return Some(format!("`{name}` takes {figure}, the bound is {bound} and {room} % more"));
    }
    let least = bound - bound * below.unwrap_or(100) / 100;
    (figure < least)
        .then(|| format!("`{name}` takes {figure} only, the bound is {bound}: put it there"))
}

#[expect(clippy::disallowed_methods, reason = "it is how tests are told to write")]
fn blessed() -> bool {
    std::env::var(BLESS).is_ok_and(|value| value == "1")
}

#[test]
fn growth_is_noticed_and_so_is_a_bound_far_above() {
    assert_eq!(wrong("sign", 105, 100, 5, Some(5)), None);
    assert_eq!(wrong("sign", 95, 100, 5, Some(5)), None);
    assert!(wrong("sign", 106, 100, 5, Some(5)).unwrap().contains("106, the bound is 100"));
    assert!(wrong("sign", 94, 100, 5, Some(5)).unwrap().contains("94 only"));
    assert_eq!(wrong("sign", 1, 100, 5, None), None);
    // An operation that allocates nothing has to stay so.
    assert!(wrong("match", 1, 0, 5, Some(5)).is_some());
}
