"""The life of a process in which probes, or the user's own wire, run, from its first line to its last: `isolation`."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import pickle
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import NoReturn

from pydantic import TypeAdapter

from wirecheck.child_process import die_with_parent, let_go
from wirecheck.errors import CannotRun
from wirecheck.limits import out_of_memory
from wirecheck.schema import Fact, Finding, MemoryEstimate, ProbeRun, Record, Subject


class Begun(Record):
    """A probe begins, and how many seconds it is given by the clock."""

    probe: str
    subject: Subject
    limit_s: float
    skipped: bool
    """Whether it ends as skipped, without having run."""


class Done(Record):
    """It has ended, in whichever way."""

    run: ProbeRun


Yielded = Finding | Fact | MemoryEstimate | Begun | Done
Work = Callable[[], Iterator[Yielded]]
"""What is run; for a fresh interpreter it has to be picklable."""

RECORDS: dict[str, type[Yielded]] = {
    "Finding": Finding,
    "Fact": Fact,
    "MemoryEstimate": MemoryEstimate,
    "Begun": Begun,
    "Done": Done,
}
"""What the lines between `Began` and `Ending` may be, by their first word; JSON follows."""
ENDING = TypeAdapter(dict[str, str])
_STORY_CHARS = 14_000


def live_as_fork(work: Work, records: int, output: int, *, one_thread: bool) -> NoReturn:
    """The whole life of a fork: records to the one descriptor, what is printed to the other."""
    try:
        let_go(os.open(os.devnull, os.O_RDONLY), output, keep=records)
        gc.freeze()  # no finaliser of the parent's objects runs here
        if one_thread and "torch" in sys.modules:
            import torch

            torch.set_num_threads(1)  # the threads of OpenMP's pool are not there after a fork
    except BaseException:  # noqa: BLE001  # the parent's stack is below: nothing may pass
        os._exit(1)
    _live(work, records)


def live_afresh() -> NoReturn:
    """The whole life of a fresh interpreter: the work is pickled on stdin, the records go to descriptor 3."""
    with open(0, "rb", closefd=False) as file:
        work: Work = pickle.load(file)  # noqa: S301  # written by `isolation`, to a file that has no name
    os.set_inheritable(3, False)
    _live(work, 3)


def _live(work: Work, records: int) -> NoReturn:
    """Runs the work and leaves, without running anything of the parent's."""
    code = 1
    try:
        _prepare(records)
        _send(records, "Began")
        ending = _run(work, records)
        sys.stdout.flush()
        sys.stderr.flush()
        _send(records, f"Ending {ENDING.dump_json(ending).decode()}")
        code = 0
    except BaseException:  # noqa: BLE001  # a fault of our own, or a pipe that the wire has closed: told by the status
        traceback.print_exc()
    finally:
        os._exit(code)


def _prepare(records: int) -> None:
    """A session without a terminal, streams of its own, an end with the parent's, the stack told at a sudden death."""
    with contextlib.suppress(PermissionError):  # it leads a session already
        os.setsid()
    die_with_parent()
    faulthandler.enable(file=records, all_threads=False)
    faulthandler.register(signal.SIGUSR1, file=records, all_threads=False)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115  # for the life of the process
    sys.stdout, sys.stderr = (
        open(number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        for number in (1, 2)
    )
    warnings.resetwarnings()


def _run(work: Work, records: int) -> dict[str, str]:
    """Sends what the work yields; how it ended."""
    try:
        for item in work():
            _send(records, f"{type(item).__name__} {item.model_dump_json()}")
    except CannotRun as missing:
        return {"how": "cannot run", "reason": _clean(missing.reason)}
    except BaseException as error:  # noqa: BLE001  # whatever a wire raises is its ending
        if _no_memory(error):
            return {"how": "cannot run", "reason": "not enough memory on this machine for the wire"}
        story = "".join(traceback.format_exception(error))
        if len(story) > _STORY_CHARS:
            story = f"{story[: _STORY_CHARS // 4]}\n  …\n{story[-_STORY_CHARS * 3 // 4 :]}"
        told = {"type": type(error).__name__, "message": _message(error), "traceback": story}
        return {"how": "raised"} | {key: _clean(text) for key, text in told.items()}
    return {"how": "ran"}


def _no_memory(error: BaseException) -> bool:
    try:
        return out_of_memory(error)
    except Exception:  # noqa: BLE001  # an exception of the user's whose own words fail
        return False


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the wire called sys.exit({'' if error.code is None else repr(error.code)[:200]})"
    try:
        words = str(error).strip()
    except Exception as broken:  # noqa: BLE001  # as above
        words = f"its message cannot be made: {type(broken).__name__}"
    return words[:2000] or type(error).__name__


def _clean(text: str) -> str:
    """Without halves of surrogate pairs, which JSON does not hold."""
    return text.encode(errors="backslashreplace").decode()


def _send(records: int, line: str) -> None:
    rest = line.encode() + b"\n"
    while rest:
        rest = rest[os.write(records, rest) :]
