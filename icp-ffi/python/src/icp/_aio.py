"""The engine for asyncio."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar, Union

from . import _board, _life
from ._aio_groups import DeadLetters, Deliveries, Kind, Organizations
from ._board import Backlog, Board, encoded
from ._follow import END, AsyncSubscription
from ._native import Link, Record
from ._ops import Op, Status
from .errors import BusyError, ClosedError, IcpError, error_of
from .types import (
    Document,
    Drained,
    Encoded,
    OutboxInsert,
    PublishResult,
    RequestContext,
    SourceContext,
)

Handler = TypeVar("Handler", bound=Callable[[Any, RequestContext], Any])
Source = TypeVar("Source", bound=Callable[[Any, SourceContext], Any])
_WAITS = {Op.DELIVERY_WAIT}


class AsyncEngine:
    """An engine in this process, on the running event loop.

    ``store`` is ``memory:``, ``sqlite:<path>``, or a URL of PostgreSQL, MySQL or MongoDB.
    ``log`` tells the library's log to ``logging.getLogger("icp")``, from ``info`` or the named
    level up; a process has one such log. The other arguments are the settings of the engine.

    ::

        async with AsyncEngine(store="sqlite:icp.db", key_file="icp.key") as icp:
            await icp.publish({"org": "acme", "type": "order.paid", "data": {"order": 17}})
    """

    def __init__(
        self,
        store: str,
        *,
        log: Union[bool, str] = False,
        keys: str | None = None,
        key_file: str | None = None,
        synchronous: str | None = None,
        allow_loopback: bool | None = None,
        max_in_flight: int | None = None,
        threads: int | None = None,
        max_attempts: int | None = None,
        max_body_bytes: int | None = None,
        handler_threads: int = 8,
    ) -> None:
        settings: dict[str, _board.Settings] = {
            "keys": keys,
            "key_file": key_file,
            "synchronous": synchronous,
            "allow_loopback": allow_loopback,
            "max_in_flight": max_in_flight,
            "threads": threads,
            "max_attempts": max_attempts,
            "max_body_bytes": max_body_bytes,
        }
        self._link = Link(_board.configuration(store, settings))
        self._ending = _life.watch(self, self._link)
        self._log = _board.log_level(log)
        self._board = Board(self._request, self._call_off)
        self._tag = 0
        self._handlers: dict[tuple[str, str], Callable[[Any, Any], Any]] = {}
        self._unsettled: list[asyncio.Future[bytes]] = []
        self._running: dict[int, tuple[asyncio.Task[None], _board.Context]] = {}
        self._pool = ThreadPoolExecutor(handler_threads, thread_name_prefix="icp-handler")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pump: threading.Thread | None = None
        self.integrations = Kind(self, "integration")
        self.organizations = Organizations(self)
        self.deliveries = Deliveries(self)
        self.dead_letters = DeadLetters(self)

    async def __aenter__(self) -> AsyncEngine:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Opens the store and starts to deliver."""
        self._attach()
        if self._log:
            self._link.log(self._log)
        try:
            await self.ask(Op.START)
        except BaseException:
            self._abandon()
            raise

    async def close(self, drain: float = 10.0) -> Drained | None:
        """Stops: attempts under way have ``drain`` seconds, then the store is closed."""
        if not self._ending.alive:
            return None
        try:
            drained: Drained = await self.ask(Op.SHUTDOWN, {"drain_ms": int(drain * 1000)})
            return drained
        except ClosedError:  # It was asked for before.
            return None
        finally:
            self._abandon()

    def _attach(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not None:
            if self._loop is not loop:
                raise RuntimeError("the engine belongs to another event loop")
            return
        self._loop = loop
        fd = self._link.fd()
        if fd >= 0:
            try:
                loop.add_reader(fd, self._drain)
                return
            except NotImplementedError:
                pass
        self._pump = threading.Thread(target=_pump, args=(self._link, loop, self._board),
                                      name="icp-drain", daemon=True)
        self._ending.last = self._pump.join
        self._pump.start()

    def _drain(self) -> None:
        records = self._link.drain(0)
        if records:
            self._board.deliver(records)

    def _abandon(self) -> None:
        if not self._ending.detach():
            return
        for task, context in list(self._running.values()):
            context.cancelled.set()
            task.cancel()
        loop, link = self._loop, self._link
        if loop is not None and self._pump is None and link.fd() >= 0 and not loop.is_closed():
            loop.remove_reader(link.fd())
        link.stop()
        if self._pump is not None:
            self._pump.join()
        elif loop is not None:
            while records := link.drain(0):
                self._board.deliver(records)
        link.free()
        self._pool.shutdown(wait=False, cancel_futures=True)

    # --- operations -------------------------------------------------------------------------

    async def ask(self, op: Op, body: Union[Document, list[Any], Encoded, None] = None) -> Any:
        """Any operation by its number, with its document."""
        answer = await self._ask(op, b"" if body is None else encoded(body))
        return json.loads(answer)

    async def _ask(self, op: Op, body: bytes) -> bytes:
        self._attach()
        if self._unsettled:
            unsettled, self._unsettled = self._unsettled, []
            await asyncio.gather(*unsettled)
        tag, future = self._submit(op, body)
        try:
            return await future
        except asyncio.CancelledError:
            if op in _WAITS:
                self._link.cancel(tag)
            raise

    def _submit(self, op: Op, body: bytes) -> tuple[int, asyncio.Future[bytes]]:
        self._tag += 1
        tag = self._tag
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def ended(status: int, answer: bytes) -> None:
            if future.done():
                return
            if status == Status.OK:
                future.set_result(answer)
            else:
                future.set_exception(error_of(status, answer))

        self._board.pending[tag] = ended
        try:
            self._link.submit(op, tag, body)
        except IcpError:
            self._board.pending.pop(tag, None)
            raise
        return tag, future

    async def _patiently(self, op: Op, body: bytes) -> Any:
        """Waits for room where too much is under way."""
        pause = 0.001
        while True:
            try:
                return json.loads(await self._ask(op, body))
            except BusyError:
                await asyncio.sleep(pause)
                pause = min(pause * 2, 0.1)

    async def publish(self, event: Union[Document, Encoded]) -> PublishResult:
        """Publishes one event; when this returns, it is stored.

        Waits where too much is under way. A call that is cancelled may still publish.
        """
        published: PublishResult = await self._patiently(Op.PUBLISH, encoded(event))
        return published

    async def publish_many(self, events: Union[list[Document], Encoded]) -> list[Any]:
        """Publishes up to 1,000 events; for each its result, or ``{"error": ..}``."""
        results: list[Any] = await self._patiently(Op.PUBLISH_MANY, encoded(events))
        return results

    async def outbox(self, event: Union[Document, Encoded], style: str = "native") -> OutboxInsert:
        """The statement that publishes an event in the host's own transaction on the database of
        the store. Nothing is stored by this; the event is published when that commits.

        ``style`` is that of placeholders: ``native`` to the database, or ``format`` (``%s``).
        """
        found: Document = json.loads(await self._ask(Op.OUTBOX_INSERT, encoded(event)))
        return _board.outbox_insert(found, style)

    async def event(self, org: str, id: str) -> Document:
        """One event with its body."""
        found: Document = await self.ask(Op.EVENT_GET, {"org": org, "id": id})
        return found

    async def explain(self, org: str, id: str) -> Document:
        """Why an event went, or did not go, to each integration."""
        found: Document = await self.ask(Op.EVENT_EXPLAIN, {"org": org, "id": id})
        return found

    async def health(self) -> Document:
        """How the engine and its parts are doing."""
        found: Document = await self.ask(Op.HEALTH)
        return found

    async def metrics(self) -> str:
        """The metrics as OpenMetrics text."""
        return (await self._ask(Op.METRICS, b"")).decode()

    async def api(self, method: str, path: str, document: Document | None = None,
                  **query: Any) -> Any:
        """Any route of the HTTP API, asked by the host itself."""
        body: Document = {"method": method, "path": path, "query": query}
        if document is not None:
            body["document"] = document
        return await self.ask(Op.API, body)

    async def dry_run(self, org: str, document: Document) -> Document:
        """What a transformation makes of an event; sends nothing."""
        made: Document = await self.ask(Op.DRY_RUN_TRANSFORM, {"org": org, "document": document})
        return made

    def kind(self, name: str) -> Kind:
        """The resources of a kind, as in ``lookup``."""
        return Kind(self, name)

    # --- subscriptions ----------------------------------------------------------------------

    async def follow(self, org: str, stream: str = "attempts",
                     after: str | None = None) -> AsyncSubscription:
        """Attempts (``attempts``) or changes of resources (``changes``) as they happen.

        Once this returns, nothing that follows is missed but what is not read in time: then the
        reader gets :class:`Lagged`.

        ::

            async with await host.follow("acme") as attempts:
                async for attempt in attempts:
                    ...
        """
        self._attach()
        items: asyncio.Queue[Record] = asyncio.Queue()
        body: Document = {"org": org, "stream": stream}
        if after is not None:
            body["after"] = after
        tag, future = self._submit(Op.SUBSCRIBE, encoded(body))
        backlog = Backlog(items)
        self._board.subscriptions[tag] = backlog.take
        followed = AsyncSubscription(backlog, items, lambda: self._unsubscribe(tag, items))
        try:
            await future
        except BaseException:
            await followed.aclose()
            raise
        return followed

    def _unsubscribe(self, tag: int, items: asyncio.Queue[Record]) -> None:
        items.put_nowait(END)
        self._board.subscriptions.pop(tag, None)
        if self._ending.alive:
            _, future = self._submit(Op.UNSUBSCRIBE, encoded({"subscription": tag}))
            future.add_done_callback(_forget)

    # --- handlers ---------------------------------------------------------------------------

    def transformer(self, name: str, *, timeout: float = 30.0,
                    concurrency: int = 16) -> Callable[[Handler], Handler]:
        """Makes a function the one that runs ``{"host": {"handler": name}}`` steps.

        It takes the payload and a :class:`RequestContext`, and returns the payload to send; to
        send nothing it raises :class:`Drop`. A ``def`` runs on a thread, an ``async def`` on the
        loop.
        """
        return self._handler("transformer", name, timeout, concurrency)

    def filter(self, name: str, *, timeout: float = 30.0,
               concurrency: int = 16) -> Callable[[Handler], Handler]:
        """Makes a function the one that runs ``{"host_filter": {"handler": name}}`` steps.

        It takes the payload and a :class:`RequestContext`, and returns ``True`` where the payload
        goes on as it is, ``False`` where nothing is to be sent; :class:`Drop` says why.
        """
        return self._handler("filter", name, timeout, concurrency)

    def target(self, name: str, *, timeout: float = 30.0,
               concurrency: int = 16) -> Callable[[Handler], Handler]:
        """Makes a function the one that delivers to ``{"kind": "host", "handler": name}``.

        It takes the payload and a :class:`RequestContext`, and returns a status to be shown or
        ``None``. What it raises is a failed attempt; :class:`DeliveryFailed` says what follows.
        """
        return self._handler("target", name, timeout, concurrency)

    def signer(self, name: str, *, timeout: float = 30.0,
               concurrency: int = 16) -> Callable[[Handler], Handler]:
        """Makes a function the one that signs requests of integrations whose ``auth`` is
        ``{"type": "host", "handler": name}``.

        It takes an :class:`UnsignedRequest` and a :class:`RequestContext`, and returns the header
        fields to add, a ``dict`` of texts. Nothing is sent without it: what it raises is a failed
        attempt.
        """
        return self._handler("signer", name, timeout, concurrency)

    def event_source(self, name: str, *, timeout: float = 30.0,
                     concurrency: int = 16) -> Callable[[Source], Source]:
        """Makes a function the one that event sources of the ``type`` ``name`` are pulled from.

        It takes the last checkpoint, ``None`` at first, and a :class:`SourceContext`, and returns
        a :class:`SourceBatch`, or ``None`` where there is nothing new. What is up to the checkpoint
        is dealt with; what it raises is polled again from there, a little later.
        """
        return self._handler("event_source", name, timeout, concurrency)

    def _handler(self, kind: str, name: str, timeout: float,
                 concurrency: int) -> Callable[[Any], Any]:
        _board.check_name(name)

        def register(function: Any) -> Any:
            self._attach()
            self._handlers[kind, name] = function
            body = encoded({"name": name, "kind": kind, "concurrency": concurrency,
                            "timeout_ms": int(timeout * 1000)})
            self._unsettled.append(self._submit(Op.HANDLER_REGISTER, body)[1])
            return function

        return register

    async def remove_handler(self, kind: str, name: str) -> None:
        """Takes a ``transformer``, ``filter``, ``target``, ``signer`` or ``event_source`` away."""
        await self.ask(Op.HANDLER_REMOVE, {"name": name, "kind": kind})
        self._handlers.pop((kind, name), None)

    def _request(self, record: Record) -> None:
        kind, name, payload, context = _board.asked(record)
        task = asyncio.get_running_loop().create_task(
            self._handle(record.tag, kind, name, payload, context)
        )
        self._running[record.tag] = (task, context)
        task.add_done_callback(lambda _: self._running.pop(record.tag, None))

    async def _handle(self, request: int, kind: str, name: str, payload: Any,
                      context: _board.Context) -> None:
        function = self._handlers[kind, name]
        try:
            if inspect.iscoroutinefunction(function):
                result = await function(payload, context)
            else:
                loop = asyncio.get_running_loop()
                result = await loop.run_in_executor(self._pool, function, payload, context)
            _board.answer(self._link, request, kind, result)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is its answer
            _board.refuse(self._link, request, kind, name, error)

    def _call_off(self, request: int) -> None:
        running = self._running.get(request)
        if running is not None:
            running[1].cancelled.set()
            running[0].cancel()


def _pump(link: Link, loop: asyncio.AbstractEventLoop, board: Board) -> None:
    """Where the loop cannot wait for a descriptor: one burst for all that came."""
    while (records := link.drain(-1)) is not None:
        if records:
            try:
                loop.call_soon_threadsafe(board.deliver, records)
            except RuntimeError:
                return


def _forget(future: asyncio.Future[bytes]) -> None:
    if not future.cancelled():
        future.exception()


__all__ = ["AsyncEngine"]
