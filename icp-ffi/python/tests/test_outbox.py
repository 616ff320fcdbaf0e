"""Publishing in the host's own transaction."""

from __future__ import annotations

import pathlib
import sqlite3
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import icp
from support import Receiver, http_target, order


class OutboxTest(unittest.TestCase):
    def setUp(self) -> None:
        self.receiver = Receiver()
        self.addCleanup(self.receiver.close)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = f"{folder.name}/shop.db"

    def test_what_commits_is_published_and_what_rolls_back_is_not(self) -> None:
        with icp.Engine(store=f"sqlite:{self.file}", allow_loopback=True) as host:
            host.organizations.put("acme")
            host.integrations.put("acme", http_target(self.receiver.url), id="crm")
            shop = sqlite3.connect(self.file, timeout=30)
            self.addCleanup(shop.close)
            shop.execute("CREATE TABLE orders (number INTEGER)")
            shop.commit()
            ids = []
            for number, commits in ((17, True), (18, False), (19, True)):
                insert = host.outbox(order(number))
                shop.execute("INSERT INTO orders VALUES (?)", (number,))
                shop.execute(insert["sql"], insert["values"])
                if commits:
                    shop.commit()
                    ids.append(insert["id"])
                else:
                    shop.rollback()
            for id in ids:
                self.delivered(host, id)
            numbers = sorted(body["order"] for body in self.received())
            self.assertEqual(numbers, [17, 19])
            stored = shop.execute("SELECT number FROM orders ORDER BY number").fetchall()
            self.assertEqual(stored, [(17,), (19,)])

    def received(self) -> list[dict[str, int]]:
        return self.receiver.received  # type: ignore[return-value]

    def delivered(self, host: icp.Engine, id: str) -> None:
        while True:
            try:
                done = host.deliveries.wait("acme", event=id)
                self.assertEqual(done[0]["state"], "delivered")
                return
            except icp.NotFoundError:
                # It is taken over from the outbox a moment after the commit.
                host.health()

    def test_placeholders_are_those_of_the_driver(self) -> None:
        with icp.Engine(store=f"sqlite:{self.file}") as host:
            host.organizations.put("acme")
            native, other = host.outbox(order(1)), host.outbox(order(1), style="format")
            self.assertEqual(native["sql"].replace("?", "%s"), other["sql"])
            self.assertEqual(other["sql"].count("%s"), len(other["values"]))
            self.assertIn(b'{"order":1}', other["values"])
            with self.assertRaises(ValueError):
                host.outbox(order(1), style="named")
            with self.assertRaises(icp.InvalidError):
                host.outbox({"org": "acme", "type": "no type", "data": 1})

    def test_a_store_without_an_outbox_says_so(self) -> None:
        with icp.Engine(store="memory:") as host:
            host.organizations.put("acme")
            with self.assertRaises(icp.UnsupportedError):
                host.outbox(order(1))


if __name__ == "__main__":
    unittest.main()
