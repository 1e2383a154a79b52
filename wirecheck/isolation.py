"""Work in a process of its own: what it prints stays off the terminal, and its ending is told.

A check's probes run in one, as `supervision` has it, and the user's own wire in another below that. The process is a
fork, which has at hand what the parent has. For a wire, where an accelerator is visible, it is a fresh interpreter,
which makes the models again: after a fork neither CUDA nor autograd's device threads work.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from wirecheck.child_process import quiet_fork
from wirecheck.errors import CannotRun
from wirecheck.interrupts import holding_interrupts
from wirecheck.isolated_child import ENDING, RECORDS, Begun, Work, Yielded, live_as_fork
from wirecheck.schema import ProbeError

START_S = 120.0
"""What the process may take until its work begins: the imports of torch and transformers from a cold disk."""
_LAST_WORDS_S = 0.5
_POLL_S = 0.2
_CHUNK = 1 << 16
_KEPT_CHARS = 4000
"""Of what the process prints, this much of the end is kept for the record of a crash."""
TOO_LONG = "RecordTooLong"
"""The type of the error of a process that says more in one record than is read."""
MOST_RECORD_BYTES = 1 << 26
"""Of one record; a probe's longest has some tens of thousands."""


class ChildFailed(Exception):
    """What ended the process before its work was done; `error` holds the process's own traceback."""

    def __init__(self, error: ProbeError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True)
class Words:
    """How the process is spoken of."""

    work: str = "the wire"
    limit: str = "which is what policy.wire_seconds gives one probe of a wire"


WIRE = Words()


def isolated(
    work: Work, seconds: float, *, fresh: bool | None = None, words: Words = WIRE, one_thread: bool = True
) -> Iterator[Yielded]:
    """What `work()` yields in a process of its own, as it comes. A fork computes on `one_thread`, or as the parent.

    Raises CannotRun as `work` does, where there is no fork, and where memory ran out; ChildFailed for any other
    exception (SystemExit too), for a process that ended or was killed, for a record past its bound, and after
    `seconds`, which a `Begun` counts anew, with its own. The process and what it started end with this generator (but
    for what left its session), and its output is seen nowhere but in the error. `fresh`: a fresh interpreter, for which
    `work` is pickled, and no fork; None is as the module says.
    """
    if not hasattr(os, "fork"):
        raise CannotRun(f"{words.work} is run in a forked child, which this platform does not have")
    kills = _kernel_kills()
    afresh = _sees_accelerator() if fresh is None else fresh
    with holding_interrupts() as let_come:
        child = _fresh(work) if afresh else _fork(work, one_thread=one_thread)
    try:
        let_come()
        ending = yield from _listen(child, seconds, words)
    finally:
        status = _end(child)
    match ending:
        case {"how": "ran"}:
            return
        case {"how": "cannot run", "reason": str(reason)}:
            raise CannotRun(reason)
        case {"how": "raised", **error}:
            raise ChildFailed(_told(ProbeError.model_validate(error), child))
    if os.WIFSIGNALED(status) and _kernel_kills() > kills:
        raise CannotRun(f"not enough memory on this machine: the kernel killed the process in which {words.work} ran")
    raise ChildFailed(_told(_death(status, words, began=child.began), child))


