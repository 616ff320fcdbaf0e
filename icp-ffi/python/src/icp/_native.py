"""The shared library, and one engine with one queue of it."""

from __future__ import annotations

import ctypes
import os
import pathlib
import struct
import sysconfig
import threading
from typing import NamedTuple

from ._ops import ABI_VERSION, Item, Op, Status
from .errors import error_of

_HEADER = struct.Struct("=QIiII")
_FIRST_BUFFER = 1 << 16


class Record(NamedTuple):
    """What came out of the queue."""

    tag: int
    kind: int
    status: int
    body: bytes


def _path() -> str:
    # For tests of the package on a library that is not in it.
    override = os.environ.get("ICP_LIBRARY")
    if override:
        return override
    folder = pathlib.Path(__file__).parent / "_lib"
    for name in ("libicp.so.1", "libicp.1.dylib", "icp.dll"):
        if (folder / name).exists():
            return str(folder / name)
    raise ImportError(f"the package was built without the library in {folder}")


class _Library:
    """The functions with their types. What never blocks is called with the GIL held."""

    def __init__(self) -> None:
        path = _path()
        self.waiting = ctypes.CDLL(path)
        threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
        self.quick = self.waiting if threaded else ctypes.PyDLL(path)
        p, size, out = ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p)
        data, u32, u64 = ctypes.c_char_p, ctypes.c_uint32, ctypes.c_uint64
        i32, i64 = ctypes.c_int32, ctypes.c_int64
        for name, result, arguments in (
            ("icp_abi_version", u32, []),
            ("icp_version", ctypes.c_char_p, []),
            ("icp_build_info", ctypes.c_char_p, []),
            ("icp_error_json", ctypes.c_char_p, [p]),
            ("icp_error_free", None, [p]),
            ("icp_engine_new", i32, [u32, data, size, out, out]),
            ("icp_queue_new", i32, [p, u32, out, out]),
            ("icp_queue_fd", i64, [p]),
            ("icp_queue_wake", None, [p]),
            ("icp_queue_free", None, [p]),
            ("icp_queue_drain", i64, [p, p, size, i64, ctypes.POINTER(size)]),
            ("icp_submit", i32, [p, p, u32, u64, data, size, out]),
            ("icp_cancel", i32, [p, p, u64]),
            ("icp_respond", i32, [p, u64, i32, data, size]),
            ("icp_log_to_queue", i32, [p, i32, out]),
            ("icp_engine_free", None, [p]),
            (
                "icp_call",
                i32,
                [p, u32, data, size, i64, out, ctypes.POINTER(size), out],
            ),
            ("icp_buf_free", None, [p, size]),
        ):
            for library in (self.waiting, self.quick):
                function = getattr(library, name)
                function.restype, function.argtypes = result, arguments
        version = self.quick.icp_abi_version()
        if version >> 16 != ABI_VERSION >> 16 or version < ABI_VERSION:
            raise ImportError(f"{path} has version {version:#x} of the ABI, not {ABI_VERSION:#x}")


_library: _Library | None = None
_loading = threading.Lock()


def library() -> _Library:
    """The library, loaded once."""
    global _library
    with _loading:
        if _library is None:
            _library = _Library()
        return _library


