"""Real processes of the tool that are sent a signal at a moment: what they leave, and what must hold of it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import bad_disks
from tests.bad_disks import Command
from wirecheck.errors import UsageError

ENDS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}
"""Exit codes of a run that was stopped."""
UNREADY = {signal.SIGINT: -signal.SIGINT, signal.SIGTERM: -signal.SIGTERM, signal.SIGKILL: -signal.SIGKILL}
"""Of a run that had not come to its own first line: the interpreter's own end."""
LONGEST_S = 60.0
FADES_S = 10.0
"""How long a child may take to end after its parent."""


@dataclass(frozen=True)
class Stopped:
    """What became of one run."""

    number: signal.Signals
    at_s: float
    code: int
    out: str
    err: str
    orphans: tuple[str, ...]
    """Command lines of processes that it had started and that were still there."""
    took_s: float
    """From the signal to its end."""
    wrote_on: bool
    """Whether anything that it was asked for was still to be written when the signal came."""


def undisturbed(place: Path, command: Command) -> tuple[subprocess.CompletedProcess[str], float]:
    """A run as `stop` begins it, and how long it took."""
    words = [sys.executable, "-m", "wirecheck", *command.words]
    environment = bad_disks.environment(place, on_runner=command.on_runner)
    begun = time.monotonic()
    done = subprocess.run(words, cwd=place, env=environment, text=True, capture_output=True, check=False)
    return done, time.monotonic() - begun


def stop(place: Path, command: Command, number: signal.Signals, at_s: float) -> Stopped:
    """Run it in `place`, and send the signal to its first process alone after so many seconds."""
    words = [sys.executable, "-m", "wirecheck", *command.words]
    environment = bad_disks.environment(place, on_runner=command.on_runner)
    streams = {name: (place / name).open("w") for name in ("stdout", "stderr")}
    with subprocess.Popen(words, cwd=place, env=environment, start_new_session=True, **streams) as process:
        time.sleep(at_s)
        _held_still(process)
        before = _written(place, command)
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        sent, is_late = time.monotonic(), False
        try:
            process.wait(LONGEST_S)
        except subprocess.TimeoutExpired:
            is_late = True
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        took_s = time.monotonic() - sent
    for stream in streams.values():
        stream.close()
    out, err = ((place / name).read_text(encoding="utf-8") for name in streams)
    err += "STILL RUNNING" if is_late else ""
    orphans = left(place)
    return Stopped(number, at_s, process.returncode, out, err, orphans, took_s, _written(place, command) != before)


def _held_still(process: subprocess.Popen[bytes]) -> None:
    """Stopped, so that what it has written is known to be of before the signal; or ended."""
    process.send_signal(signal.SIGSTOP)
    with suppress(OSError):
        while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] not in "TZ":
            time.sleep(0.001)


def _written(place: Path, command: Command) -> dict[str, tuple[int, int]]:
    """What was asked for, and what stdout has, as they stand."""
    found = {}
    for name in (*command.files, "summary.md", "stdout"):
        with suppress(OSError):
            seen = (place / name).stat()
            found[name] = seen.st_mtime_ns, seen.st_size
    return found


def left(place: Path) -> tuple[str, ...]:
    """What is left of the runs in `place`, once it had time to fade. Linux alone tells."""
    deadline = time.monotonic() + FADES_S
    while (found := dict(_started_in(place))) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return tuple(found.values())


def _started_in(place: Path) -> Iterator[tuple[int, str]]:
    """By the environment that such a run has, and what it starts inherits, whatever its session."""
    mark = f"WIRECHECK_CACHE={place / 'cache'}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_dead = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            if not is_dead and mark in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name), (folder / "cmdline").read_text().replace("\0", " ")[:200]


def is_unready(stopped: Stopped) -> bool:
    """Whether the interpreter itself ended before the first line of ours: by the signal, or by 1 with its traceback."""
    by_itself = stopped.code == 1 and "KeyboardInterrupt" in stopped.err and "/wirecheck/" not in stopped.err
    return (stopped.code == UNREADY[stopped.number] and not stopped.out) or by_itself


def is_late(stopped: Stopped) -> bool:
    """Whether the interpreter itself ended by the signal, after the last line of ours: all was written and said."""
    return stopped.code == UNREADY[stopped.number] and bool(stopped.out) and not stopped.wrote_on


def wrongs(place: Path, command: Command, stopped: Stopped, good: int) -> Iterator[str]:
    """What does not hold of a run that was stopped; `good` is the exit code of one that was not."""
    unready, late = is_unready(stopped), is_late(stopped)
    if stopped.code not in (good, ENDS[stopped.number]) and not unready and not late:
        yield f"exit {stopped.code}"
    if stopped.orphans:
        yield f"orphans: {stopped.orphans}"
    if "Traceback" in stopped.err and not unready:
        yield "a traceback"
    yield from bad_disks.torn(place, command)
    if stopped.code == good or late:
        yield from bad_disks.lost(place, command)
    if stopped.code == good and stopped.wrote_on:
        yield f"exit {good}, and not all was done when the signal came"
    if not unready and stopped.number != signal.SIGKILL:
        yield from bad_disks.left_aside(place)


def wrongs_again(
    place: Path, command: Command, good: subprocess.CompletedProcess[str], disk: dict[str, Any] | None = None
) -> Iterator[str]:
    """What does not hold of one more run, undisturbed, in what a run that was stopped, or met a fault, has left."""
    before = {name: (place / name).read_bytes() for name in command.files if (place / name).exists()}
    done = bad_disks.run(place, command, disk)
    if command.leaves_old and before:
        if done.returncode != UsageError.exit_code or any((place / n).read_bytes() != b for n, b in before.items()):
            yield f"exit {done.returncode}, and its file was there"
        return
    if done.returncode != good.returncode:
        yield f"exit {done.returncode}"
    yield from bad_disks.wrongs(place, command, done, good)


def moments(seed: str, rounds: int, longest_s: float) -> Iterator[tuple[signal.Signals, float]]:
    """Signals in turn, each at a moment drawn from `seed`."""
    drawn = random.Random(seed)
    for n in range(rounds):
        yield tuple(ENDS)[n % len(ENDS)], drawn.uniform(0.0, longest_s)
