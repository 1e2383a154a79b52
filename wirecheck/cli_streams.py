"""What befalls the process itself: SIGTERM, and a stderr that lies on a disk that is full."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

INTERRUPTED, ENDED = 130, 143
"""Exit codes after SIGINT and after SIGTERM, as a shell tells them."""

_DISK_REFUSES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


class Tolerant:
    """A stream for progress and errors: what its disk refuses is lost, and changes no verdict and no exit code."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """All of it, as far as anyone can tell."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """As far as the disk lets."""
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def ended_as_interrupted() -> Callable[[], bool]:
    """From now on SIGTERM does what Ctrl-C does, where that is held back it waits, too; whether one came.

    So a job that its scheduler ends keeps what stands, and leaves no child and nothing half-written. Children that are
    forked end at once, as they would without.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        return lambda: bool(came)

    def ended(number: int, _frame: object) -> None:
        came.append(number)
        if callable(signal.getsignal(signal.SIGINT)):
            signal.raise_signal(signal.SIGINT)
        else:  # started in the background of a script, where Ctrl-C is ignored
            raise KeyboardInterrupt

    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, ended)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_end_at_once)
    return lambda: bool(came)


def is_refusal(error: OSError) -> bool:
    """Whether a disk refused, wherever that came up: no bug of ours."""
    return error.errno in _DISK_REFUSES or "temporary directory" in str(error.strerror)


def is_interruption(end: SystemExit) -> bool:
    """Whether it stands for a Ctrl-C that typer caught, and of which nothing was said."""
    error: BaseException | None = end if end.code == INTERRUPTED else None
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _end_at_once() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def exit_code_of(code: Any, is_ended: bool) -> Any:
    """That of an interruption is SIGTERM's where that was what came."""
    if code == INTERRUPTED:
        # A KeyboardInterrupt that has left any exec() of a text, as those of dataclasses, makes CPython end by SIGINT
        # whatever the exit code, unless a later one ends well.
        exec("")  # noqa: S102
    return ENDED if is_ended and code == INTERRUPTED else code
