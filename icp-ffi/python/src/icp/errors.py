"""The exceptions, one for each status of the library."""

from __future__ import annotations

import json
from typing import Any

from ._ops import Status


class IcpError(Exception):
    """Something failed; the subclass says what kind of failure it is.

    ``code`` and ``name`` are the status, ``cause`` is the engine's own code (as in
    ``resource_invalid``), ``path`` the JSON pointer to what is at fault, ``violations`` every
    broken rule. ``retryable`` says whether trying again can help.
    """

    def __init__(self, details: dict[str, Any]) -> None:
        super().__init__(details.get("message", "failed"))
        self.details = details
        self.code: int = details.get("code", int(Status.INTERNAL))
        self.name: str = details.get("name", "INTERNAL")
        self.message: str = details.get("message", "")
        self.retryable: bool = details.get("retryable", False)
        self.cause: str | None = details.get("cause")
        self.path: str | None = details.get("path")
        self.violations: list[dict[str, Any]] = details.get("violations", [])

    def __str__(self) -> str:
        at = f" (at {self.path})" if self.path else ""
        return f"{self.message}{at}"


class InvalidError(IcpError):
    """The input is not acceptable."""


class NotFoundError(IcpError):
    """There is no such thing."""


class ConflictError(IcpError):
    """What is stored differs from what was expected."""


class ClosedError(IcpError):
    """The engine is not started, or is shut down."""


class CancelledError(IcpError):
    """The operation was called off."""


class IcpTimeoutError(IcpError, TimeoutError):
    """The time was over; the operation may still take effect."""


class BusyError(IcpError):
    """Too much is under way."""


class StoreError(IcpError):
    """The store, or something else that is needed, does not answer."""


class HandlerError(IcpError):
    """A handler failed."""


class UnsupportedError(IcpError):
    """This build or store cannot do it."""


class AbiError(IcpError):
    """Package and library are of different versions."""


class ForkedError(IcpError):
    """The engine belongs to the process this one was forked from."""


class InternalError(IcpError):
    """A defect of the library."""


BY_STATUS: dict[int, type[IcpError]] = {
    Status.INVALID: InvalidError,
    Status.NOT_FOUND: NotFoundError,
    Status.CONFLICT: ConflictError,
    Status.CLOSED: ClosedError,
    Status.CANCELLED: CancelledError,
    Status.TIMEOUT: IcpTimeoutError,
    Status.BUSY: BusyError,
    Status.STORE: StoreError,
    Status.HANDLER: HandlerError,
    Status.UNSUPPORTED: UnsupportedError,
    Status.ABI: AbiError,
    Status.FORKED: ForkedError,
    Status.UNKNOWN_REQUEST: NotFoundError,
    Status.NOT_CANCELLABLE: ConflictError,
    Status.WRONG_THREAD: InternalError,
    Status.PANIC: InternalError,
    Status.INTERNAL: InternalError,
}


def error_of(status: int, document: bytes) -> IcpError:
    """The exception of a status and its error document."""
    details: dict[str, Any] = {"code": status, "message": "failed"}
    try:
        details.update(json.loads(document))
    except ValueError:
        pass
    return BY_STATUS.get(status, InternalError)(details)


class Drop(Exception):
    """Raised by a transformer or a filter: nothing is to be sent, and that is no failure."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class DeliveryFailed(Exception):
    """Raised by a target: the delivery failed, and what follows.

    ``again`` is ``retry`` (default), ``wait``, ``refused``, ``impossible`` or ``gone``; ``wait`` is
    how many seconds the receiver asks to wait; ``kind`` is a stable name in lower case.
    """

    def __init__(
        self,
        message: str,
        *,
        again: str = "retry",
        wait: float | None = None,
        kind: str = "handler",
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.again = "wait" if wait is not None else again
        self.wait = wait
        self.kind = kind
        self.status = status

    def document(self) -> dict[str, Any]:
        """The answer that the engine reads."""
        failed: dict[str, Any] = {"class": self.kind, "message": str(self), "again": self.again}
        if self.wait is not None:
            failed["wait_ms"] = int(self.wait * 1000)
        return {"failed": failed, "status": self.status}


class Lagged(Exception):
    """Items of a subscription were dropped because they were not read in time."""

    def __init__(self, dropped: int) -> None:
        super().__init__(f"{dropped} items were dropped")
        self.dropped = dropped
