"""A time at which waiting for the network ends, for everything that is asked of it meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_UNTIL: ContextVar[float | None] = ContextVar("until", default=None)
"""time.monotonic() at the end; None: no end."""


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """What is asked in this block, also on threads that begin in it, ends by then. None sets no end."""
    token = _UNTIL.set(_UNTIL.get() if seconds is None else time.monotonic() + seconds)
    try:
        yield
    finally:
        _UNTIL.reset(token)


def left_s() -> float | None:
    """Seconds until the end, never below 0; None where none is set."""
    until = _UNTIL.get()
    return None if until is None else max(0.0, until - time.monotonic())