@dataclass(eq=False)
class _Child:
    """A process under way, and what came from it."""

    pid: int
    records: int
    """The pipe of lines: what the work yields, how it ended, and the stack where the process was stopped."""
    output: int
    """The pipe of its stdout and stderr."""
    began: bool = False
    printed: str = ""
    num_printed: int = 0
    stack: str = ""
    status: int | None = None
    _open: set[int] = field(default_factory=set)
    _pending: bytearray = field(default_factory=bytearray)
    """The line that has not ended yet."""

    def __post_init__(self) -> None:
        self._open = {self.records, self.output}
        for pipe in self._open:
            os.set_blocking(pipe, False)

    def is_over(self) -> bool:
        """Whether the process has ended; what it started may still hold the pipes."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if pid else None
        return self.status is not None

    def read(self, wait_s: float) -> list[tuple[str, str]] | None:
        """Whole records as (kind, JSON), waiting so long for something to come; None when nothing came."""
        ready = select.select([*self._open], [], [], max(0.0, wait_s))[0]
        lines = [line for pipe in ready for line in self._take(pipe)]
        return self._sorted(lines) if ready else None

    def drain(self, most_s: float) -> list[tuple[str, str]]:
        """The records left in the pipes: until nothing comes or `most_s` have passed."""
        found, until = [], time.monotonic() + most_s
        while time.monotonic() < until and (more := self.read(0.0)) is not None:
            found += more
        return found

    def _take(self, pipe: int) -> list[bytes]:
        """What came through that pipe: the lines that have ended with it. Raises ChildFailed for one without end."""
        try:
            chunk = os.read(pipe, _CHUNK)
        except BlockingIOError:
            return []
        if not chunk:
            self._open.discard(pipe)
        elif pipe == self.output:
            self.num_printed += len(chunk)
            self.printed = (self.printed + chunk.decode(errors="replace"))[-_KEPT_CHARS:]
        else:
            first, *further = chunk.split(b"\n")  # never the whole line again, which may be long
            self._pending += first
            if len(self._pending) > MOST_RECORD_BYTES:
                words = f"a record of more than {MOST_RECORD_BYTES >> 20} MiB came from it"
                raise ChildFailed(ProbeError(type=TOO_LONG, message=words, traceback=""))
            if further:
                lines = [bytes(self._pending), *further[:-1]]
                self._pending = bytearray(further[-1])
                return lines
        return []

    def _sorted(self, lines: list[bytes]) -> list[tuple[str, str]]:
        """The records among the lines; what faulthandler wrote is kept as the stack."""
        found = []
        for line in lines:
            kind, _, text = line.decode(errors="replace").partition(" ")
            if kind in RECORDS or kind in ("Began", "Ending"):
                found.append((kind, text))
            else:
                self.stack = f"{self.stack}{kind} {text}\n"[:_KEPT_CHARS]
        return found


def _listen(child: _Child, seconds: float, words: Words) -> Generator[Yielded, None, dict[str, str] | None]:
    """Yields the records as they come. Returns the ending that the child told; None where it told none."""
    deadline = time.monotonic() + START_S
    while True:
        over = child.is_over()
        wait_s = min(_POLL_S, deadline - time.monotonic())
        for kind, text in child.drain(_LAST_WORDS_S) if over else child.read(wait_s) or ():
            match kind:
                case "Began":
                    child.began, deadline = True, time.monotonic() + seconds
                case "Ending":
                    child.drain(_LAST_WORDS_S)
                    return ENDING.validate_json(text)
                case _:
                    item = RECORDS[kind].model_validate_json(text)
                    if isinstance(item, Begun):
                        seconds, deadline = item.limit_s, time.monotonic() + item.limit_s
                    yield item
        if over:
            return None
        if time.monotonic() >= deadline:
            raise _out_of_time(child, seconds, words)


def _out_of_time(child: _Child, seconds: float, words: Words) -> ChildFailed:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, signal.SIGUSR1)  # faulthandler answers with the stack, whatever the interpreter is doing
    until = time.monotonic() + _LAST_WORDS_S
    while not child.is_over() and time.monotonic() < until:
        if child.read(_LAST_WORDS_S / 5) is None and child.stack:
            break
    message = f"still running after {seconds:g} s, {words.limit}"
    if not child.began:
        message = f"the process for {words.work} had not begun after {START_S:g} s"
    return ChildFailed(_told(ProbeError(type="TimeoutError", message=message, traceback=""), child))


def _end(child: _Child) -> int:
    """Ends the process and whatever it started; its wait status."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    if child.status is None:
        with contextlib.suppress(ProcessLookupError):  # it leads no group until it has begun
            os.kill(child.pid, signal.SIGKILL)
        _, child.status = os.waitpid(child.pid, 0)
    os.close(child.records)
    os.close(child.output)
    return child.status


def _death(status: int, words: Words, *, began: bool) -> ProbeError:
    when = f"in which {words.work} ran" if began else f"for {words.work}"
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return ProbeError(type="ProcessKilled", message=f"the process {when} was ended by {name}", traceback="")
    code = os.WEXITSTATUS(status)
    message = f"the process {when} ended with exit status {code}, and not by returning, raising or sys.exit"
    return ProbeError(type="ProcessExited", message=message, traceback="")


def _told(error: ProbeError, child: _Child) -> ProbeError:
    """The error with the stack and the end of what was printed, where there is any."""
    story = error.traceback or f"{child.stack}{error.type}: {error.message}\n"
    if child.num_printed:
        of = "" if child.num_printed <= _KEPT_CHARS else f" (the end of {child.num_printed:,} bytes)"
        story += f"\nWhat the process printed{of}:\n{child.printed}"
    return ProbeError(type=error.type, message=error.message, traceback=story)


def _kernel_kills() -> int:
    """Processes that the kernel has killed for want of memory since it started; 0 where it does not say."""
    counters = Path("/proc/vmstat")
    if not counters.is_file():
        return 0
    lines = (line.split() for line in counters.read_text(encoding="ascii").splitlines())
    return next((int(line[1]) for line in lines if line[0] == "oom_kill"), 0)


def _sees_accelerator() -> bool:
    import torch

    return torch.accelerator.is_available()


# --- how it is started -------------------------------------------------------------------------------------------


def _fork(work: Work, *, one_thread: bool) -> _Child:
    (records, records_in), (output, output_in) = os.pipe(), os.pipe()
    try:
        with quiet_fork():
            pid = os.fork()
            if pid == 0:
                live_as_fork(work, records_in, output_in, one_thread=one_thread)
    finally:
        os.close(records_in)
        os.close(output_in)
    return _Child(pid, records, output)


def _fresh(work: Work) -> _Child:
    (records, records_in), (output, output_in) = os.pipe(), os.pipe()
    first = f"import sys; sys.path[:] = {sys.path!r}; from wirecheck.isolated_child import live_afresh; live_afresh()"
    try:
        with tempfile.TemporaryFile() as file:
            pickle.dump(work, file)
            file.seek(0)
            streams = [(file.fileno(), 0), (output_in, 1), (output_in, 2), (records_in, 3)]
            actions = [(os.POSIX_SPAWN_DUP2, ours, theirs) for ours, theirs in streams]
            pid = os.posix_spawn(sys.executable, [sys.executable, "-c", first], os.environ, file_actions=actions)
    finally:
        os.close(records_in)
        os.close(output_in)
    return _Child(pid, records, output)
