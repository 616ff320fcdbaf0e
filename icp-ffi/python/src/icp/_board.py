"""What is common to the engines: what waits for which record."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import queue
import re
from typing import Any, Callable, Union

from ._native import Link, Record
from ._ops import Item, Status
from .errors import DeliveryFailed, Drop, InvalidError, Lagged
from .types import (
    Document,
    Encoded,
    OutboxInsert,
    RequestContext,
    SourceContext,
    UnsignedRequest,
)

log = logging.getLogger("icp")

LEVELS = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": 5,
}
# How many items wait for a reader at most.
ROOM = 1_024
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")

Settings = Union[str, int, float, bool, None]
Ended = Callable[[int, bytes], None]
Context = Union[RequestContext, SourceContext]


def encoded(document: Union[Document, list[Any], Encoded]) -> bytes:
    """A document as JSON text; text stays as it is."""
    if isinstance(document, (bytes, bytearray)):
        return bytes(document)
    if isinstance(document, str):
        return document.encode()
    return json.dumps(document, separators=(",", ":")).encode()


def configuration(store: str, settings: dict[str, Settings]) -> bytes:
    """The document of the settings that were given."""
    given = {name: value for name, value in settings.items() if value is not None}
    return encoded({"store": store, **given})


def outbox_insert(answer: Document, style: str) -> OutboxInsert:
    """The statement with what is bound to it, in the style of a driver."""
    sql: str = answer["sql"]
    if style == "format":
        # There is neither a literal nor an operator with one of these in it.
        sql = re.sub(r"\?|\$[0-9]+", "%s", sql)
    elif style != "native":
        raise ValueError(f"`{style}` is no style; use native or format")
    bound = [
        base64.b64decode(value["base64"]) if isinstance(value, dict) else value
        for value in answer["values"]
    ]
    return {"id": answer["id"], "sql": sql, "values": bound}


def log_level(wanted: Union[bool, str]) -> int:
    """The number of a level; 0 for none."""
    if wanted is False:
        return 0
    names = ["error", "warn", "info", "debug", "trace"]
    return 3 if wanted is True else names.index(wanted) + 1


def check_name(name: str) -> None:
    """Refuses what is no name of a handler."""
    if not NAME.fullmatch(name):
        message = "use 1 to 64 letters, digits, dots, hyphens and underscores"
        raise InvalidError({"code": int(Status.INVALID), "name": "INVALID", "message": message})


def asked(record: Record) -> tuple[str, str, Any, Context]:
    """Kind, name, payload and context of a request."""
    document = json.loads(record.body)
    if document["kind"] == "event_source":
        return document["kind"], document["handler"], document["checkpoint"], _polled(document)
    payload = document.get("payload")
    if "payload_base64" in document:
        payload = base64.b64decode(document["payload_base64"])
    if "request" in document:
        payload = _unsigned(document["request"])
    context = RequestContext(
        handler=document["handler"],
        org=document["org"],
        event=document["event"],
        type=document["type"],
        attempt=document["attempt"],
        timeout=document["timeout_ms"] / 1000,
        integration=document.get("integration"),
        delivery=document.get("delivery"),
        config=document.get("config"),
        test=document.get("test", False),
    )
    return document["kind"], document["handler"], payload, context


def _polled(document: Document) -> SourceContext:
    return SourceContext(
        handler=document["handler"],
        org=document["org"],
        source=document["source"],
        limit=document["limit"],
        timeout=document["timeout_ms"] / 1000,
        config=document["config"],
        secrets=document["secrets"],
    )


def _unsigned(request: Document) -> UnsignedRequest:
    body = base64.b64decode(request["body_base64"])
    return UnsignedRequest(request["method"], request["url"], request["headers"], body)


def answer(link: Link, request: int, kind: str, result: Any) -> None:
    """Answers a request with what the handler returned."""
    link.respond(request, Status.OK, encoded(_answered(kind, result)))


def _answered(kind: str, result: Any) -> Document:
    if kind == "transformer":
        return {"payload": result}
    if kind == "filter":
        if isinstance(result, bool):
            return {"pass": result}
        raise TypeError(f"the filter returned {type(result).__name__}; return True or False")
    if kind == "event_source":
        if result is None or isinstance(result, dict):
            return result or {}
        raise TypeError(f"the source returned {type(result).__name__}; return a dict or None")
    if kind == "signer":
        if isinstance(result, dict):
            return {"headers": result}
        raise TypeError(f"the signer returned {type(result).__name__}; return a dict of headers")
    return {"status": result} if isinstance(result, int) else {}


def refuse(link: Link, request: int, kind: str, name: str, error: BaseException) -> None:
    """Answers a request with what the handler raised. The traceback goes to the log only."""
    if kind == "transformer" and isinstance(error, Drop):
        link.respond(request, Status.OK, encoded({"drop": error.reason}))
        return
    if kind == "filter" and isinstance(error, Drop):
        link.respond(request, Status.OK, encoded({"pass": False, "reason": error.reason}))
        return
    if kind == "target" and isinstance(error, DeliveryFailed):
        link.respond(request, Status.OK, encoded(error.document()))
        return
    log.error("the handler %s failed", name, exc_info=error)
    message = f"{type(error).__name__}: {error}"
    link.respond(request, Status.HANDLER, encoded({"message": message}))


class Backlog:
    """Keeps what a reader of a subscription did not read yet, up to a bound."""

    def __init__(self, items: Union[asyncio.Queue[Record], queue.SimpleQueue[Record]]) -> None:
        self._items = items
        self._lost = 0

    def take(self, record: Record) -> None:
        """Takes an item; beyond the bound it is counted, and a mark stands for all such."""
        if record.kind == Item.EVENT and (self._lost or self._items.qsize() >= ROOM):
            self._lost += 1
            if self._lost > 1:
                return
            record = Record(record.tag, Item.LAGGED, Status.OK, b'{"dropped":0}')
        self._items.put_nowait(record)

    def item(self, record: Record) -> tuple[bool, Document | None]:
        """Whether a record that was read is the end, and its item if it has one."""
        document = json.loads(record.body)
        if record.kind == Item.LAGGED:
            raise Lagged(document["dropped"] + self._lost)
        return "end" in document, document.get("item")


class Board:
    """What waits for which record. Not for several threads at once, but for single dict writes."""

    def __init__(self, on_request: Callable[[Record], None], on_cancel: Callable[[int], None]):
        self.pending: dict[int, Ended] = {}
        self.subscriptions: dict[int, Callable[[Record], None]] = {}
        self._on_request = on_request
        self._on_cancel = on_cancel

    def deliver(self, records: list[Record]) -> None:
        """Hands each record to who waits for it."""
        for record in records:
            kind = record.kind
            if kind == Item.COMPLETION:
                ended = self.pending.pop(record.tag, None)
                if ended is not None:
                    ended(record.status, record.body)
            elif kind == Item.REQUEST:
                self._on_request(record)
            elif kind == Item.REQUEST_CANCELLED:
                self._on_cancel(record.tag)
            elif kind == Item.LOG:
                _tell(record.body)
            elif record.tag in self.subscriptions:
                self.subscriptions[record.tag](record)


def _tell(body: bytes) -> None:
    line = json.loads(body)
    fields = "".join(f" {name}={value}" for name, value in line["fields"].items())
    log.log(LEVELS.get(line["level"], logging.INFO), "%s%s", line["message"], fields)
