"""The groups of the blocking engine; made by `make_sync.py` of `_aio_groups.py`, not by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._ops import Op
from .types import Document, Documents, Ids

if TYPE_CHECKING:
    from ._sync import Engine


class Kind:
    """The resources of one kind."""

    def __init__(self, engine: Engine, kind: str) -> None:
        self._engine, self._kind = engine, kind

    def put(self, org: str, spec: Document, *, id: str | None = None,
                  name: str | None = None, labels: dict[str, str] | None = None,
                  revision: int | None = None) -> Document:
        """Makes a resource, or puts a new version in place of the present one."""
        document: Document = {"spec": spec}
        if name is not None:
            document["name"] = name
        if labels is not None:
            document["labels"] = labels
        found: Document = self._ask(Op.RESOURCE_PUT, org, id=id, document=document,
                                          revision=revision)
        return found

    def get(self, org: str, id: str) -> Document:
        """One resource, its secrets masked."""
        found: Document = self._ask(Op.RESOURCE_GET, org, id=id)
        return found

    def list(self, org: str, **query: Any) -> Document:
        """A page of them: ``items``, and the ``cursor`` of the ``next`` one."""
        found: Document = self._ask(Op.RESOURCE_LIST, org, query=query)
        return found

    def delete(self, org: str, id: str, *, revision: int | None = None) -> None:
        """Deletes one."""
        self._ask(Op.RESOURCE_DELETE, org, id=id, revision=revision)

    def _ask(self, op: Op, org: str, **members: Any) -> Any:
        given = {name: value for name, value in members.items() if value is not None}
        return self._engine.ask(op, {"org": org, "kind": self._kind, **given})


class Organizations:
    """The organizations, which are the tenants of the host."""

    def __init__(self, engine: Engine) -> None:
        self._kind = Kind(engine, "organization")

    def put(self, id: str, spec: Document | None = None, *,
                  name: str | None = None) -> Document:
        """Makes an organization, or puts a new version in place of the present one."""
        return self._kind.put(id, {} if spec is None else spec, name=name)

    def get(self, id: str) -> Document:
        """One organization."""
        return self._kind.get(id, id)


class Deliveries:
    """Deliveries: an event each, bound to an integration."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, org: str, id: str) -> Document:
        """One delivery."""
        found: Document = self._engine.ask(Op.DELIVERY_GET, {"org": org, "id": id})
        return found

    def list(self, org: str, **query: Any) -> Document:
        """A page of them, newest first."""
        found: Document = self._engine.ask(Op.DELIVERY_LIST, {"org": org, "query": query})
        return found

    def attempts(self, org: str, id: str) -> Document:
        """The attempts of a delivery, oldest first."""
        found: Document = self._engine.ask(Op.DELIVERY_ATTEMPTS, {"org": org, "id": id})
        return found

    def retry(self, org: str, id: str) -> Document:
        """Delivers an ended delivery once more."""
        found: Document = self._engine.ask(Op.DELIVERY_RETRY, {"org": org, "id": id})
        return found

    def wait(self, org: str, *, event: str | None = None, delivery: str | None = None,
                   timeout: float = 30.0) -> Documents:
        """Waits until a delivery, or all of an event, have ended, and shows them.

        Raises :class:`IcpTimeoutError`. Where it is cancelled, the deliveries go on.
        """
        body = {"org": org, "timeout_ms": int(timeout * 1000)}
        body.update({"event": event} if event is not None else {"delivery": delivery})
        found = self._engine.ask(Op.DELIVERY_WAIT, body)
        items: Documents = found["items"]
        return items


class DeadLetters:
    """Deliveries that ended without success."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def list(self, org: str, **query: Any) -> Document:
        """A page of them, newest first."""
        body = {"org": org, "query": query}
        found: Document = self._engine.ask(Op.DEAD_LETTER_LIST, body)
        return found

    def replay(self, org: str, ids: Ids) -> Document:
        """Delivers up to 100 of them once more."""
        body = {"org": org, "document": {"ids": ids}}
        found: Document = self._engine.ask(Op.DEAD_LETTER_REPLAY, body)
        return found
