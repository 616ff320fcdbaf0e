"""The blocking engine."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar, Union

from . import _board, _life
from ._board import Backlog, Board, encoded
from ._follow import END, Subscription
from ._groups import DeadLetters, Deliveries, Kind, Organizations
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


class Engine:
    """An engine in this process; its calls block, and are safe from any thread.

    The arguments are those of :class:`AsyncEngine`. Handlers run on a pool of threads.

    ::

        with Engine(store="sqlite:icp.db", key_file="icp.key") as icp:
            icp.publish({"org": "acme", "type": "order.paid", "data": {"order": 17}})
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
        self._desk = _Desk(self._link, handler_threads)
        self._ending.last = self._desk.join
        self._desk.thread.start()
        self.integrations = Kind(self, "integration")
        self.organizations = Organizations(self)
        self.deliveries = Deliveries(self)
        self.dead_letters = DeadLetters(self)

    def __enter__(self) -> Engine:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Opens the store and starts to deliver."""
        if self._log:
            self._link.log(self._log)
        try:
            self.ask(Op.START)
        except BaseException:
            self._ending.stop(gently=False)
            raise

    def close(self, drain: float = 10.0) -> Drained | None:
        """Stops: attempts under way have ``drain`` seconds, then the store is closed."""
        if not self._ending.alive:
            return None
        try:
            drained: Drained = self.ask(Op.SHUTDOWN, {"drain_ms": int(drain * 1000)})
            return drained
        except ClosedError:  # It was asked for before.
            return None
        finally:
            self._ending.stop(gently=False)

    def ask(self, op: Op, body: Union[Document, list[Any], Encoded, None] = None) -> Any:
        """Any operation by its number, with its document."""
        return json.loads(self._ask(op, b"" if body is None else encoded(body)))

    def _ask(self, op: Op, body: bytes) -> bytes:
        return self._desk.submit(op, body)[1].result()

    def _patiently(self, op: Op, body: bytes) -> Any:
        pause = 0.001
        while True:
            try:
                return json.loads(self._ask(op, body))
            except BusyError:
                time.sleep(pause)
                pause = min(pause * 2, 0.1)

    def publish(self, event: Union[Document, Encoded]) -> PublishResult:
        """Publishes one event; when this returns, it is stored."""
        published: PublishResult = self._patiently(Op.PUBLISH, encoded(event))
        return published

    def publish_many(self, events: Union[list[Document], Encoded]) -> list[Any]:
        """Publishes up to 1,000 events; for each its result, or ``{"error": ..}``."""
        results: list[Any] = self._patiently(Op.PUBLISH_MANY, encoded(events))
        return results

    def outbox(self, event: Union[Document, Encoded], style: str = "native") -> OutboxInsert:
        """The statement that publishes an event in the host's own transaction on the database of
        the store. Nothing is stored by this; the event is published when that commits.

        ``style`` is that of placeholders: ``native`` to the database, or ``format`` (``%s``).
        """
        found: Document = json.loads(self._ask(Op.OUTBOX_INSERT, encoded(event)))
        return _board.outbox_insert(found, style)

    def event(self, org: str, id: str) -> Document:
        """One event with its body."""
        found: Document = self.ask(Op.EVENT_GET, {"org": org, "id": id})
        return found

    def explain(self, org: str, id: str) -> Document:
        """Why an event went, or did not go, to each integration."""
        found: Document = self.ask(Op.EVENT_EXPLAIN, {"org": org, "id": id})
        return found

    def health(self) -> Document:
        """How the engine and its parts are doing."""
        found: Document = self.ask(Op.HEALTH)
        return found

    def metrics(self) -> str:
        """The metrics as OpenMetrics text."""
        return self._ask(Op.METRICS, b"").decode()

    def api(self, method: str, path: str, document: Document | None = None, **query: Any) -> Any:
        """Any route of the HTTP API, asked by the host itself."""
        body: Document = {"method": method, "path": path, "query": query}
        if document is not None:
            body["document"] = document
        return self.ask(Op.API, body)

    def dry_run(self, org: str, document: Document) -> Document:
        """What a transformation makes of an event; sends nothing."""
        made: Document = self.ask(Op.DRY_RUN_TRANSFORM, {"org": org, "document": document})
        return made

    def kind(self, name: str) -> Kind:
        """The resources of a kind, as in ``lookup``."""
        return Kind(self, name)

    def follow(self, org: str, stream: str = "attempts",
               after: str | None = None) -> Subscription:
        """Attempts (``attempts``) or changes of resources (``changes``) as they happen.

        Once this returns, nothing that follows is missed but what is not read in time: then the
        reader gets :class:`Lagged`.
        """
        body: Document = {"org": org, "stream": stream}
        if after is not None:
            body["after"] = after
        items: queue.SimpleQueue[Record] = queue.SimpleQueue()
        backlog = Backlog(items)
        tag, future = self._desk.submit(Op.SUBSCRIBE, encoded(body), backlog.take)
        followed = Subscription(backlog, items, lambda: self._unsubscribe(tag, items))
        try:
            future.result()
        except BaseException:
            followed.close()
            raise
        return followed

    def _unsubscribe(self, tag: int, items: queue.SimpleQueue[Record]) -> None:
        items.put_nowait(END)
        self._desk.board.subscriptions.pop(tag, None)
        if self._ending.alive:
            self._desk.submit(Op.UNSUBSCRIBE, encoded({"subscription": tag}))

    def transformer(self, name: str, *, timeout: float = 30.0,
                    concurrency: int = 16) -> Callable[[Handler], Handler]:
        """As :meth:`AsyncEngine.transformer`; the function runs on a thread."""
        return self._handler("transformer", name, timeout, concurrency)

    def filter(self, name: str, *, timeout: float = 30.0,
               concurrency: int = 16) -> Callable[[Handler], Handler]:
        """As :meth:`AsyncEngine.filter`; the function runs on a thread."""
        return self._handler("filter", name, timeout, concurrency)

    def target(self, name: str, *, timeout: float = 30.0,
               concurrency: int = 16) -> Callable[[Handler], Handler]:
        """As :meth:`AsyncEngine.target`; the function runs on a thread."""
        return self._handler("target", name, timeout, concurrency)

    def signer(self, name: str, *, timeout: float = 30.0,
               concurrency: int = 16) -> Callable[[Handler], Handler]:
        """As :meth:`AsyncEngine.signer`; the function runs on a thread."""
        return self._handler("signer", name, timeout, concurrency)

    def event_source(self, name: str, *, timeout: float = 30.0,
                     concurrency: int = 16) -> Callable[[Source], Source]:
        """As :meth:`AsyncEngine.event_source`; the function runs on a thread."""
        return self._handler("event_source", name, timeout, concurrency)

    def _handler(self, kind: str, name: str, timeout: float,
                 concurrency: int) -> Callable[[Any], Any]:
        _board.check_name(name)

        def register(function: Any) -> Any:
            body = {"name": name, "kind": kind, "concurrency": concurrency,
                    "timeout_ms": int(timeout * 1000)}
            self._desk.handlers.setdefault((kind, name), function)
            self.ask(Op.HANDLER_REGISTER, body)
            return function

        return register

    def remove_handler(self, kind: str, name: str) -> None:
        """Takes a ``transformer``, ``filter``, ``target``, ``signer`` or ``event_source`` away."""
        self.ask(Op.HANDLER_REMOVE, {"name": name, "kind": kind})
        self._desk.handlers.pop((kind, name), None)


class _Desk:
    """What the thread that drains needs; it does not keep the engine alive."""

    def __init__(self, link: Link, threads: int) -> None:
        self.link = link
        self.board = Board(self._request, self._call_off)
        self.handlers: dict[tuple[str, str], Callable[[Any, Any], Any]] = {}
        self.thread = threading.Thread(target=self._run, name="icp-drain", daemon=True)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="icp-handler")
        self._running: dict[int, _board.Context] = {}
        self._tag = 0
        self._lock = threading.Lock()

    def submit(self, op: Op, body: bytes, items: Callable[[Record], None] | None = None,
               ) -> tuple[int, Future[bytes]]:
        """Starts an operation; ``items`` takes what follows after its end."""
        future: Future[bytes] = Future()

        def ended(status: int, answer: bytes) -> None:
            if status == Status.OK:
                future.set_result(answer)
            else:
                future.set_exception(error_of(status, answer))

        with self._lock:
            self._tag += 1
            tag = self._tag
        self.board.pending[tag] = ended
        if items is not None:
            self.board.subscriptions[tag] = items
        try:
            self.link.submit(op, tag, body)
        except IcpError:
            self.board.pending.pop(tag, None)
            self.board.subscriptions.pop(tag, None)
            raise
        return tag, future

    def join(self) -> None:
        """Waits for the end of the thread, which comes with that of the engine."""
        for context in list(self._running.values()):
            context.cancelled.set()
        if self.thread is not threading.current_thread():
            self.thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        while (records := self.link.drain(-1)) is not None:
            self.board.deliver(records)

    def _request(self, record: Record) -> None:
        kind, name, payload, context = _board.asked(record)
        self._running[record.tag] = context
        try:
            self._pool.submit(self._handle, record.tag, kind, name, payload, context)
        except RuntimeError:
            # The interpreter ends: the attempt is made again by the next one.
            self._running.pop(record.tag, None)

    def _handle(self, request: int, kind: str, name: str, payload: Any,
                context: _board.Context) -> None:
        try:
            result = self.handlers[kind, name](payload, context)
            if not context.cancelled.is_set():
                _board.answer(self.link, request, kind, result)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is its answer
            if not context.cancelled.is_set():
                _board.refuse(self.link, request, kind, name, error)
        finally:
            self._running.pop(request, None)

    def _call_off(self, request: int) -> None:
        context = self._running.get(request)
        if context is not None:
            context.cancelled.set()


__all__ = ["Engine"]
