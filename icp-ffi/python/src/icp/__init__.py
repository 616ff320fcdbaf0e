"""An integration control plane in this process: signed webhooks that are never silently lost.

:class:`AsyncEngine` is for asyncio, :class:`Engine` blocks. Documents are those of the HTTP API.
"""

from ._aio import AsyncEngine
from ._follow import AsyncSubscription, Subscription
from ._native import library as _library
from ._ops import Op
from ._sync import Engine
from .errors import (
    AbiError,
    BusyError,
    CancelledError,
    ClosedError,
    ConflictError,
    DeliveryFailed,
    Drop,
    ForkedError,
    HandlerError,
    IcpError,
    IcpTimeoutError,
    InternalError,
    InvalidError,
    Lagged,
    NotFoundError,
    StoreError,
    UnsupportedError,
)
from .types import (
    Document,
    Drained,
    Encoded,
    OutboxInsert,
    PublishResult,
    RequestContext,
    SourceBatch,
    SourceContext,
    UnsignedRequest,
)

__version__: str = _library().quick.icp_version().decode()

__all__ = [
    "AbiError",
    "AsyncEngine",
    "AsyncSubscription",
    "BusyError",
    "CancelledError",
    "ClosedError",
    "ConflictError",
    "DeliveryFailed",
    "Document",
    "Drained",
    "Drop",
    "Encoded",
    "Engine",
    "ForkedError",
    "HandlerError",
    "IcpError",
    "IcpTimeoutError",
    "InternalError",
    "InvalidError",
    "Lagged",
    "NotFoundError",
    "Op",
    "OutboxInsert",
    "PublishResult",
    "RequestContext",
    "SourceBatch",
    "SourceContext",
    "StoreError",
    "Subscription",
    "UnsignedRequest",
    "UnsupportedError",
]
