"""A host in Python for `icp-harness boundary`: takes the event, then does `<arm> <count>` for each
line, and answers nanoseconds on the wall, of processor time, and of the median call."""

import asyncio
import statistics
import sys
import tempfile
import time

import icp

IN_FLIGHT = 256
#: How long attempts under way have when an engine is closed.
DRAIN = 0.1
EVENT = sys.stdin.buffer.readline().strip()
MANY = b"[" + b",".join([EVENT] * IN_FLIGHT) + b"]"


class Clock:
    """What passes between two looks."""

    def __init__(self):
        self.wall, self.cpu = time.monotonic_ns(), time.process_time_ns()

    def stopped(self, median=0):
        return time.monotonic_ns() - self.wall, time.process_time_ns() - self.cpu, median


async def all_at_once(callers, calls, call):
    async def caller():
        for _ in range(calls // callers):
            await call()

    await asyncio.gather(*(caller() for _ in range(callers)))


async def publish(host, count):
    clock = Clock()
    await all_at_once(IN_FLIGHT, count, lambda: host.publish(EVENT))
    return clock.stopped()


async def many(host, count):
    clock = Clock()
    await all_at_once(2, count // IN_FLIGHT, lambda: host.publish_many(MANY))
    return clock.stopped()


async def one(host, count):
    took, clock = [], Clock()
    for _ in range(count):
        began = time.monotonic_ns()
        await host.publish(EVENT)
        took.append(time.monotonic_ns() - began)
    return clock.stopped(int(statistics.median(took)))


async def handled(host, count, then):
    """Events that a handler takes, of which each waits for `then`; ends when all were taken."""
    taken, done = 0, asyncio.Event()

    @host.target("sink", concurrency=IN_FLIGHT)
    async def sink(_event, _context):
        nonlocal taken
        taken += 1
        if taken == count:
            done.set()
        await then()

    target = {"kind": "host", "handler": "sink"}
    spec = {"events": ["order.*"], "target": target, "max_in_flight": IN_FLIGHT}
    await host.integrations.put("acme", spec, id="sink")
    clock = Clock()
    await all_at_once(1, count // IN_FLIGHT, lambda: host.publish_many(MANY))
    await done.wait()
    return clock.stopped()


async def handler(host, count):
    async def nothing():
        pass

    return await handled(host, count, nothing)


async def close(host, _count):
    """Beyond the time that is given, with 256 requests under way."""
    await handled(host, IN_FLIGHT, lambda: asyncio.sleep(60))
    clock = Clock()
    await host.close(drain=DRAIN)
    wall, cpu, _ = clock.stopped()
    return wall - int(DRAIN * 1e9), cpu, 0


ARMS = {"publish": publish, "many": many, "durable": publish, "one": one, "handler": handler,
        "close": close}


async def turn(arm, count):
    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:{folder}/icp.db" if arm == "durable" else "memory:"
        async with icp.AsyncEngine(store=store) as host:
            await host.organizations.put("acme")
            return await ARMS[arm](host, count)


for line in sys.stdin:
    name, how_often = line.split()
    print(*asyncio.run(turn(name, int(how_often))), flush=True)
