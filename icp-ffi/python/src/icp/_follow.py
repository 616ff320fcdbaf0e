"""What is followed, as it happens."""

from __future__ import annotations

import asyncio
import queue
import weakref
from collections.abc import Callable
from types import TracebackType

from ._board import Backlog
from ._native import Record
from ._ops import Item, Status
from .errors import Lagged
from .types import Document


END = Record(0, Item.EVENT, Status.OK, b'{"end":"closed"}')
"""What a reader is told who waits as it is closed."""


class _Followed:
    """What both kinds share: where the items are, and how to follow no more."""

    def __init__(self, backlog: Backlog, end: Callable[[], None]) -> None:
        self._backlog = backlog
        # Also where nobody closes it.
        self._end = weakref.finalize(self, end)
        self._end.atexit = False

    def _item(self, record: Record) -> Document | None:
        try:
            ended, item = self._backlog.item(record)
        except Lagged:
            self._end()
            raise
        if ended:
            self._end()
        return item


class AsyncSubscription(_Followed):
    """Items as they happen, by ``async for``. It follows until it is closed, by :meth:`aclose` or
    the end of ``async with``, and with the engine at the latest."""

    def __init__(
        self, backlog: Backlog, items: asyncio.Queue[Record], end: Callable[[], None]
    ) -> None:
        super().__init__(backlog, end)
        self._items = items

    def __aiter__(self) -> AsyncSubscription:
        return self

    async def __anext__(self) -> Document:
        while self._end.alive:
            item = self._item(await self._items.get())
            if item is not None:
                return item
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Follows no more."""
        self._end()

    async def __aenter__(self) -> AsyncSubscription:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


class Subscription(_Followed):
    """Items as they happen, by ``for``. It follows until it is closed, by :meth:`close` or the end
    of ``with``, and with the engine at the latest."""

    def __init__(
        self, backlog: Backlog, items: queue.SimpleQueue[Record], end: Callable[[], None]
    ) -> None:
        super().__init__(backlog, end)
        self._items = items

    def __iter__(self) -> Subscription:
        return self

    def __next__(self) -> Document:
        while self._end.alive:
            item = self._item(self._items.get())
            if item is not None:
                return item
        raise StopIteration

    def close(self) -> None:
        """Follows no more."""
        self._end()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
