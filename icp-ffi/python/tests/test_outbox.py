"""Publishing in the host's own transaction, by the libraries that hosts use."""

from __future__ import annotations

import contextlib
import json
import pathlib
import sqlite3
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import databases
import drivers
import icp
from support import Receiver, http_target, order

# What a driver might take for a placeholder, an escape or the end of a text.
ODD = "% %s $1 ? :a \\ ' \""
DATA = {"text": f"Größe \U0001f4e6 {ODD} \n \0", "list": [None, True, 1.5, {"": 2**53 + 1}]}


class Withdrawn(Exception):
    """The host gives its transaction up."""


def sale(number: int) -> dict[str, object]:
    """An event with all that is a text, a number or bytes in the statement."""
    texts = {name: f"{ODD} {number}" for name in ("idempotency_key", "ordering_key", "subject")}
    return {**order(number), "data": {"order": number, **DATA}, "ttl_seconds": 3_600, **texts}


class OutboxTest(unittest.TestCase):
    def setUp(self) -> None:
        self.receiver = Receiver()
        self.addCleanup(self.receiver.close)

    def test_what_commits_is_published_and_what_rolls_back_is_not(self) -> None:
        for place in (databases.sqlite, databases.postgres, databases.mysql):
            with place() as shop, icp.Engine(store=shop.url, allow_loopback=True) as host:
                host.organizations.put("acme")
                host.integrations.put("acme", http_target(self.receiver.url), id="crm")
                drivers.create_orders(shop)
                self.receiver.received.clear()
                self.sell(shop, host)

    def sell(self, shop: databases.Database, host: icp.Engine) -> None:
        """Of three orders by each library, the second is withdrawn."""
        committed, withdrawn = {}, []
        for at, library in enumerate(drivers.LIBRARIES[shop.kind]):
            for number in range(3 * at, 3 * at + 3):
                # As text, for letters would be escaped otherwise.
                event = json.dumps(sale(number), ensure_ascii=False)
                insert = host.outbox(event, style=library.style)
                self.assertEqual(insert["sql"].count("%s"), 0 if library.style == "native" else 16)
                with contextlib.suppress(Withdrawn), library.transaction(shop, number, insert):
                    if number == 3 * at + 1:
                        raise Withdrawn
                    committed[number] = insert["id"]
                if number not in committed:
                    withdrawn.append(insert["id"])
        for number, id in committed.items():
            self.delivered(host, id)
            sold, stored = sale(number), host.event("acme", id)
            for member in ("data", "idempotency_key", "ordering_key", "subject"):
                self.assertEqual(stored[member], sold[member], shop.kind)
        # These would have been taken over before those that came later.
        for id in withdrawn:
            with self.assertRaises(icp.NotFoundError):
                host.event("acme", id)
        numbers = sorted(committed)
        self.assertEqual(self.received(), [sale(number)["data"] for number in numbers])
        self.assertEqual(drivers.orders(shop), numbers)

    def received(self) -> list[dict[str, int]]:
        bodies: list[dict[str, int]] = self.receiver.received  # type: ignore[assignment]
        return sorted(bodies, key=lambda body: body["order"])

    def delivered(self, host: icp.Engine, id: str) -> None:
        end = time.monotonic() + 60
        while True:
            try:
                done = host.deliveries.wait("acme", event=id)
                self.assertEqual(done[0]["state"], "delivered")
                return
            except icp.NotFoundError:
                # It is taken over from the outbox a moment after the commit.
                self.assertLess(time.monotonic(), end, "it is not taken over")
                host.health()

    def test_a_statement_that_is_run_twice_counts_once(self) -> None:
        with databases.sqlite() as shop, icp.Engine(store=shop.url, allow_loopback=True) as host:
            host.organizations.put("acme")
            host.integrations.put("acme", http_target(self.receiver.url), id="crm")
            insert, last = host.outbox(order(1)), host.outbox(order(2))
            connection = sqlite3.connect(shop.rest, timeout=30)
            with contextlib.closing(connection), connection:
                for one in (insert, insert, last):
                    connection.execute(one["sql"], one["values"])
            for one in (insert, last):
                self.delivered(host, one["id"])
            self.assertEqual(self.received(), [{"order": 1}, {"order": 2}])

    def test_the_host_s_own_copy_of_sqlite_shares_the_file(self) -> None:
        with databases.sqlite() as shop, icp.Engine(store=shop.url, allow_loopback=True) as host:
            host.organizations.put("acme")
            drivers.create_orders(shop)

            def sell() -> None:
                for number in range(50):
                    insert = host.outbox(order(number))
                    # Each time the last connection of this copy is closed.
                    with drivers.with_sqlite3(shop, number, insert):
                        pass

            shopping = threading.Thread(target=sell)
            shopping.start()
            for number in range(50):
                host.publish(order(number))
            shopping.join()
            end = time.monotonic() + 60
            while (events := drivers.rows(shop, "SELECT COUNT(*) FROM icp_event")) != [100]:
                self.assertLess(time.monotonic(), end, events)
            self.assertEqual(drivers.orders(shop), list(range(50)))
            self.assertEqual(drivers.rows(shop, "PRAGMA integrity_check"), ["ok"])

    def test_what_is_wrong_is_refused_before_the_transaction(self) -> None:
        with databases.sqlite() as shop, icp.Engine(store=shop.url) as host:
            host.organizations.put("acme")
            for change, error, cause, path in (
                ({"ordering_key": "Größe"}, icp.InvalidError, "event_invalid", "/ordering_key"),
                ({"type": "no type"}, icp.InvalidError, "event_type_invalid", None),
                ({"org": "nobody"}, icp.NotFoundError, "organization_unknown", None),
            ):
                with self.assertRaises(error) as caught:
                    host.outbox({**order(1), **change})
                refused = caught.exception
                self.assertEqual((refused.cause, refused.path), (cause, path), refused)
            with self.assertRaisesRegex(ValueError, "`named` is no style; use native or format"):
                host.outbox(order(1), style="named")

    def test_a_store_without_an_outbox_says_so(self) -> None:
        with icp.Engine(store="memory:") as host:
            host.organizations.put("acme")
            with self.assertRaises(icp.UnsupportedError):
                host.outbox(order(1))


if __name__ == "__main__":
    unittest.main()
