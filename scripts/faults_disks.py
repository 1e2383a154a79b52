"""Disks that fail, and signals, at many points of every command: the figures of docs/faults.md."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

MODES: dict[str, dict[str, Any]] = {
    "full, once": {"error": 28},
    "full from then on": {"error": 28, "lasts": True},
    "read-only from then on": {"error": 30, "lasts": True},
    "I/O error, once": {"error": 5},
}
"""By errno: ENOSPC, EROFS, EIO."""
AT_ONCE = 3
Row = tuple[str, ...]
Told = Callable[[str], None]


def disks(place: Path, seconds: float, told: Told) -> Iterator[Row]:
    """A row for each command and way to fail: writes of a good run, runs, exit codes, what did not hold.

    `seconds` is what one command may take of all its runs; the points are spread over all of its writes.
    """
    from tests import bad_disks

    seed = bad_disks.COMMANDS[0]
    folder = bad_disks.laid_out(place / "seed", seed, None, has_old=False)
    bad_disks.run(folder, seed)
    old = (folder / "r.json").read_text(encoding="utf-8")
    for command in bad_disks.COMMANDS:
        log = place / f"{command.name}.log"
        good_place = bad_disks.laid_out(place / "good", command, old, has_old=True)
        good = bad_disks.run(good_place, command, {"log": log})
        writes = bad_disks.counted(log)

        def one(job: tuple[str, int], command: Any = command, good: Any = good) -> tuple[str, int, list[str]]:
            mode, at = job
            own = bad_disks.laid_out(place / f"{command.name}-{mode}-{at}", command, old, has_old=True)
            done = bad_disks.run(own, command, {"at": at, **MODES[mode]})
            found = list(bad_disks.wrongs(own, command, done, good))
            if mode.startswith("read-only"):  # nothing can be taken away: the next run does
                found = [one for one in found if not one.startswith("left")]
            shutil.rmtree(own, ignore_errors=True)
            for wrong in found:
                told(f"{command.name}, {mode}, write {at}: exit {done.returncode}: {wrong}: {done.stderr[-300:]!r}")
            return mode, done.returncode, found

        jobs = [(mode, at) for at in _spread(writes) for mode in MODES]
        yield from _rows(command.name, writes, _within(jobs, one, seconds))


def signals(place: Path, seconds: float, told: Told) -> Iterator[Row]:
    """A row for each command and signal: runs, exit codes, the longest from signal to end, what did not hold."""
    for name in ("pair", "gate", "matrix", "fit"):
        yield from _stopped(place, name, ("SIGINT", "SIGTERM", "SIGKILL"), seconds, told)


def interrupts(place: Path, seconds: float, told: Told) -> Iterator[Row]:
    """As `signals`, for SIGINT alone: at most 60 of each command."""
    for name in ("gate", "pair"):
        yield from _stopped(place, name, ("SIGINT",), seconds, told, most=60)


def _stopped(
    place: Path, name: str, numbers: tuple[str, ...], seconds: float, told: Told, *, most: int = 1000
) -> Iterator[Row]:
    from tests import bad_disks, signalled

    command = next(one for one in bad_disks.COMMANDS if one.name == name)
    for _ in range(2):  # the first run of all imports for those after it
        good_place = bad_disks.laid_out(place / "good", command, None, has_old=False)
        begun = time.monotonic()
        good = bad_disks.run(good_place, command)
        longest_s = 1.3 * (time.monotonic() - begun)

    def one(job: tuple[int, Any]) -> tuple[str, int, list[str], float]:
        n, (number, at_s) = job
        own = bad_disks.laid_out(place / f"{name}-{n}", command, None, has_old=False)
        stopped = signalled.stop(own, command, number, at_s)
        found = list(signalled.wrongs(own, command, stopped, good.returncode))
        if n % 5 == 0:  # and once more, undisturbed, in what it left
            again = bad_disks.run(own, command)
            found += [f"again: {wrong}" for wrong in bad_disks.wrongs(own, command, again, good)]
        shutil.rmtree(own, ignore_errors=True)
        for wrong in found:
            told(f"{name}, {number.name} after {at_s:.2f} s: exit {stopped.code}: {wrong}")
        return number.name, stopped.code, found, stopped.took_s

    drawn = (moment for moment in signalled.moments(name, 3 * most, longest_s) if moment[0].name in numbers)
    done = list(_within(enumerate(drawn), one, seconds))
    for number in numbers:
        own = [run for run in done if run[0] == number]
        took = max((run[3] for run in own), default=0.0)
        wrong = sum(bool(run[2]) for run in own)
        yield name, number, str(len(own)), codes(run[1] for run in own), f"{took:.1f}", str(wrong)


def codes(found: Iterable[int]) -> str:
    """Exit codes with how often each came."""
    return ", ".join(f"{code}: {count}" for code, count in sorted(Counter(found).items()))


def _rows(name: str, writes: int, done: Iterable[tuple[str, int, list[str]]]) -> Iterator[Row]:
    runs = list(done)
    for mode in MODES:
        own = [run for run in runs if run[0] == mode]
        wrong = sum(bool(found) for _, _, found in own)
        yield name, str(writes), mode, str(len(own)), codes(code for _, code, _ in own), str(wrong)


def _spread(count: int) -> Iterator[int]:
    """Every number from 1 to `count`, so that the first of them are spread over all."""
    step, seen = count, set[int]()
    while step:
        for at in range(step, count + 1, step):
            if at not in seen:
                seen.add(at)
                yield at
        step //= 2


def _within(jobs: Iterable[Any], work: Callable[[Any], Any], seconds: float) -> Iterator[Any]:
    """The results of as many jobs as are begun in that time, some at a time."""
    until, waiting, lock = time.monotonic() + seconds, iter(jobs), threading.Lock()

    def worker() -> list[Any]:
        found = []
        while time.monotonic() < until:
            with lock:
                job = next(waiting, None)
            if job is None:
                break
            found.append(work(job))
        return found

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for future in [pool.submit(worker) for _ in range(AT_ONCE)]:
            yield from future.result()
