"""What every reader owes whoever hands it bytes: a value or one of its own errors, soon, small, and nothing besides.

The watch is an audit hook, so that writing, asking the network or starting a program is seen wherever it is done. A
hook cannot be taken out again: this module is for processes of its own (the fuzzer's, `tests.fuzz.replay`).
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_BYTES = 64 * 1024
"""The longest input that the bounds are promised for."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_REFUSED = (
    *("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.remove", "os.rename"),
    *("os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod", "shutil.", "pickle.find_class"),
    *("ctypes.dlopen", "webbrowser.", "ftplib.", "urllib.", "sqlite3."),
)
"""Audit events, by how they begin, that no reader may cause; pickle's is the one of naming a class."""


@dataclass(frozen=True)
class Bounds:
    """What one input may take."""

    cpu_s: float = 2.0
    memory_bytes: int = 256 * 1024**2
    """Beside what the process already had."""


class Breach(Exception):
    """An input for which a reader does not keep the contract; `kind` tells breaches of one cause from others."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(f"{kind}: {words}")
        self.kind = kind


class _Overtime(BaseException):
    """Raised by the timer inside of a reader that is still at work."""


class Watch:
    """The audit hook, and whether it is looking."""

    def __init__(self) -> None:
        self.looking = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, given: tuple[Any, ...]) -> None:
        if not self.looking:
            return
        if event == "open":
            path, _, flags = given
            if isinstance(flags, int) and flags & _WRITING and path != os.devnull:
                self._refuse(f"open for writing: {path}")
        elif event.startswith(_REFUSED):
            self._refuse(f"{event}{given[:2]!r}"[:200])

    def _refuse(self, what: str) -> None:
        self.looking = False  # telling it needs no watch
        self.seen.append(what)
        raise PermissionError(f"a reader must not do that: {what}")

    @contextmanager
    def on(self) -> Iterator[None]:
        """Looks inside it. A refusal that the reader swallowed is still in `seen`."""
        self.seen.clear()
        self.looking = True
        try:
            yield
        finally:
            self.looking = False


def held(
    read: Callable[[], object], errors: tuple[type[Exception], ...], bounds: Bounds, watch: Watch, *, exact: bool
) -> str:
    """How the reader ended: `value`, or its error's name. Raises Breach.

    `exact` counts every byte of Python's (slowly); else growth of the whole process past its largest so far is seen.
    """
    meter = _Traced() if exact else _Resident()
    begin = time.process_time()
    try:
        with _timer(bounds.cpu_s), watch.on():
            ending = _ended(read, errors)
    except _Overtime:
        raise Breach("hang", f"still at work after {bounds.cpu_s:g} s of CPU time") from None
    except Breach:
        _nothing_done(watch)  # what was refused is the cause
        raise
    finally:
        taken = meter.taken()
    spent = time.process_time() - begin
    _nothing_done(watch)
    if spent > bounds.cpu_s:
        raise Breach("hang", f"{spent:.1f} s of CPU time, {bounds.cpu_s:g} are allowed")
    if taken > bounds.memory_bytes:
        raise Breach("memory", f"{taken // 1024**2} MiB, {bounds.memory_bytes // 1024**2} are allowed")
    return ending


def _nothing_done(watch: Watch) -> None:
    if watch.seen:
        raise Breach(f"did {watch.seen[0].split('(')[0].split(':')[0]}", watch.seen[0])


def _ended(read: Callable[[], object], errors: tuple[type[Exception], ...]) -> str:
    try:
        read()
    except errors as error:
        if "\n" in str(error) or not str(error).strip():
            raise Breach("wordy", f"{type(error).__name__} is not of one line: {str(error)[:200]!r}") from None
        return type(error).__name__
    except (_Overtime, Breach, KeyboardInterrupt):
        raise
    except BaseException as error:  # a panic of a Rust library is no Exception
        raise Breach(_signature(error), f"{type(error).__name__}: {str(error)[:300]}") from error
    return "value"


def _signature(error: BaseException) -> str:
    """Type and the last place in wirecheck: what a mended crash would not have again."""
    place, frame = "", error.__traceback__
    while frame is not None:
        path = Path(frame.tb_frame.f_code.co_filename)
        if "wirecheck" in path.parts or not place:
            place = f"{path.name}:{frame.tb_frame.f_code.co_name}"
        frame = frame.tb_next
    return f"{type(error).__name__} in {place}"


@contextmanager
def _timer(seconds: float) -> Iterator[None]:
    def ring(_signal: int, _frame: object) -> None:
        raise _Overtime

    before = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


class _Traced:
    def __init__(self) -> None:
        tracemalloc.start(1)

    def taken(self) -> int:
        """Bytes that Python's allocators held at most."""
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak


class _Resident:
    def __init__(self) -> None:
        self.before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def taken(self) -> int:
        """Bytes by which the process outgrew its largest."""
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self.before) * 1024


def confine(bounds: Bounds) -> None:
    """Give the rest of this process's life no more address space than it has and twice the bound."""
    pages = Path("/proc/self/statm")
    if not pages.is_file():
        return
    held_bytes = int(pages.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    most, hard = held_bytes + 2 * bounds.memory_bytes, resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
