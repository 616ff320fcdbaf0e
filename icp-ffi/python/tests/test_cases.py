"""The cases that every language runs alike."""

from __future__ import annotations

import json
import pathlib
import unittest

import icp

CASES = pathlib.Path(__file__).parents[2] / "tests" / "cases.json"


def filled(value: object, kept: dict[str, object]) -> object:
    """A value with what was kept in the place of its names."""
    if isinstance(value, str):
        return kept.get(value, value)
    if isinstance(value, list):
        return [filled(item, kept) for item in value]
    if isinstance(value, dict):
        return {name: filled(of, kept) for name, of in value.items()}
    return value


def has(found: object, expected: object) -> bool:
    """Whether all is found that is expected; more members are fine, more items are not."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return all(name in found and has(found[name], of) for name, of in expected.items())
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(has, found, expected))
    return found == expected and type(found) is type(expected)


class CasesTest(unittest.TestCase):
    def test_every_case_is_answered_as_it_says(self) -> None:
        kept: dict[str, object] = {}
        with icp.Engine(store="memory:", allow_loopback=True) as host:
            for case in json.loads(CASES.read_text()):
                status, body = "OK", filled(case["input"], kept)
                try:
                    answer = host.ask(icp.Op[case["op"]], body)
                except icp.IcpError as error:
                    status, answer = error.name, error.details
                self.assertEqual(status, case.get("status", "OK"), f"{case['name']}: {answer}")
                if "answer" in case:
                    self.assertTrue(has(answer, filled(case["answer"], kept)),
                                    f"{case['name']}: {answer}")
                for name, member in case.get("keep", {}).items():
                    kept[f"${name}"] = answer[member]

    def test_what_is_missing_in_an_answer_is_seen(self) -> None:
        found = {"a": [{"b": 1, "c": 2}], "d": None}
        self.assertTrue(has(found, {"a": [{"b": 1}]}))
        for missing in ({"a": []}, {"a": [{"b": 2}]}, {"e": None}, {"d": 0}):
            self.assertFalse(has(found, missing))


if __name__ == "__main__":
    unittest.main()
