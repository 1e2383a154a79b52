"""Disks that fail, and signals, at many points of every command: the figures of docs/faults.md."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

MODES: dict[str, dict[str, Any]] = {
    "full, once": {"error": 28},
    "full from then on": {"error": 28, "lasts": True},
    "read-only from then on": {"error": 30, "lasts": True},
    "I/O error, once": {"error": 5},
}
"""By errno: ENOSPC, EROFS, EIO."""
AT_ONCE = int(os.environ.get("FAULTS_AT_ONCE", "3"))
_NEVER = 1_000_000
"""A write that no run comes to."""
KEPT = "gate, kept answers"
"""A gate of which an earlier one has left every answer."""
STOPPED = ("pair", "gate", KEPT, "matrix", "fit", "fetch", "lock", "init", "demo", "report", "diff")
Row = tuple[str, ...]
Told = Callable[[str], None]


def disks(names: Sequence[str], place: Path, seconds: float, told: Told) -> Iterator[Row]:
    """A row for each command and way to fail: writes of a good run, runs, exit codes, what did not hold.

    `seconds` is what one command may take of all its runs; the points are spread over all of its writes.
    """
    from tests import bad_disks

    with bad_disks.hub():
        for command in bad_disks.COMMANDS:
            if not names or command.name in names:
                yield from _disks(command, place, seconds, told)


def _disks(command: Any, place: Path, seconds: float, told: Told) -> Iterator[Row]:
    from tests import bad_disks, signalled

    old = _result(place) if "old.json" in command.words else None
    log = place / f"{command.name}.log"
    answers = place / f"{command.name}.answers"
    answers.mkdir()
    _pictures(place, command.name)
    for _ in range(2):  # the first run imports for those after it
        log.unlink(missing_ok=True)
        good_place = bad_disks.laid_out(place / "good", command, old, has_old=True)
        good = bad_disks.run(good_place, command, {"log": log, "answers": answers})
    writes = bad_disks.counted(log)

    def one(job: tuple[str, int]) -> tuple[str, int, list[str]]:
        mode, at = job
        own = bad_disks.laid_out(place / f"{command.name}-{mode}-{at}", command, old, has_old=True)
        done = bad_disks.run(own, command, {"at": at, "answers": answers, **MODES[mode]})
        found = list(bad_disks.wrongs(own, command, done, good))
        if any(one.startswith("left") for one in found) and not mode.startswith("full"):
            # it could not be taken away: the next run does
            found = [one for one in found if not one.startswith("left")]
            undisturbed = {"at": _NEVER, "answers": answers}
            found += [f"again: {one}" for one in signalled.wrongs_again(own, command, good, undisturbed)]
        shutil.rmtree(own, ignore_errors=True)
        for wrong in found:
            told(f"{command.name}, {mode}, write {at}: exit {done.returncode}: {wrong}: {done.stderr[-300:]!r}")
        return mode, done.returncode, found

    yield from _rows(command.name, writes, _within(_points(writes), one, seconds))


def _pictures(place: Path, name: str) -> None:
    """matplotlib is imported, with its list of fonts, but for `report`: there both are done, and its writes refused."""
    from tests import warm

    os.environ.pop("MPLCONFIGDIR", None)
    if name == "report":
        warm.begin_anew()
        return
    os.environ["MPLCONFIGDIR"] = str(place / "fonts")
    warm.begin_anew("matplotlib.figure", "matplotlib.backends.backend_svg", "mpl_toolkits.mplot3d")


def _points(writes: int) -> Iterator[tuple[str, int]]:
    """Four writes in every way, then all of them on a disk that is full, then all of them in the other ways."""
    spread = list(_spread(writes))
    yield from ((mode, at) for at in spread[:4] for mode in MODES)
    for modes in (list(MODES)[:2], list(MODES)[2:]):
        yield from ((mode, at) for at in spread[4:] for mode in modes)


def signals(names: Sequence[str], place: Path, seconds: float, told: Told) -> Iterator[Row]:
    """A row for each command and signal: runs, exit codes, the longest from signal to end, what did not hold."""
    from tests import bad_disks

    with bad_disks.hub(slowly=True):
        for name in names or STOPPED:
            yield from _stopped(place, name, ("SIGINT", "SIGTERM", "SIGKILL"), (seconds, 45), told)


def interrupts(names: Sequence[str], place: Path, seconds: float, told: Told) -> Iterator[Row]:
    """As `signals`, for SIGINT alone, and more of each command."""
    for name in names or ("gate", "pair", KEPT):
        yield from _stopped(place, name, ("SIGINT",), (seconds, 200), told)


def _stopped(place: Path, name: str, numbers: tuple[str, ...], bounds: tuple[float, int], told: Told) -> Iterator[Row]:
    """`bounds`: seconds, and how many runs at the most."""
    from tests import bad_disks, signalled

    command = next(one for one in bad_disks.COMMANDS if one.name == name.partition(",")[0])
    old = _result(place) if "old.json" in command.words else None
    good_place = bad_disks.laid_out(place / "good", command, old, has_old=False)
    for _ in range(3 if name == KEPT else 2):  # the first run of all imports for those after it
        good, longest_s = signalled.undisturbed(good_place, command)
        if name != KEPT:
            bad_disks.laid_out(good_place, command, old, has_old=False)

    def one(job: tuple[int, Any]) -> tuple[str, int, list[str], float]:
        n, (number, at_s) = job
        own = bad_disks.laid_out(place / f"{name}-{n}", command, old, has_old=n % 2 == 0)
        if name == KEPT:
            shutil.copytree(good_place / "cache", own / "cache")
        stopped = signalled.stop(own, command, number, at_s)
        found = list(signalled.wrongs(own, command, stopped, good.returncode))
        if n % 5 == 0:  # and once more, undisturbed, in what it left
            found += [f"again: {wrong}" for wrong in signalled.wrongs_again(own, command, good)]
        shutil.rmtree(own, ignore_errors=True)
        for wrong in found:
            told(f"{name}, {number.name} after {at_s:.2f} s: exit {stopped.code}: {wrong}: {stopped.err[-300:]!r}")
        return number.name, stopped.code, found, stopped.took_s

    drawn = (moment for moment in signalled.moments(name, 3 * bounds[1], longest_s) if moment[0].name in numbers)
    done = list(_within(enumerate(islice(drawn, bounds[1])), one, bounds[0]))
    for number in numbers:
        own = [run for run in done if run[0] == number]
        took = max((run[3] for run in own), default=0.0)
        wrong = sum(bool(run[2]) for run in own)
        yield name, number, str(len(own)), codes(run[1] for run in own), f"{took:.1f}", str(wrong)


def _result(place: Path) -> str:
    """A result of `pair`, for the commands that read one."""
    from tests import bad_disks

    made = place / "seed" / "r.json"
    if not made.exists():
        bad_disks.run(
            bad_disks.laid_out(place / "seed", bad_disks.COMMANDS[0], None, has_old=False), bad_disks.COMMANDS[0]
        )
    return made.read_text(encoding="utf-8")


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
