"""The engine on asyncio."""

from __future__ import annotations

import asyncio
import gc
import hmac
import json
import logging
import pathlib
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import icp
from support import Receiver, http_target, order


def engine(**settings: object) -> icp.AsyncEngine:
    return icp.AsyncEngine(store="memory:", allow_loopback=True, **settings)


class AsyncEngineTest(unittest.IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        self.receiver = Receiver()
        self.addCleanup(self.receiver.close)

    async def test_an_event_reaches_the_receiver(self) -> None:
        async with engine() as host:
            await host.organizations.put("acme")
            await host.integrations.put("acme", http_target(self.receiver.url), id="crm")
            published = await host.publish(order(17))
            self.assertEqual(published["deliveries"], 1)
            done = await host.deliveries.wait("acme", event=published["id"])
            self.assertEqual(done[0]["state"], "delivered")
            self.assertEqual(self.receiver.received, [{"order": 17}])
            tries = await host.deliveries.attempts("acme", done[0]["id"])
            self.assertEqual(tries["items"][0]["status"], 200)
            self.assertEqual((await host.event("acme", published["id"]))["data"], {"order": 17})
            self.assertTrue((await host.health())["ready"])
            self.assertIn("icp_", await host.metrics())
            listed = await host.integrations.list("acme", limit=5)
            self.assertEqual([item["id"] for item in listed["items"]], ["crm"])
            audit = await host.api("GET", "/api/v1/organizations/acme/audit", limit=1)
            self.assertEqual(len(audit["items"]), 1)

    async def test_text_and_bytes_are_published_as_they_are(self) -> None:
        async with engine() as host:
            await host.organizations.put("acme")
            for event in ('{"org":"acme","type":"a.b","data":1}', b'{"org":"acme","type":"a.b","data":1}'):
                self.assertIn("id", await host.publish(event))
            results = await host.publish_many([order(1), {"org": "acme"}, order(2)])
            self.assertIn("id", results[0])
            self.assertEqual(results[1]["error"]["name"], "INVALID")
            self.assertIn("id", results[2])

    async def test_each_failure_is_an_exception_of_its_kind(self) -> None:
        with self.assertRaises(icp.InvalidError) as caught:
            icp.AsyncEngine(store="nowhere:")
        self.assertEqual(caught.exception.path, "/store")
        host = engine()
        with self.assertRaises(icp.ClosedError):
            await host.publish(order(1))
        await host.start()
        with self.assertRaises(icp.ConflictError):
            await host.ask(icp.Op.START)
        with self.assertRaises(icp.NotFoundError) as missing:
            await host.publish(order(1))
        self.assertEqual(missing.exception.cause, "organization_unknown")
        await host.organizations.put("acme")
        await host.integrations.put("acme", http_target("http://127.0.0.1:9/"), id="crm")
        published = await host.publish(order(1))
        with self.assertRaises(icp.IcpTimeoutError) as late:
            await host.deliveries.wait("acme", event=published["id"], timeout=0.001)
        self.assertIsInstance(late.exception, TimeoutError)
        with self.assertRaises(icp.InvalidError):
            host.transformer("not a name")
        await host.close(drain=0)
        with self.assertRaises(icp.ClosedError):
            await host.publish(order(1))
        await host.close()

    async def test_handlers_shape_and_deliver(self) -> None:
        delivered: list[object] = []
        async with engine() as host:
            await host.organizations.put("acme")

            @host.transformer("enrich", timeout=5)
            async def enrich(event: dict[str, int], ctx: icp.RequestContext) -> object:
                await asyncio.sleep(0)
                if event["order"] == 2:
                    raise icp.Drop("a test order")
                return {**event, "vat": ctx.config["vat"]}

            @host.target("crm")
            def crm(event: dict[str, int], ctx: icp.RequestContext) -> int | None:
                if event["order"] == 3:
                    raise icp.DeliveryFailed("no such customer", again="impossible", kind="customer")
                delivered.append((event, ctx.attempt, threading.current_thread().name[:4]))
                return 201

            await host.integrations.put("acme", {
                "events": ["order.*"],
                "transform": [{"host": {"handler": "enrich", "config": {"vat": 19}}}],
                "target": {"kind": "host", "handler": "crm"},
            }, id="crm")
            states = []
            for number in (1, 2, 3):
                published = await host.publish(order(number))
                done = await host.deliveries.wait("acme", event=published["id"])
                states.append(done[0]["state"])
            self.assertEqual(states, ["delivered", "skipped", "dead"])
            self.assertEqual(delivered, [({"order": 1, "vat": 19}, 1, "icp-")])
            letters = await host.dead_letters.list("acme")
            self.assertEqual(len(letters["items"]), 1)
            await host.remove_handler("target", "crm")
            with self.assertRaises(icp.NotFoundError):
                await host.remove_handler("target", "crm")

    async def test_filters_decide(self) -> None:
        async with engine() as host:
            await host.organizations.put("acme")

            @host.filter("large", timeout=5)
            async def large(event: dict[str, int], ctx: icp.RequestContext) -> object:
                await asyncio.sleep(0)
                if event["order"] == 3:
                    raise icp.Drop("a test order")
                if event["order"] == 4:
                    raise ValueError("no such customer")
                return event["order"] >= ctx.config["least"] if event["order"] < 5 else None

            await host.integrations.put("acme", {
                **http_target(self.receiver.url), "retry": {"max_attempts": 1},
                "transform": [{"host_filter": {"handler": "large", "config": {"least": 2}}}],
            }, id="crm")
            ends = []
            with self.assertLogs("icp", logging.ERROR):
                for number in (1, 2, 3, 4, 5):
                    published = await host.publish(order(number))
                    [done] = await host.deliveries.wait("acme", event=published["id"])
                    tries = await host.deliveries.attempts("acme", done["id"])
                    ends.append((done["state"], tries["items"][0].get("message")))
            self.assertEqual([state for state, _ in ends],
                             ["skipped", "delivered", "skipped", "dead", "dead"])
            self.assertIn("does not let it pass", str(ends[0][1]))
            self.assertEqual(ends[2][1], "a test order")
            self.assertIn("ValueError: no such customer", str(ends[3][1]))
            self.assertIn("the filter returned NoneType", str(ends[4][1]))
            self.assertEqual(self.receiver.received, [{"order": 2}])

    async def test_signers_add_header_fields(self) -> None:
        async with engine() as host:
            await host.organizations.put("acme")

            @host.signer("vault")
            async def sign(request: icp.UnsignedRequest, ctx: icp.RequestContext) -> object:
                number = json.loads(request.body)["order"]
                if number == 2:
                    raise PermissionError("the vault is sealed")
                if number == 3:
                    return {"Content-Length": "1"}
                if number == 4:
                    return "authorization: none"
                signed = f"{ctx.config['key']} {request.method} {request.url}".encode()
                mac = hmac.new(b"ours", signed + request.body, "sha256")
                return {"Authorization": mac.hexdigest(), "x-try": str(ctx.attempt)}

            await host.integrations.put("acme", {
                **http_target(self.receiver.url), "retry": {"max_attempts": 1},
                "auth": {"type": "host", "handler": "vault", "config": {"key": "k1"}},
            }, id="crm")
            ends = []
            with self.assertLogs("icp", logging.ERROR):
                for number in (1, 2, 3, 4):
                    published = await host.publish(order(number))
                    [done] = await host.deliveries.wait("acme", event=published["id"])
                    tries = await host.deliveries.attempts("acme", done["id"])
                    ends.append((done["state"], tries["items"][0]))
            self.assertEqual([state for state, _ in ends], ["delivered", "dead", "dead", "dead"])
            classes = [attempt["outcome"]["failed"] for _, attempt in ends[1:]]
            self.assertEqual(classes, ["signer_handler", "signer_fields_invalid", "signer_handler"])
            self.assertIn("PermissionError: the vault is sealed", ends[1][1]["message"])
            self.assertIn("`content-length`", ends[2][1]["message"])
            self.assertIn("the signer returned str", ends[3][1]["message"])
            [sent] = self.receiver.headers
            expected = hmac.new(
                b"ours", f'k1 POST {self.receiver.url}{{"order":1}}'.encode(), "sha256")
            self.assertEqual((sent["authorization"], sent["x-try"]), (expected.hexdigest(), "1"))

    async def test_a_signer_that_takes_too_long_has_nothing_sent(self) -> None:
        stopped = asyncio.Event()
        async with engine() as host:
            await host.organizations.put("acme")

            @host.signer("slow", timeout=0.05)
            async def slow(request: icp.UnsignedRequest, ctx: icp.RequestContext) -> object:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    stopped.set()
                    raise
                return {"authorization": "late"}

            await host.integrations.put("acme", {
                **http_target(self.receiver.url), "retry": {"max_attempts": 1},
                "auth": {"type": "host", "handler": "slow"},
            }, id="crm")
            published = await host.publish(order(1))
            [done] = await host.deliveries.wait("acme", event=published["id"])
            await asyncio.wait_for(stopped.wait(), 20)
            tries = await host.deliveries.attempts("acme", done["id"])
            self.assertEqual((done["state"], tries["items"][0]["outcome"]),
                             ("dead", {"failed": "signer_timeout"}))
            self.assertEqual(self.receiver.received, [])

    async def test_event_sources_are_pulled_from_their_checkpoints(self) -> None:
        asked: list[tuple[object, icp.SourceContext]] = []
        async with engine() as host:
            await host.organizations.put("acme")

            @host.event_source("orders")
            async def orders(after: int | None, ctx: icp.SourceContext) -> icp.SourceBatch | None:
                asked.append((after, ctx))
                if len(asked) == 1:
                    raise ConnectionError("the table is away")
                if len(asked) == 2:
                    return {"events": [{"type": "order.paid", "data": 1}], "checkpoint": 1}
                first = (after or 0) + 1
                if first > 5:
                    return None
                rows = range(first, min(first + ctx.limit, 6))
                return {
                    "events": [{"id": str(row), "type": "order.paid", "data": {"order": row}}
                               for row in rows],
                    "checkpoint": rows[-1], "more": rows[-1] < 5,
                }

            with self.assertLogs("icp", logging.ERROR):
                await host.kind("event_source").put("acme", {
                    "type": "orders", "config": {"table": "paid"}, "batch": 2, "poll_seconds": 1,
                    "secrets": {"password": "canary"},
                }, id="orders")
                path = "/api/v1/organizations/acme/event-sources/orders/progress"
                codes = set()
                for _ in range(6_000):
                    progress = await host.api("GET", path)
                    codes.add(progress.get("failing", {"code": None})["code"])
                    if progress["checkpoint"] == 5:
                        break
                    await asyncio.sleep(0.02)
            self.assertTrue(codes & {"handler", "answer_invalid"}, codes)
            self.assertEqual((progress["events"], progress["duplicates"]), (5, 0))
            events = await host.api("GET", "/api/v1/organizations/acme/events")
            self.assertEqual(len(events["items"]), 5)
            after, ctx = asked[0]
            self.assertEqual((after, ctx.org, ctx.source, ctx.config, ctx.limit, ctx.secrets),
                             (None, "acme", "orders", {"table": "paid"}, 2, {"password": "canary"}))
            self.assertNotIn("canary", repr(ctx))
            self.assertEqual([after for after, _ in asked[2:5]], [None, 2, 4])

    async def test_what_a_handler_raises_is_told_with_the_attempt(self) -> None:
        async with engine() as host:
            await host.organizations.put("acme")

            @host.target("crm")
            async def crm(event: object, ctx: icp.RequestContext) -> None:
                raise ValueError("no such customer")

            await host.integrations.put("acme", {
                "events": ["order.*"], "target": {"kind": "host", "handler": "crm"},
            }, id="crm")
            with self.assertLogs("icp", logging.ERROR):
                published = await host.publish(order(1))
                tries: list[dict[str, object]] = []
                while not tries:
                    found = await host.deliveries.list("acme", event=published["id"])
                    for delivery in found["items"]:
                        tries = (await host.deliveries.attempts("acme", delivery["id"]))["items"]
            self.assertIn("ValueError: no such customer", str(tries[0]["message"]))

    async def test_a_handler_that_takes_too_long_is_called_off(self) -> None:
        stopped = asyncio.Event()
        async with engine() as host:
            await host.organizations.put("acme")

            @host.transformer("slow", timeout=0.05)
            async def slow(event: object, ctx: icp.RequestContext) -> object:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    stopped.set()
                    raise
                return event

            await host.integrations.put("acme", {
                "events": ["order.*"], "transform": [{"host": {"handler": "slow"}}],
                "target": {"kind": "http", "url": self.receiver.url},
            }, id="crm")
            await host.publish(order(1))
            await asyncio.wait_for(stopped.wait(), 20)

    async def test_a_filter_that_takes_too_long_lets_nothing_pass(self) -> None:
        stopped = asyncio.Event()
        async with engine() as host:
            await host.organizations.put("acme")

            @host.filter("slow", timeout=0.05)
            async def slow(event: object, ctx: icp.RequestContext) -> bool:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    stopped.set()
                    raise
                return True

            await host.integrations.put("acme", {
                **http_target(self.receiver.url), "retry": {"max_attempts": 1},
                "transform": [{"host_filter": {"handler": "slow"}}],
            }, id="crm")
            published = await host.publish(order(1))
            [done] = await host.deliveries.wait("acme", event=published["id"])
            await asyncio.wait_for(stopped.wait(), 20)
            tries = await host.deliveries.attempts("acme", done["id"])
            self.assertEqual((done["state"], tries["items"][0]["outcome"]),
                             ("dead", {"failed": "transform_timeout"}))
            self.assertEqual(self.receiver.received, [])

    async def test_a_wait_that_is_cancelled_is_called_off(self) -> None:
        async with engine() as host:
            await host.organizations.put("acme")
            await host.integrations.put("acme", {
                "events": ["order.*"], "target": {"kind": "host", "handler": "nobody"},
            }, id="crm")
            published = await host.publish(order(1))
            waiting = asyncio.create_task(host.deliveries.wait("acme", event=published["id"]))
            await asyncio.sleep(0)
            waiting.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await waiting
            while host._board.pending:
                await asyncio.sleep(0)

    async def test_changes_are_followed(self) -> None:
        async with engine() as host:
            await host.organizations.put("acme")
            async with await host.follow("acme", "changes") as changes:
                await host.integrations.put("acme", http_target(self.receiver.url), id="crm")
                self.assertEqual((await asyncio.wait_for(anext(changes), 20))["id"], "crm")
                waits = asyncio.create_task(changes.__anext__())
                await asyncio.sleep(0)
            with self.assertRaises(StopAsyncIteration):
                await asyncio.wait_for(waits, 20)
            self.assertEqual(host._board.subscriptions, {})
            with self.assertRaises(icp.InvalidError):
                await host.follow("acme", "nothing")
            self.assertEqual(host._board.subscriptions, {})
            forgotten = await host.follow("acme")
            del forgotten
            gc.collect()
            self.assertEqual(host._board.subscriptions, {})

    async def test_more_than_may_be_under_way_waits_for_room(self) -> None:
        async with engine(max_in_flight=8) as host:
            await host.organizations.put("acme")
            published = await asyncio.gather(*(host.publish(order(n)) for n in range(200)))
            self.assertEqual(len({one["id"] for one in published}), 200)

    async def test_a_loop_without_readers_is_served_by_a_thread(self) -> None:
        loop = asyncio.get_running_loop()

        def refuse(*_: object) -> None:
            raise NotImplementedError

        loop.add_reader, keep = refuse, loop.add_reader  # type: ignore[method-assign]
        try:
            async with engine() as host:
                await host.organizations.put("acme")
                self.assertIn("id", await host.publish(order(1)))
        finally:
            loop.add_reader = keep  # type: ignore[method-assign]

    async def test_the_loop_goes_on_while_events_are_stored(self) -> None:
        async with engine() as host:
            await host.organizations.put("acme")
            worst, done = 0.0, False

            async def tick() -> None:
                nonlocal worst
                while not done:
                    began = time.perf_counter()
                    await asyncio.sleep(0.001)
                    worst = max(worst, time.perf_counter() - began)

            ticking = asyncio.create_task(tick())
            await asyncio.gather(*(host.publish(order(n)) for n in range(500)))
            done = True
            await ticking
            # A call that blocked the loop until all were stored would be far beyond.
            self.assertLess(worst, 5)


if __name__ == "__main__":
    unittest.main()
