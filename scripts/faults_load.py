"""Many processes at once, and many findings: the figures of docs/faults.md."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.faults_disks import Row, Told, codes

GATES = 200
WORDS = ("gate", "--json", "g.json")
_LONGEST_S = 45
"""Of the wall clock, that a view may take before it is given up."""
VIEWS = ("json", "markdown", "html", "junit", "sarif", "terminal", "annotations", "code quality", "gate", "diff")
_CHILD = "import sys; from scripts.faults_load import view; view(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))"


def started(words: Sequence[str], place: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """A process of the tool."""
    command = [sys.executable, "-m", "wirecheck.cli", *words]
    with (place / "stderr").open("a") as errors:
        return subprocess.Popen(
            command, cwd=place, env=environment, text=True, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=errors,
        )  # fmt: skip


def _before_others() -> None:
    """The hub, which lives in this process, is served first, as if it had a machine of its own.

    By Linux's share for each session, where it keeps one and this user may say so.
    """
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text("-10")


# --- on one cache and one folder ---------------------------------------------------------------------------------


def together(place: Path, _seconds: float, told: Told) -> Iterator[Row]:
    """A row for each way in which processes meet."""
    for what, count, killed, locked in (
        ("gate", 2, 0, False),
        ("gate", 8, 0, False),
        ("matrix", 4, 0, False),
        ("gate, half of them killed", 8, 4, False),
        ("gate, another process holding the store's lock", 2, 0, True),
        ("gate, one killed while it held the store's lock", 2, 0, None),  # type: ignore[list-item]
    ):
        yield _together(place, what, (count, killed, locked), told)


def _together(place: Path, what: str, how: tuple[int, int, bool | None], told: Told) -> Row:
    from tests import bad_disks

    count, num_killed, locked = how
    command = next(one for one in bad_disks.COMMANDS if one.name == what.partition(",")[0])
    folder = bad_disks.laid_out(place / "together", command, None, has_old=False)
    store = folder / "cache" / "answers.sqlite"
    holder = _holder(store) if locked is not False else None
    if holder is not None and locked is None:
        holder.kill()
        holder.wait()
    environment = bad_disks.environment(folder, on_runner=False)
    running = [started(command.words, folder, environment) for _ in range(count)]
    drawn = random.Random(what)  # noqa: S311
    for process in running[:num_killed]:
        time.sleep(drawn.uniform(0.0, 2.0))
        os.killpg(process.pid, signal.SIGKILL)
    ended = [process.wait() for process in running]
    if holder is not None:
        holder.kill()
        holder.wait()
    found = [f"{name}: torn or lost" for name in command.files if not _whole(folder / name)]
    found += [f"exit {code}" for code in ended[num_killed:] if code != 0]
    if not num_killed:
        found += list(bad_disks.left_aside(folder))
    with closing(sqlite3.connect(store)) as database:
        if database.execute("pragma integrity_check").fetchone() != ("ok",):
            found.append("the store is damaged")
    again = bad_disks.run(folder, command)
    found += [f"again: {wrong}" for wrong in bad_disks.wrongs(folder, command, again, again)]
    found += [f"again: exit {again.returncode}"] if again.returncode else []
    for wrong in found:
        told(f"{what}, {count}: {wrong}")
    return what, str(count), codes(ended), str(len(found))


def _whole(path: Path) -> bool:
    from tests import bad_disks

    return path.exists() and bad_disks.is_whole(path)


def _holder(store: Path) -> subprocess.Popen[str]:
    """A process in the middle of writing the store."""
    from wirecheck.store import Store

    Store(store).put("one", "kind", "text")
    code = (
        "import sqlite3, sys, time\n"
        "database = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "database.execute('pragma cache_size = 1')\n"
        "database.execute('begin exclusive')\n"
        "for n in range(2000): database.execute('insert into kept values (?, ?, ?, 0)', (str(n), 'x', 'y' * 2000))\n"
        "print('held', flush=True)\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(store)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


# --- many findings -------------------------------------------------------------------------------------------------


def findings(_place: Path, _seconds: float, told: Told) -> Iterator[Row]:
    """A row for each view: seconds, megabytes and peak memory for 10,000 findings, and for 1,000 of 100 kB each."""
    for name in VIEWS:
        figures: list[str] = []
        for count, length in ((10_000, 60), (1_000, 100_000)):
            words = [sys.executable, "-c", _CHILD, name, str(count), str(length)]
            try:
                done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_LONGEST_S)
            except subprocess.TimeoutExpired:
                figures += [f"more than {_LONGEST_S}", "—", "—"]
                continue
            if done.returncode != 0:
                told(f"{name}, {count} findings: {done.stderr[-500:]}")
            figures += json.loads(done.stdout) if done.returncode == 0 else ["—"] * 3
        yield name, *figures


def view(name: str, count: int, length: int) -> None:
    """In a process of its own: one view of so many findings, whose claims have so many characters; prints figures."""
    import resource

    from tests.many_findings import made, views

    subject = made(count, length)
    begun = time.process_time()
    text = views()[name](subject)
    took = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([f"{took:.1f}", f"{len(text.encode()) / 1e6:.1f}", f"{peak:.0f}"]))


# --- many gates ------------------------------------------------------------------------------------------------------


def load(place: Path, _seconds: float, told: Told) -> Iterator[Row]:
    """A row for each way to begin many gates at once against one hub."""
    from tests.hubserver import Fault

    _before_others()
    busy = {"list": Fault(status=429, headers={"Retry-After": "1"}, times=GATES // 2)}
    for what, how in (
        ("own, declared", _How(GATES, "declared", caches="own")),
        ("one, cold, declared", _How(GATES, "declared", caches="cold")),
        ("one, kept answers, inspected", _How(GATES, "inspected", caches="warm")),
        (f"one, kept answers, inspected; {GATES // 2} times 429", _How(GATES, "inspected", caches="warm", faults=busy)),
        ("own, inspected", _How(16, "inspected", caches="own")),
        ("one, cold, inspected", _How(32, "inspected", caches="cold")),
    ):
        yield _load(place / str(len(what)), what, how, told)


@dataclass(frozen=True)
class _How:
    """How many gates, how deep, and whether each has caches of its `own`, or all have one, `cold` or `warm`."""

    count: int
    depth: str
    caches: str
    faults: dict[str, Any] = field(default_factory=dict)


def _load(place: Path, what: str, how: _How, told: Told) -> Row:
    from tests.hubserver import Hub, many, serving
    from tests.test_hub_faults import FILES, FIRST, SHARDS
    from wirecheck.errors import CouldNotCheck

    cut = dict(FILES) | {FIRST: FILES[FIRST][: len(FILES[FIRST]) // 2]}
    with serving(Hub(dict(FILES), frozenset(SHARDS))) as sound, serving(Hub(cut, frozenset(SHARDS))) as bad:
        hubs = {"org/sound": sound, "org/bad": bad}
        with many(hubs) as url:
            alone, one = place / "alone", place / "one"
            own = {name: _code(alone / name, name, how.depth, _environment(alone, url)) for name in hubs}
            for hub in hubs.values():
                hub.requests.clear()
            sound.faults.update(how.faults)
            names = [("org/sound", "org/bad")[n % 2] for n in range(how.count)]
            folders = [place / f"{n}" for n in range(how.count)]
            for name, folder in zip(names, folders, strict=True):
                _laid(folder, name, how.depth)
            homes = [{"own": folder, "cold": one, "warm": alone}[how.caches] for folder in folders]
            begun = time.monotonic()
            running = [
                started(WORDS, folder, _environment(home, url)) for folder, home in zip(folders, homes, strict=True)
            ]
            peak = _peak_until_ended(running)
            wall = time.monotonic() - begun
        asked = Counter(path for hub in hubs.values() for _, path, _ in hub.requests)
    ended = [process.returncode for process in running]
    wrong = 0
    for name, folder, code in zip(names, folders, ended, strict=True):
        is_right = code == own[name] or (code == CouldNotCheck.exit_code and how.faults)
        if not is_right or _lacks(folder, code):
            wrong += 1
            told(f"{what}: {name}: exit {code}, alone {own[name]}: {_why(folder)}")
    most = max(asked.values(), default=0)
    figures = f"{wall:.0f}", f"{peak:.0f}", str(sum(asked.values())), str(most), str(wrong)
    return f"{how.count}", what, codes(ended), *figures


def _lacks(folder: Path, code: int) -> bool:
    """Whether a gate lost its result, or wrote another than its exit code says."""
    from wirecheck.gate_records import GateResult

    try:
        found = GateResult.model_validate_json((folder / "g.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    says = {0: "compatible", 1: "incompatible", 3: "unproven", 4: "could-not-check"}
    return found.status != "finished" or says.get(code) != found.outcome


def _why(folder: Path) -> str:
    """The end of what a gate wrote of itself."""
    found = (folder / "stderr").read_text()[-300:]
    if (folder / "g.json").exists():
        found += str([row["why"] for row in json.loads((folder / "g.json").read_text())["rows"]])
    return found


def _laid(folder: Path, name: str, depth: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = f'[models.one]\nid = "{name}"\n[gate]\ndepth = "{depth}"\nrequire = "{depth}"\n'
    (folder / "wirecheck.toml").write_text(text, encoding="utf-8")


def _environment(home: Path, url: str) -> dict[str, str]:
    """With the caches in `home`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return kept | {
        "HF_ENDPOINT": url,
        "HF_HOME": str(home / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
        "NO_COLOR": "1",
        "WIRECHECK_CACHE": str(home / "cache"),
    }


def _code(folder: Path, name: str, depth: str, environment: Mapping[str, str]) -> int:
    """The exit code of a gate that runs alone; its caches are then warm."""
    _laid(folder, name, depth)
    return started(WORDS, folder, environment).wait()


def _peak_until_ended(running: Sequence[subprocess.Popen[str]]) -> float:
    """MB of resident memory of all of them and their children, shared pages counted once; looked at once a second."""
    peak = 0.0
    while alive := {process.pid for process in running if process.poll() is None}:
        peak = max(peak, sum(map(_proportional, _with_descendants(alive))) / 1024)
        time.sleep(1.0)
    return peak


def _with_descendants(first: set[int]) -> set[int]:
    """The processes and all that they have started, which may have sessions of their own."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
    found = more = set(first)
    while more:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
    return found


def _proportional(pid: int) -> int:
    """kB, by the kernel's `Pss`."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