class Link:
    """One engine and one queue. Safe to use from several threads, but for ``free``."""

    def __init__(self, config: bytes) -> None:
        self._lib = library()
        self._engine = ctypes.c_void_p()
        self._queue = ctypes.c_void_p()
        self._buffer = ctypes.create_string_buffer(_FIRST_BUFFER)
        self._needed = ctypes.c_size_t()
        self._pid = os.getpid()
        error = ctypes.c_void_p()
        new = self._lib.waiting.icp_engine_new
        self._raise(new(ABI_VERSION, config, len(config), ctypes.byref(self._engine),
                        ctypes.byref(error)), error)
        made = self._lib.quick.icp_queue_new(
            self._engine, 0, ctypes.byref(self._queue), ctypes.byref(error)
        )
        self._raise(made, error)

    def _raise(self, status: int, error: ctypes.c_void_p) -> None:
        if status == Status.OK:
            return
        document = b""
        if error.value:
            document = self._lib.quick.icp_error_json(error)
            self._lib.quick.icp_error_free(error)
            error.value = None
        raise error_of(status, document)

    @property
    def is_here(self) -> bool:
        """Whether this is the process that the engine runs in."""
        return self._pid == os.getpid()

    def fd(self) -> int:
        """The descriptor that is readable while there is something to drain, or -1."""
        return int(self._lib.quick.icp_queue_fd(self._queue))

    def submit(self, op: int, tag: int, body: bytes) -> None:
        """Starts an operation; its completion comes out of the queue."""
        if not self._engine.value:
            raise error_of(Status.CLOSED, b'{"name":"CLOSED","message":"the engine is closed"}')
        error = ctypes.c_void_p()
        status = self._lib.quick.icp_submit(
            self._engine, self._queue, op, tag, body, len(body), ctypes.byref(error)
        )
        if status:
            self._raise(status, error)

    def call(self, op: int, body: bytes, timeout_ms: int) -> bytes:
        """Does an operation while this thread waits."""
        out, length, error = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_void_p()
        status = self._lib.waiting.icp_call(
            self._engine, op, body, len(body), timeout_ms,
            ctypes.byref(out), ctypes.byref(length), ctypes.byref(error),
        )
        self._raise(status, error)
        try:
            return ctypes.string_at(out.value or 0, length.value)
        finally:
            self._lib.quick.icp_buf_free(out, length)

    def cancel(self, tag: int) -> None:
        """Calls a wait off; nothing where it has ended."""
        self._lib.quick.icp_cancel(self._engine, self._queue, tag)

    def respond(self, request: int, status: int, body: bytes) -> bool:
        """Answers a handler's request; false where nobody waits for it any more."""
        done = self._lib.quick.icp_respond(self._engine, request, status, body, len(body))
        return bool(done == Status.OK)

    def log(self, level: int) -> None:
        """Has the log of the process come out of this queue."""
        error = ctypes.c_void_p()
        self._raise(self._lib.quick.icp_log_to_queue(self._queue, level, ctypes.byref(error)),
                    error)

    def drain(self, timeout_ms: int) -> list[Record] | None:
        """What came out of the queue; ``None`` when nothing more will come.

        One thread at a time: the buffer is used again.
        """
        functions = self._lib.quick if timeout_ms == 0 else self._lib.waiting
        while True:
            count = functions.icp_queue_drain(
                self._queue, self._buffer, len(self._buffer), timeout_ms,
                ctypes.byref(self._needed),
            )
            if count < 0:
                return None
            if count == 0 and self._needed.value:
                self._buffer = ctypes.create_string_buffer(self._needed.value)
                continue
            return self._records(count)

    def _records(self, count: int) -> list[Record]:
        data = memoryview(self._buffer)[:count]
        found, at = [], 0
        while at < count:
            tag, kind, status, length, _ = _HEADER.unpack_from(data, at)
            at += _HEADER.size
            found.append(Record(tag, kind, status, data[at : at + length].tobytes()))
            at += length + (-length & 7)
        return found

    def wake(self) -> None:
        """Makes a drain that waits return."""
        self._lib.quick.icp_queue_wake(self._queue)

    def stop(self) -> None:
        """Stops the engine at once; what is pending ends as cancelled."""
        engine, self._engine = self._engine, ctypes.c_void_p()
        self._lib.waiting.icp_engine_free(engine)

    def free(self) -> None:
        """Frees the queue; call it when no other thread uses this."""
        queue, self._queue = self._queue, ctypes.c_void_p()
        self._lib.quick.icp_queue_free(queue)

    def hurry(self, limit_ms: int) -> None:
        """Shuts the engine down within a time, for a process that ends."""
        body = b'{"drain_ms":%d}' % (limit_ms // 2)
        try:
            self.call(Op.SHUTDOWN, body, limit_ms)
        except Exception:  # noqa: BLE001 - the process ends: what is stored is safe
            pass


__all__ = ["Item", "Link", "Op", "Record", "Status", "library"]
