"""That an engine which is forgotten, or left running when the process ends, is stopped."""

from __future__ import annotations

import atexit
import os
import threading
import warnings
import weakref
from typing import Callable

from ._native import Link

# How long a process that ends waits for its engines, each.
_LIMIT_MS = 1_000

_live: weakref.WeakSet[Ending] = weakref.WeakSet()


class Ending:
    """The end of one engine, whoever brings it about."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._alive = True
        self.last: Callable[[], None] | None = None
        """What is done after the engine was stopped and before its queue is freed."""

    @property
    def alive(self) -> bool:
        """Whether the engine was neither closed nor left in another process."""
        return self._alive and self._link.is_here

    def detach(self) -> bool:
        """Takes the end over; false where another one did."""
        with self._lock:
            was, self._alive = self.alive, False
            return was

    def stop(self, gently: bool) -> None:
        """Stops the engine, where nobody did."""
        if not self.detach():
            return
        if gently:
            self._link.hurry(_LIMIT_MS)
        self._link.stop()
        if self.last is not None:
            self.last()
        self._link.free()


def watch(engine: object, link: Link) -> Ending:
    """Sees to the end of an engine."""
    ending = Ending(link)
    _live.add(ending)
    weakref.finalize(engine, _forgotten, ending).atexit = False
    return ending


def _forgotten(ending: Ending) -> None:
    if ending.alive:
        warnings.warn("an engine of icp was not closed", ResourceWarning, stacklevel=2)
        ending.stop(gently=False)


@atexit.register
def _at_exit() -> None:
    for ending in list(_live):
        ending.stop(gently=True)


def _in_child() -> None:
    # Threads and locks of the engines stayed in the parent.
    for ending in list(_live):
        ending._alive = False


os.register_at_fork(after_in_child=_in_child)
