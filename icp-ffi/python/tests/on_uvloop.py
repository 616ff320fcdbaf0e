"""Runs tests as ``python -m unittest`` does, with the event loop of uvloop."""

from __future__ import annotations

import asyncio
import pathlib
import sys
import unittest

import uvloop

if sys.version_info >= (3, 13):
    unittest.IsolatedAsyncioTestCase.loop_factory = staticmethod(uvloop.new_event_loop)
else:
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


class LoopTest(unittest.IsolatedAsyncioTestCase):
    async def test_the_loop_is_that_of_uvloop(self) -> None:
        self.assertIsInstance(asyncio.get_running_loop(), uvloop.Loop)


if __name__ == "__main__":
    unittest.main(None, argv=[*sys.argv, pathlib.Path(__file__).stem])
