"""Many pieces of work, each in a forked child of its own, several at a time: a crash, a kill or a hang costs one piece.

What the parent has imported is there in every child at once, which is what makes a process per piece cheap. A child
handles strangers' files: it is confined first (see `confinement`).
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from wirecheck.child_process import die_with_parent, let_go, quiet_fork
from wirecheck.confinement import Fence, bound_cpu, bound_memory, confine
from wirecheck.errors import CannotRun, CouldNotCheck
from wirecheck.heap import keep_freed
from wirecheck.scratch import Scratch

MEMORY_BYTES = 8 * 2**30
"""Address space a child may take beside the parent's; enforced where the platform counts it (Linux)."""
_GRACE_S = 30
"""A child whose parent is gone ends itself this long after its limit."""
_POLL_S = 0.2
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Answered:
    """The child came to its end and wrote this."""

    name: str
    text: str
    seconds: float


@dataclass(frozen=True)
class Died:
    """The child did not come to its end, and why."""

    name: str
    why: str
    seconds: float


@dataclass(frozen=True)
class NotBegun(Died):
    """There was no child: the disk has no room for its folder. Nothing is told of the work itself."""

    next_step: str | None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one child may take."""

    seconds: float
    """By the clock."""
    memory_bytes: int = MEMORY_BYTES
    cpu_seconds: float | None = None
    """Of processor time; None: as much as it can get in `seconds`."""
    data_bytes: int | None = None
    """Memory that it writes to, beside the parent's; None: no bound of its own. See `confinement.bound_memory`."""
    open_files: bool = False
    """Whether it may write where the user may, and start programs: it runs code that the user chose."""


@dataclass
class _Child:
    name: str
    pid: int
    reader: int
    began: float
    scratch: Scratch
    answer: bytearray = field(default_factory=bytearray)


def free_cpus() -> int:
    """CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_forks(
    names: Sequence[str],
    work: Callable[[str], str],
    *,
    jobs: int,
    limits: Limits,
) -> Iterator[Answered | Died]:
    """What `work(name)` returns, or how its process died, in the order they end; at most `jobs` at a time.

    Every child runs on one thread, without a terminal, and ends with this generator at the latest. Ctrl-C is
    raised here, when what has come was handed out. Raises CannotRun on a platform without fork.
    """
    if not hasattr(os, "fork"):
        raise CannotRun("every type is run in a forked child, which this platform does not have")
    waiting, children = list(reversed(names)), dict[int, _Child]()
    with held_interrupt() as interrupted:
        try:
            while waiting or children:
                if interrupted.is_set():
                    raise KeyboardInterrupt
                while waiting and len(children) < jobs:
                    name = waiting.pop()
                    try:
                        child = _start(name, work, limits)
                    except CouldNotCheck as error:
                        yield NotBegun(name, error.message, 0.0, error.next_step)
                        continue
                    children[child.reader] = child
                for reader in _ready(children, limits.seconds) if children else ():
                    yield _end(children.pop(reader), None)
                for child in [c for c in children.values() if time.monotonic() - c.began > limits.seconds]:
                    why = f"still running after its time limit of {limits.seconds:g} s"
                    yield _end(children.pop(child.reader), why)
        finally:
            for child in children.values():
                _end(child, "stopped")
    if interrupted.is_set():  # it came while the last child was ended
        raise KeyboardInterrupt


@contextlib.contextmanager
def held_interrupt() -> Iterator[threading.Event]:
    """Set by a Ctrl-C, which is raised by nobody meanwhile: in a hook that runs after a fork Python would drop it."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _start(name: str, work: Callable[[str], str], limits: Limits) -> _Child:
    scratch = Scratch()
    reader, writer = os.pipe()
    with quiet_fork():
        pid = os.fork()
        if pid == 0:
            _live(name, work, writer, (limits, None if limits.open_files else scratch.path))
    os.close(writer)
    return _Child(name, pid, reader, time.monotonic(), scratch)


def _ready(children: dict[int, _Child], limit_s: float) -> list[int]:
    """Reads what has come; the pipes that have ended. Returns when something came, and soon in any case."""
    next_limit = min(child.began for child in children.values()) + limit_s
    wait_s = min(max(0.0, next_limit - time.monotonic()) + 0.01, _POLL_S)
    readable = select.select([*children], [], [], wait_s)[0]
    ended = []
    for reader in readable:
        chunk = os.read(reader, _CHUNK)
        children[reader].answer += chunk
        if not chunk:
            ended.append(reader)
    return ended


def _end(child: _Child, stopped: str | None) -> Answered | Died:
    """Ends what is left of the child's session, and reads how it went."""
    if stopped:
        for kill in (os.killpg, os.kill):  # it leads no session yet, where it has only just been started
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(child.pid, signal.SIGKILL)
    os.close(child.reader)
    _, status = os.waitpid(child.pid, 0)
    child.scratch.drop()
    seconds = round(time.monotonic() - child.began, 3)
    if stopped:
        return Died(child.name, stopped, seconds)
    if os.WIFSIGNALED(status):
        return Died(child.name, f"its process was ended by {signal.Signals(os.WTERMSIG(status)).name}", seconds)
    if os.WEXITSTATUS(status):
        return Died(child.name, f"its process ended with exit status {os.WEXITSTATUS(status)}", seconds)
    return Answered(child.name, child.answer.decode(), seconds)


# --- in the child ------------------------------------------------------------------------------------------------


def _live(name: str, work: Callable[[str], str], writer: int, bounds: tuple[Limits, Path | None]) -> NoReturn:
    """Works, writes the answer and leaves, without running anything of the parent's."""
    code = 1
    try:
        _settle(writer, *bounds)
        rest = work(name).encode()
        while rest:
            rest = rest[os.write(writer, rest) :]
        code = 0
    except BaseException:  # noqa: BLE001  # the parent's stack is below: nothing may pass
        code = 1
    finally:
        os._exit(code)


def _settle(writer: int, limits: Limits, scratch: Path | None) -> None:
    """A session of its own, no terminal, no finaliser of the parent's objects, one thread, bounded memory and time."""
    import resource

    os.setsid()
    faulthandler.disable()
    null = os.open(os.devnull, os.O_RDWR)
    let_go(null, null, keep=writer)
    sys.stdout = sys.stderr = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # the parent's may be others
    gc.freeze()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(limits.seconds) + _GRACE_S)
    die_with_parent()
    confine(Fence(scratch, programs=limits.open_files))
    if limits.cpu_seconds is not None:
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        bound_cpu(limits.cpu_seconds)
    if limits.data_bytes is not None:
        bound_memory(limits.data_bytes)
    pages = Path("/proc/self/statm")
    if pages.is_file():
        held = int(pages.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = held + limits.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)  # the threads of OpenMP's pool are not there after a fork
        keep_freed()
