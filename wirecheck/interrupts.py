"""Work that a Ctrl-C may not cut in two: it waits for the end of it, and is never lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def holding_interrupts() -> Iterator[Callable[[], None]]:
    """Ctrl-C inside waits; what is yielded, called afterwards, lets it come. Where an error ends the block, it comes.

    An exception that a fork's own callbacks raise is dropped by Python, KeyboardInterrupt too; and one raised between
    the fork and the first line that knows of the child would leave the child alone.
    """
    before = signal.getsignal(signal.SIGINT)
    came: list[int] = []
    if before is None or threading.current_thread() is not threading.main_thread():
        yield lambda: None  # the handler is not ours to set, and does not run in this thread
        return

    def let_come() -> None:
        if came:
            signal.raise_signal(signal.SIGINT)

    ended_well = False
    signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield let_come
        ended_well = True
    finally:
        signal.signal(signal.SIGINT, before)
        if not ended_well:
            let_come()


def undisturbed(work: Callable[P, T]) -> Callable[P, T]:
    """Ctrl-C waits until the work is done."""

    @wraps(work)
    def held(*given: P.args, **named: P.kwargs) -> T:
        with holding_interrupts() as let_come:
            done = work(*given, **named)
        let_come()
        return done

    return held
