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
from contextlib import closing
from pathlib import Path
from typing import Any

from scripts.faults_disks import Row, Told, codes

GATES = 200
_LONGEST_S = 100
"""Of the wall clock, that a view may take before it is given up."""
VIEWS = ("json", "markdown", "html", "junit", "sarif", "terminal", "annotations", "code quality", "gate", "diff")
_CHILD = "import sys; from scripts.faults_load import view; view(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))"


def started(words: Sequence[str], place: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """A process of the tool."""
    command = [sys.executable, "-m", "wirecheck.cli", *words]
    pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": (place / "stderr").open("a")}
    return subprocess.Popen(command, cwd=place, env=environment, text=True, start_new_session=True, **pipes)


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

    busy = {"list": Fault(status=429, headers={"Retry-After": "1"}, times=GATES // 2)}
    for what, count, depth, shared, faults in (
        (f"{GATES}, each with caches of its own, declared", GATES, "declared", False, {}),
        (f"{GATES}, one cache, kept answers", GATES, "inspected", True, {}),
        (f"{GATES}, one cache, kept answers, {GATES // 2} times 429", GATES, "inspected", True, busy),
        ("16, caches of their own, inspected", 16, "inspected", False, {}),
    ):
        yield _load(place / depth / str(shared) / str(len(faults)), what, (count, depth, shared), faults, told)


def _load(place: Path, what: str, how: tuple[int, str, bool], faults: dict[str, Any], told: Told) -> Row:
    from tests.hubserver import Hub, many, serving
    from tests.test_hub_faults import FILES, FIRST, SHARDS
    from wirecheck.errors import CouldNotCheck

    count, depth, shared = how
    cut = dict(FILES) | {FIRST: FILES[FIRST][: len(FILES[FIRST]) // 2]}
    with serving(Hub(dict(FILES), frozenset(SHARDS))) as sound, serving(Hub(cut, frozenset(SHARDS))) as bad:
        hubs = {"org/sound": sound, "org/bad": bad}
        with many(hubs) as url:
            own = {name: _code(place / name.replace("/", "-"), name, depth, url) for name in hubs}
            for hub in hubs.values():
                hub.requests.clear()
            sound.faults.update(faults)
            names = [("org/sound", "org/bad")[n % 2] for n in range(count)]
            folders = [place / (name.replace("/", "-") if shared else f"{n}") for n, name in enumerate(names)]
            begun = time.monotonic()
            running = []
            for name, folder in zip(names, folders, strict=True):
                _laid(folder, name, depth)
                running.append(started(("gate",), folder, _environment(folder, url)))
            peak = _peak_until_ended(running)
            wall = time.monotonic() - begun
        asked = Counter(path for hub in hubs.values() for _, path, _ in hub.requests)
    ended = [process.returncode for process in running]
    wrong = 0
    for name, folder, code in zip(names, folders, ended, strict=True):
        if code != own[name] and (code != CouldNotCheck.exit_code or not faults):
            wrong += 1
            told(f"{what}: {name}: exit {code}, alone {own[name]}: {(folder / 'stderr').read_text()[-300:]}")
    most = max(asked.values(), default=0)
    return what, codes(ended), f"{wall:.0f}", f"{peak:.0f}", str(sum(asked.values())), str(most), str(wrong)


def _laid(folder: Path, name: str, depth: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = f'[models.one]\nid = "{name}"\n[gate]\ndepth = "{depth}"\nrequire = "{depth}"\n'
    if not (folder / "wirecheck.toml").exists():  # a gate may be reading it
        (folder / "wirecheck.toml").write_text(text, encoding="utf-8")


def _environment(folder: Path, url: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return kept | {
        "HF_ENDPOINT": url,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
        "NO_COLOR": "1",
        "WIRECHECK_CACHE": str(folder / "cache"),
    }


def _code(folder: Path, name: str, depth: str, url: str) -> int:
    """The exit code of a gate that runs alone; its caches are then warm."""
    _laid(folder, name, depth)
    return started(("gate",), folder, _environment(folder, url)).wait()


def _peak_until_ended(running: Sequence[subprocess.Popen[str]]) -> float:
    """MB of resident memory of all of them and their children, shared pages counted once; looked at twice a second."""
    peak = 0.0
    while any(process.poll() is None for process in running):
        sessions = {process.pid for process in running if process.poll() is None}
        peak = max(peak, sum(map(_proportional, _pids(sessions))) / 1024)
        time.sleep(0.5)
    return peak


def _pids(sessions: set[int]) -> Iterator[Path]:
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) in sessions:
            yield path


def _proportional(process: Path) -> int:
    """kB, by the kernel's `Pss`."""
    try:
        lines = (process / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
