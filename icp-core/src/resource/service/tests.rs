use serde_json::json;

use super::*;

#[test]
fn a_merge_patch_removes_on_null_and_replaces_what_is_no_object() {
    for (target, patch, merged) in [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!(["a"]), json!({"a": {"b": null}}), json!({"a": {}})),
    ] {
        let mut result = target;
        merge(&mut result, &patch);
        assert_eq!(result, merged);
    }
}
