"""What befalls the process itself: SIGINT and SIGTERM, and a stderr that lies on a disk that is full."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import IO, Any

INTERRUPTED, ENDED = 130, 143
"""Exit codes after SIGINT and after SIGTERM, as a shell tells them."""

_AGAIN_S = 0.01
"""After which an interruption that Python dropped is sent again."""
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


@contextmanager
def heeded_signals() -> Iterator[list[int]]:
    """Inside it no Ctrl-C is lost, and SIGTERM does what Ctrl-C does; the signals that came.

    Python drops an exception that is raised in a finaliser or in a callback, of which every import has many, and
    KeyboardInterrupt too: the process would go on as if nothing had been. Such a one is sent again. A library that
    catches whatever is raised drops it as well, or makes another exception of it: then `exit_code_of` knows of it.
    """
    came: list[int] = []
    _end_as_interrupted(came)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield came  # it is ignored in the background of a script, or the caller's own affair
        return
    told_before, again = sys.unraisablehook, list[threading.Timer]()

    def noted(number: int, frame: FrameType | None) -> None:
        came.append(number)
        signal.default_int_handler(number, frame)

    def told(dropped: sys.UnraisableHookArgs) -> None:
        if isinstance(dropped.exc_value, KeyboardInterrupt):
            again.append(threading.Timer(_AGAIN_S, _interrupt_main))
            again[-1].start()
        else:
            told_before(dropped)

    signal.signal(signal.SIGINT, noted)
    sys.unraisablehook = told
    try:
        yield came
    finally:
        sys.unraisablehook = told_before
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for timer in again:
            timer.cancel()


def _interrupt_main() -> None:
    """As Ctrl-C does, whatever the main thread waits for."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        signal.raise_signal(signal.SIGINT)


def _end_as_interrupted(came: list[int]) -> None:
    """From now on SIGTERM does what Ctrl-C does, where that is held back it waits, too, and is noted.

    So a job that its scheduler ends keeps what stands, and leaves no child and nothing half-written. Children that are
    forked end at once, as they would without.
    """
    if threading.current_thread() is not threading.main_thread():
        return

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


def exit_code_of(code: Any, came: Sequence[int]) -> Any:
    """An interruption's where one came, whatever else was found: what it met may have been taken for something else."""
    if came or code == INTERRUPTED:
        # A KeyboardInterrupt that has left any exec() of a text, as those of dataclasses, makes CPython end by SIGINT
        # whatever the exit code, unless a later one ends well.
        exec("")  # noqa: S102
        return ENDED if signal.SIGTERM in came else INTERRUPTED
    return code
