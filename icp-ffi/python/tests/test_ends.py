"""Processes that end as they should not."""

from __future__ import annotations

import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

import icp

HERE = pathlib.Path(__file__).parent
TIMES = 20

EXITS = {
    "asyncio": """
import asyncio, icp
async def main():
    host = icp.AsyncEngine(store="memory:", threads=1)
    await host.start()
    await host.organizations.put("acme")
    @host.target("never")
    async def never(event, ctx):
        await asyncio.sleep(60)
    await host.integrations.put("acme", {"events": ["a.*"],
        "target": {"kind": "host", "handler": "never"}}, id="crm")
    event = {"org": "acme", "type": "a.b", "data": 1}
    for _ in range(50):
        asyncio.create_task(host.publish(event))
    await asyncio.sleep(0)
asyncio.run(main())
""",
    "blocking": """
import icp, threading
host = icp.Engine(store="memory:", threads=1)
host.start()
host.organizations.put("acme")
event = {"org": "acme", "type": "a.b", "data": 1}
def publish():
    while True:
        host.publish(event)
for _ in range(2):
    threading.Thread(target=publish, daemon=True).start()
host.publish(event)
""",
}

PUBLISHER = """
import icp, sys
host = icp.Engine(store="sqlite:" + sys.argv[1], threads=1)
host.start()
host.organizations.put("acme")
number = int(sys.argv[2])
print("ready", flush=True)
while True:
    event = {"org": "acme", "type": "a.b", "data": number, "idempotency_key": str(number)}
    print(host.publish(event)["id"], flush=True)
    number += 1
"""


class EndsTest(unittest.TestCase):
    def test_a_process_ends_well_with_work_in_flight(self) -> None:
        for name, source in EXITS.items():
            for turn in range(TIMES // 2):
                ended = subprocess.run([sys.executable, "-c", source], capture_output=True,
                                       timeout=60, check=False)
                said = ended.stderr.decode()
                self.assertEqual(ended.returncode, 0, f"{name} {turn}: {said}")
                self.assertNotIn("Fatal", said)

    def test_nothing_that_was_acknowledged_is_lost_by_kill(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = f"{folder}/icp.db"
            told: list[str] = []
            for turn in range(TIMES):
                told += self.killed(store, turn * 1_000_000)
            self.assertGreaterEqual(len(told), TIMES)
            self.assertEqual(len(set(told)), len(told))
            with icp.Engine(store=f"sqlite:{store}") as host:
                for id in told:
                    self.assertEqual(host.event("acme", id)["id"], id)
                stored = self.stored(host)
            self.assertEqual(len(set(stored)), len(stored))
            self.assertLessEqual(set(told), set(stored))

    def killed(self, store: str, first: int) -> list[str]:
        """What a process says that it published until it is killed."""
        command = [sys.executable, "-c", PUBLISHER, store, str(first)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            self.assertEqual(process.stdout.readline(), "ready\n")
            lines = [process.stdout.readline() for _ in range(10)]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        self.assertEqual(process.returncode, -signal.SIGKILL)
        return [line.strip() for line in lines if line.endswith("\n")]

    def stored(self, host: icp.Engine) -> list[str]:
        ids: list[str] = []
        query: dict[str, object] = {"limit": 100}
        while True:
            page = host.ask(icp.Op.EVENT_LIST, {"org": "acme", "query": query})
            ids += [event["id"] for event in page["items"]]
            if not page["next"]:
                return ids
            query["cursor"] = page["next"]


if __name__ == "__main__":
    unittest.main()
