"""What goes in and comes out."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, TypedDict, Union

Document = dict[str, Any]
"""A JSON object, as the HTTP API has it."""

Documents = list[Document]
"""Several of them."""

Ids = list[str]
"""Ids of what is meant."""

Encoded = Union[bytes, bytearray, str]
"""A document that is JSON text already."""


class PublishResult(TypedDict):
    """What became of a published event."""

    id: str
    duplicate: bool
    deliveries: int


class OutboxInsert(TypedDict):
    """The statement that publishes an event in the host's own transaction."""

    id: str
    sql: str
    values: list[Union[int, str, bytes, None]]


class Refused(TypedDict):
    """An event of several that was refused."""

    error: Document


class Drained(TypedDict):
    """What a shutdown brought to an end."""

    finished: int
    released: int
    unsettled: int


@dataclass(frozen=True)
class UnsignedRequest:
    """A request that is complete but for the header fields of its signer."""

    method: str
    url: str
    """As it is sent, with its query."""
    headers: dict[str, str]
    """By names in lower case; the client adds those of the connection, as ``host``, by itself."""
    body: bytes
    """The exact bytes."""


class SourceBatch(TypedDict, total=False):
    """What an event source answers."""

    events: list[Document]
    """What is published, as :meth:`publish` takes it, each with an ``id`` that names it within the
    source and without ``org`` and ``idempotency_key``."""
    checkpoint: Any
    """From where the next poll goes on: anything that has a JSON form."""
    more: bool
    """Whether more is there already, so that the next poll follows at once."""


@dataclass(frozen=True)
class SourceContext:
    """What an event source may know beside its checkpoint."""

    handler: str
    """The name it is registered by: the ``type`` of the source."""
    org: str
    source: str
    """The id of the source."""
    limit: int
    """The most events that are taken at once."""
    timeout: float
    config: Any = None
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    """The secrets of the source, opened."""
    cancelled: threading.Event = field(default_factory=threading.Event, compare=False)
    """Set when nobody waits for the answer any more."""


@dataclass(frozen=True)
class RequestContext:
    """What a handler may know beside the payload.

    A request may come again after a crash: ``event``, ``integration`` and ``delivery`` are the
    same then.
    """

    handler: str
    org: str
    event: str
    type: str
    attempt: int
    timeout: float
    integration: str | None = None
    delivery: str | None = None
    config: Any = None
    test: bool = False
    cancelled: threading.Event = field(default_factory=threading.Event, compare=False)
    """Set when nobody waits for the answer any more; a handler may stop then."""
