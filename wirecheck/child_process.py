"""What every forked child of wirecheck needs: strangers' programs, templates and wires, run in one and never here."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

OWN_DEATHS = ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGXFSZ")
"""Signals that a process brings upon itself; any other comes from outside, as from a kernel short of memory."""

_PARALLELISM = "TOKENIZERS_PARALLELISM"
_FORKED_BY: list[int] = []
"""The process that forks, told to its child."""
_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


@contextlib.contextmanager
def quiet_fork() -> Iterator[None]:
    """No warning about the fork, on stderr or in Python: threads of the parent's are not there in the child."""
    before = os.environ.get(_PARALLELISM)
    _FORKED_BY[:] = [os.getpid()]
    os.environ[_PARALLELISM] = "false"  # the tokenizers library reads it in the child: its threads are not there
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12+: fork in a threaded process
            yield
    finally:
        if before is None:
            del os.environ[_PARALLELISM]
        else:
            os.environ[_PARALLELISM] = before


def let_go(stdin: int, output: int, *, keep: int) -> None:
    """In a child: the standard streams are `stdin` and `output`, and of the other open files only `keep` stays open.

    A crash leaves no core file. The terminal, sockets and files of the parent are out of reach by number.
    """
    import resource

    os.dup2(stdin, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for inherited in [int(entry.name) for entry in Path("/dev/fd").iterdir()]:
        if inherited > 2 and inherited != keep:  # noqa: PLR2004  # the three standard streams
            with contextlib.suppress(OSError):  # the descriptor that read the list is gone by now
                os.close(inherited)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def die_with_parent() -> None:
    """In a child: a parent that is killed takes it along, where the platform has that (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if _FORKED_BY and os.getppid() not in _FORKED_BY:  # it was killed before it could be told so
            os._exit(1)
