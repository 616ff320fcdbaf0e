"""The blocking engine."""

from __future__ import annotations

import gc
import logging
import os
import pathlib
import queue
import sys
import tempfile
import threading
import time
import unittest
import warnings
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import icp
import make_sync
from icp._board import Backlog
from icp._native import Record
from icp._ops import Item
from support import Receiver, http_target, order


def engine(**settings: object) -> icp.Engine:
    return icp.Engine(store="memory:", allow_loopback=True, **settings)


class EngineTest(unittest.TestCase):
    def setUp(self) -> None:
        self.receiver = Receiver()
        self.addCleanup(self.receiver.close)

    def test_an_event_reaches_the_receiver(self) -> None:
        with engine() as host:
            host.organizations.put("acme")
            host.integrations.put("acme", http_target(self.receiver.url), id="crm")
            published = host.publish(order(17))
            done = host.deliveries.wait("acme", event=published["id"])
            self.assertEqual(done[0]["state"], "delivered")
            again = host.deliveries.retry("acme", done[0]["id"])
            host.deliveries.wait("acme", delivery=again["id"])
            self.assertEqual(self.receiver.received, [{"order": 17}] * 2)
            self.assertEqual(len(host.explain("acme", published["id"])["integrations"]), 1)

    def test_threads_share_an_engine(self) -> None:
        with engine() as host, ThreadPoolExecutor(8) as pool:
            host.organizations.put("acme")
            published = list(pool.map(host.publish, map(order, range(400))))
            self.assertEqual(len({one["id"] for one in published}), 400)

    def test_handlers_run_on_threads(self) -> None:
        with engine() as host:
            host.organizations.put("acme")

            @host.transformer("enrich")
            def enrich(event: dict[str, int], ctx: icp.RequestContext) -> object:
                return {**event, "by": ctx.handler}

            with self.assertRaises(icp.ConflictError):
                host.transformer("enrich")(enrich)
            host.integrations.put("acme", {
                **http_target(self.receiver.url),
                "transform": [{"host": {"handler": "enrich"}}],
            }, id="crm")
            published = host.publish(order(1))
            host.deliveries.wait("acme", event=published["id"])
            self.assertEqual(self.receiver.received, [{"order": 1, "by": "enrich"}])
            draft = {"transform": [{"host": {"handler": "enrich"}}],
                     "sample": {"type": "a.b", "data": {"a": 1}}}
            self.assertIn("enrich", str(host.dry_run("acme", draft)))

    def test_filters_run_on_threads(self) -> None:
        with engine() as host:
            host.organizations.put("acme")

            @host.filter("even")
            def even(event: dict[str, int], ctx: icp.RequestContext) -> bool:
                return event["order"] % 2 == 0

            host.integrations.put("acme", {
                **http_target(self.receiver.url),
                "transform": [{"host_filter": {"handler": "even"}}],
            }, id="crm")
            states = []
            for number in (1, 2):
                published = host.publish(order(number))
                states.append(host.deliveries.wait("acme", event=published["id"])[0]["state"])
            self.assertEqual(states, ["skipped", "delivered"])
            self.assertEqual(self.receiver.received, [{"order": 2}])
            draft = {"transform": [{"host_filter": {"handler": "even"}}],
                     "sample": {"type": "a.b", "data": {"order": 1}}}
            self.assertIn("does not let it pass", str(host.dry_run("acme", draft)))
            host.remove_handler("filter", "even")
            self.assertIn("no_handler", str(host.dry_run("acme", draft)))

    def test_signers_run_on_threads(self) -> None:
        with engine() as host:
            host.organizations.put("acme")

            @host.signer("vault")
            def sign(request: icp.UnsignedRequest, ctx: icp.RequestContext) -> dict[str, str]:
                return {"authorization": f"Length {len(request.body)}"}

            host.integrations.put("acme", {
                **http_target(self.receiver.url), "auth": {"type": "host", "handler": "vault"},
            }, id="crm")
            published = host.publish(order(1))
            host.deliveries.wait("acme", event=published["id"])
            self.assertEqual(self.receiver.headers[0]["authorization"], "Length 11")

    def test_event_sources_run_on_threads(self) -> None:
        with engine() as host:
            host.organizations.put("acme")

            @host.event_source("orders")
            def orders(after: object, ctx: icp.SourceContext) -> icp.SourceBatch | None:
                if after is not None:
                    return None
                event = {"id": "1", "type": "order.paid", "data": {"order": 1}}
                return {"events": [event], "checkpoint": {"row": 1}}

            host.integrations.put("acme", http_target(self.receiver.url), id="crm")
            host.kind("event_source").put("acme", {"type": "orders"}, id="orders")
            for _ in range(6_000):
                if self.receiver.received:
                    break
                time.sleep(0.02)
            self.assertEqual(self.receiver.received, [{"order": 1}])

    def test_changes_are_followed(self) -> None:
        with engine() as host:
            host.organizations.put("acme")
            with host.follow("acme", "changes") as changes:
                host.integrations.put("acme", http_target(self.receiver.url), id="crm")
                self.assertEqual(next(changes)["id"], "crm")
                ended: list[object] = []
                reader = threading.Thread(target=lambda: ended.append(list(changes)))
                reader.start()
            reader.join(20)
            self.assertEqual(ended, [[]])
            self.assertEqual(host._desk.board.subscriptions, {})

    def test_a_reader_that_is_too_slow_is_told_what_it_missed(self) -> None:
        items: queue.SimpleQueue[Record] = queue.SimpleQueue()
        backlog = Backlog(items)
        for number in range(1_030):
            body = b'{"item":{"number":%d}}' % number
            backlog.take(Record(1, Item.EVENT, 0, body))
        backlog.take(Record(1, Item.LAGGED, 0, b'{"dropped":4}'))
        for number in range(1_024):
            self.assertEqual(backlog.item(items.get()), (False, {"number": number}))
        with self.assertRaises(icp.Lagged) as lagged:
            backlog.item(items.get())
        self.assertEqual(lagged.exception.dropped, 6)

    def test_the_log_is_that_of_python(self) -> None:
        with self.assertLogs("icp", logging.INFO) as caught, engine(log=True):
            pass
        self.assertTrue(any("the engine runs" in line for line in caught.output), caught.output)

    def test_what_was_published_is_there_again(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            settings = {"store": f"sqlite:{folder}/icp.db", "key_file": f"{folder}/icp.key"}
            with icp.Engine(**settings) as host:
                host.organizations.put("acme")
                published = host.publish(order(1))
            with icp.Engine(**settings) as host:
                self.assertEqual(host.event("acme", published["id"])["data"], {"order": 1})

    def test_many_engines_leave_nothing_behind(self) -> None:
        def state() -> tuple[int, int]:
            return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

        def once() -> None:
            with engine(threads=1) as host:
                host.organizations.put("acme")
                host.publish(order(1))

        once()
        before = state()
        for _ in range(30):
            once()
        # Threads end a moment after their engine was closed.
        until = time.monotonic() + 20
        while any(now > then for now, then in zip(state(), before)):
            self.assertLess(time.monotonic(), until, f"{state()}, {before} before")
            time.sleep(0.01)

    def test_one_that_is_forgotten_is_stopped_with_a_warning(self) -> None:
        host = engine()
        host.start()
        thread = host._desk.thread
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del host
            gc.collect()
        self.assertEqual([warning.category for warning in caught], [ResourceWarning])
        self.assertFalse(thread.is_alive())

    def test_a_forked_child_may_not_use_it(self) -> None:
        with engine() as host:
            host.organizations.put("acme")
            child = os.fork()
            if child == 0:
                try:
                    host._link.submit(icp.Op.HEALTH, 1, b"")
                except icp.ForkedError:
                    os._exit(0)
                os._exit(1)
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
            self.assertIn("id", host.publish(order(1)))

    def test_the_blocking_twins_are_those_of_asyncio(self) -> None:
        groups = (make_sync.FOLDER / "_groups.py").read_text()
        self.assertEqual(groups, make_sync.made(), "run make_sync.py")


if __name__ == "__main__":
    unittest.main()
