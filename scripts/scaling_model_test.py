"""Tests of scripts/scaling-model: `python3 -m unittest scripts/scaling_model_test.py`."""

import contextlib
import importlib.machinery
import importlib.util
import io
import json
import pathlib
import sys
import unittest

PATH = pathlib.Path(__file__).resolve().parent / "scaling-model"


def load():
    """The script as a module; its name has no ending that Python would know."""
    sys.dont_write_bytecode = True
    loader = importlib.machinery.SourceFileLoader("scaling_model", str(PATH))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


model = load()

# Round numbers, so that what they come to can be reckoned by head.
ROUND = {
    "event_bytes": 500,
    "delivery_bytes": 250,
    "integration_memory": 1_000,
    "in_flight_memory": 10_000,
    "waiting_memory": 100,
    "node_memory": 1_000_000,
    "in_flight_of_a_node": 1_000,
    "postgres.engine_cpu_seconds_per_1000": 0.5,
    "postgres.database_cpu_seconds_per_1000": 0.25,
    "postgres.most_deliveries_per_second": 10_000,
    "postgres.connections_of_a_node": 11,
    "postgres.statements_per_delivery": 0.5,
    "sqlite.engine_cpu_seconds_per_1000": 0.5,
    "sqlite.database_cpu_seconds_per_1000": 0.0,
    "sqlite.most_deliveries_per_second": 10_000,
    "sqlite.connections_of_a_node": 3,
    "sqlite.statements_per_delivery": 0.5,
}


def constants():
    return model.Constants({"constants": {name: {"value": v} for name, v in ROUND.items()}})


def need(**load):
    return model.needs(model.Load(**load), constants())


class Needs(unittest.TestCase):
    def test_what_is_asked_for_is_multiplied(self):
        found = need(events=1_000, fan_out=4, answer=0.1, body=500, days=10, average=0.5)
        self.assertEqual(found.deliveries, 4_000)
        self.assertEqual((found.engine_cores, found.database_cores), (2.0, 1.0))
        self.assertEqual(found.in_flight, 400)
        self.assertEqual(found.statements, 2_000)
        # One node of four cores is half busy; another may be lost.
        self.assertEqual((found.cells, found.nodes, found.connections), (1, 2, 22))
        self.assertEqual(found.growth, 43_200_000 * (500 + 500 + 4 * 250))
        self.assertEqual(found.disk, 10 * found.growth)
        self.assertEqual(found.memory, 1_000_000 + 400 * 11_000 + 1_000 * 1_000)

    def test_endpoints_that_hang_take_room_and_no_time(self):
        quick, hanging = need(events=1_000), need(events=1_000, hanging=0.1)
        self.assertEqual((quick.in_flight, hanging.in_flight), (200, 3_180))
        self.assertEqual(quick.engine_cores, hanging.engine_cores)
        self.assertEqual((quick.nodes, hanging.nodes), (2, 5))

    def test_a_database_that_is_full_is_followed_by_another(self):
        self.assertEqual(need(events=10_000).cells, 1)
        two = need(events=10_001)
        self.assertEqual((two.cells, two.nodes), (2, 6))

    def test_a_file_has_one_node(self):
        self.assertEqual(need(events=1_000, store="sqlite").nodes, 1)
        five = need(events=10_000, store="sqlite")
        self.assertEqual((five.cells, five.nodes), (3, 3))

    def test_more_load_needs_no_less(self):
        few = {
            "events": 100,
            "fan_out": 1,
            "body": 100,
            "days": 1,
            "hanging": 0.01,
            "waiting": 10,
            "integrations": 10,
        }
        for name in few:
            before, after = need(**few), need(**{**few, name: few[name] * 10})
            for field in ("in_flight", "nodes", "memory", "disk", "connections"):
                self.assertLessEqual(getattr(before, field), getattr(after, field), (name, field))

    def test_what_is_no_load_is_refused_by_name(self):
        for wrong in (
            {"events": 0},
            {"events": -1},
            {"events": float("nan")},
            {"events": 1, "fan_out": 0},
            {"events": 1, "days": float("inf")},
            {"events": 1, "body": -1},
            {"events": 1, "hanging": 1.1},
            {"events": 1, "cores": 0},
            {"events": 1, "store": "papyrus"},
        ):
            name = list(wrong)[-1]
            with self.assertRaisesRegex(model.Invalid, f"^{name}: "):
                need(**wrong)


class Command(unittest.TestCase):
    def run_with(self, *arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = model.main(list(arguments))
        return code, out.getvalue(), err.getvalue()

    def test_people_and_programs_are_told_the_same(self):
        code, text, _ = self.run_with("--events", "2000")
        self.assertEqual(code, 0)
        self.assertRegex(text, r"deliveries a second +2,000\n")
        code, text, _ = self.run_with("--events", "2000", "--json")
        self.assertEqual((code, json.loads(text)["deliveries"]), (0, 2_000))

    def test_what_is_wrong_is_said(self):
        code, out, err = self.run_with("--events", "10", "--hanging", "2")
        self.assertEqual((code, out), (2, ""))
        self.assertEqual(err, "scaling-model: hanging: give a share from 0 to 1\n")


class Page(unittest.TestCase):
    def test_the_example_is_what_the_model_says(self):
        page = (model.CONSTANTS.parent / "scaling.md").read_text(encoding="utf-8")
        example = page.split("$ scripts/scaling-model ")[1].split("```")[0]
        arguments, expected = example.split("\n", 1)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            self.assertEqual(model.main(arguments.split()), 0)
        self.assertEqual(out.getvalue(), expected)


class Measured(unittest.TestCase):
    def test_each_constant_says_how_it_was_measured(self):
        document = json.loads(model.CONSTANTS.read_text(encoding="utf-8"))
        for name, entry in document["constants"].items():
            self.assertEqual(sorted(entry), ["by", "date", "unit", "value"], name)
            self.assertGreaterEqual(entry["value"], 0, name)
            self.assertRegex(entry["date"], r"^\d{4}-\d\d-\d\d$", name)

    def test_each_store_has_all(self):
        for store in ("sqlite", "postgres", "mysql", "mongodb"):
            model.needs(model.Load(events=1, store=store), model.Constants.read())


if __name__ == "__main__":
    unittest.main()
