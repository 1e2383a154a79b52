"""Runs of the tool on disks that fail, and what must hold of each whatever fails.

The error is one line that says what, where and what next; the exit code is the verdict's or 4; every file is whole, and
the old one or the new one; the verdict is on the screen; nothing is left aside; a cache that fails costs only time.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from xml.etree import ElementTree

import pytest

from tests import warm
from tests.hubserver import COMMIT, Fault, Hub, serving
from wirecheck.demo import demo_folders

A, B = (str(folder) for folder in demo_folders())
PAIR_FILES = ("r.json", "r.md", "r.html", "r.xml", "r.sarif")
GATE_FILES = ("g.json", "g.md", "g.html", "g.xml", "g.sarif", "g.codequality.json", "g.badge.svg", "g.badge.json")
MATRIX_FILES = ("m.json", "m.md", "m.html", "m.csv", "m.jsonl")
_TORCHS = "torchinductor_"
"""Torch makes one such folder for all runs of a user, and keeps it."""
_KEPT = ("PATH", "LANG", "PYTHONPATH", "HF_ENDPOINT", "NO_PROXY", "MPLCONFIGDIR")
OLD = "what was there before\n"
FETCHED = {str(path.relative_to(A)): path.read_bytes() for path in Path(A).rglob("*") if path.is_file()}
"""What the hub of `hub` serves as org/name."""
SHARDS = tuple(sorted(name for name in FETCHED if name.endswith(".safetensors")))
SNAPSHOT = f"home/hf/hub/models--org--name/snapshots/{COMMIT}"
ON_HUB = '[models.one]\nid = "org/name"\n[gate]\n'
GATE = f"""[models.one]
id = "{A}"
[models.two]
id = "{B}"
[gate]
depth = "inspected"
require = "inspected"
"""


@dataclass(frozen=True)
class Command:
    """What is run, what it writes, and the words by which the screen tells the verdict."""

    name: str
    words: tuple[str, ...]
    files: tuple[str, ...]
    says: str = ""
    on_runner: bool = False
    """As a step of GitHub Actions."""
    has_rows: bool = False
    """Whether exit 4 may be that of a row that could not be checked, told there."""
    keeps_old: bool = True
    """Whether the files may be there before."""
    leaves_old: bool = False
    """Whether a file that is there is left as it is, and the exit is 2."""
    asks: str = GATE
    """The wirecheck.toml beside it."""


def _reports(files: tuple[str, ...]) -> tuple[str, ...]:
    return ("--json", files[0], *(word for name in files[1:] for word in ("--report", name)))


COMMANDS = (
    Command(
        "pair",
        ("pair", A, B, "--depth", "inspected", "--require", "inspected", "--pictures", "p", *_reports(PAIR_FILES)),
        (*PAIR_FILES, "p/ladder.svg"),
        "can be wired",
    ),
    Command(
        "pair, executed",
        ("pair", A, B, "--depth", "executed", *_reports(PAIR_FILES)),
        PAIR_FILES,
        "can be wired",
    ),
    Command("gate", ("gate", *_reports(GATE_FILES)), GATE_FILES, "check", on_runner=True, has_rows=True),
    Command(
        "matrix",
        ("matrix", A, B, "--depth", "inspected", *_reports(MATRIX_FILES), "--reports", "pairs", "--jobs", "1"),
        MATRIX_FILES,
        "1 pair",
        has_rows=True,
    ),
    Command(
        "fit", ("fit", A, B, "--gpu", "T4", "--jobs", "1", *_reports(("f.json", "f.md"))), ("f.json", "f.md"), "T4"
    ),
    Command("lock", ("lock",), ("wirecheck.lock",), "next: wirecheck gate"),
    Command(
        "fetch",
        ("fetch",),
        tuple(f"{SNAPSHOT}/{name}" for name in SHARDS),
        "every digest as the hub lists it",
        keeps_old=False,
        asks=ON_HUB,
    ),
    Command(
        "init",
        ("init", "org/a", "org/b", "--file", "new.toml"),
        ("new.toml",),
        keeps_old=False,
        leaves_old=True,
    ),
    Command("demo", ("demo", "--out", "d"), ("d/result.json", "d/report.md", "d/report.html"), "can be wired"),
    Command("report", ("report", "old.json", *_reports(PAIR_FILES)), PAIR_FILES, "can be wired"),
    Command("diff", ("diff", "old.json", "old.json", *_reports(("x.json", "x.md"))), ("x.json", "x.md"), ""),
)


@contextmanager
def hub(*, slowly: bool = False) -> Iterator[None]:
    """Inside it there is the hub of which `fetch` asks; `slowly`: a body takes a second or so."""
    faults = {name: Fault(drip=(60_000, 0.04), whole=True) for name in SHARDS if slowly}
    served = serving(Hub(dict(FETCHED), frozenset(SHARDS), faults=faults))
    with served as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", running.url)
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


def environment(place: Path, *, on_runner: bool) -> dict[str, str]:
    """Of a run whose every file lies under `place`."""
    kept = {key: os.environ[key] for key in _KEPT if key in os.environ}
    runner = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(place / "summary.md")} if on_runner else {}
    return kept | {
        "HOME": str(place / "home"),
        "WIRECHECK_CACHE": str(place / "cache"),
        "TMPDIR": str(place / "tmp"),
        "HF_HOME": str(place / "home" / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "160",
        "NO_COLOR": "1",
        **runner,
    }


def laid_out(place: Path, command: Command, old: str | None, *, has_old: bool) -> Path:
    """The folder as it is before a run; `old` is a result to render again."""
    shutil.rmtree(place, ignore_errors=True)
    for name in ("tmp", "home"):
        (place / name).mkdir(parents=True)
    (place / "wirecheck.toml").write_text(command.asks)
    if old is not None:
        (place / "old.json").write_text(old)
    if has_old and command.keeps_old:
        for name in command.files:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(OLD)
    return place


def run(place: Path, command: Command, disk: dict[str, Any] | None = None) -> CompletedProcess[str]:
    """One run in `place`."""
    return warm.wirecheck(command.words, place, environment(place, on_runner=command.on_runner), disk=disk)


def counted(log: Path) -> int:
    """How many calls there were, with those that a confined child made and could not note."""
    return max((int(line.partition("\t")[0]) for line in log.read_text(encoding="utf-8").splitlines()), default=0)


def calls_of(log: Path) -> list[tuple[str, str]]:
    """Name and path of every call that was counted."""
    lines = [line.split("\t") for line in log.read_text(encoding="utf-8").splitlines()]
    return [(name, path) for _, name, path, _ in lines]


def _parsed(parse: Callable[[str], Any], text: str) -> bool:
    try:
        parse(text)
    except (ValueError, ElementTree.ParseError):
        return False
    return True


def _ends_well(text: str) -> bool:
    return text.endswith("\n") or not text  # lines, of which an interrupted matrix may have none


WHOLE: dict[str, Callable[[str], bool]] = {
    **dict.fromkeys((".json", ".sarif", ".lock"), partial(_parsed, json.loads)),
    **dict.fromkeys((".xml", ".svg"), partial(_parsed, ElementTree.fromstring)),
    ".html": lambda text: text.rstrip().endswith("</html>"),
}
"""Whether a text of that kind has its end."""


def is_whole(path: Path) -> bool:
    """Whether a file that is there is one that a run has ended, or the old one."""
    if path.suffix == ".safetensors":
        return path.read_bytes() == FETCHED[path.name]
    text = path.read_text(encoding="utf-8")
    return text == OLD or WHOLE.get(path.suffix, _ends_well)(text)


def wrongs(place: Path, command: Command, done: CompletedProcess[str], good: CompletedProcess[str]) -> Iterator[str]:
    """What does not hold of a run that met a fault, beside the run that met none."""
    if "Traceback" in done.stderr:
        yield "a traceback"
    if done.returncode not in (good.returncode, 3, 4):
        yield f"exit {done.returncode}"
    if done.returncode == 4 and ("error: " not in done.stderr or "next: " not in done.stderr) and not command.has_rows:
        yield "exit 4 without error and next"
    if done.returncode == good.returncode and command.says not in done.stdout:
        yield "no verdict on the screen"
    is_lost = any(f"error: {name}: not written" in done.stderr for name in command.files)
    if is_lost and command.says not in done.stdout and _was_begun(place, command):
        yield "a report is lost, and the verdict is not on the screen"
    yield from _of_files(place, command, done, good)
    yield from left_aside(place)


def left_aside(place: Path) -> Iterator[str]:
    """What a run left that ends by itself."""
    if list(place.rglob("*.part")):
        yield f"left aside: {[path.name for path in place.rglob('*.part')]}"
    found = [path for path in (place / "tmp").iterdir() if path.suffix != ".log"]  # a story that is told of
    if left := [path.name for path in found if not path.name.startswith(_TORCHS) and not _is_trial(path)]:
        yield f"left in the temporary folder: {left}"


def _is_trial(path: Path) -> bool:
    """Whether Python's own `tempfile` made it, to see whether it can write there, and could not take it away."""
    return path.is_file() and path.read_bytes() in (b"", b"bl", b"blat")


def _of_files(place: Path, command: Command, done: CompletedProcess[str], good: CompletedProcess[str]) -> Iterator[str]:
    yield from torn(place, command)
    if done.returncode == good.returncode:
        yield from lost(place, command)


def torn(place: Path, command: Command) -> Iterator[str]:
    """Files that are there, and neither the old one nor the new one."""
    for name in command.files:
        if (place / name).exists() and not is_whole(place / name):
            yield f"{name}: torn"
    for path in (place / SNAPSHOT).rglob("*"):
        name = str(path.relative_to(place / SNAPSHOT))
        if path.is_file() and path.read_bytes() != FETCHED[name]:
            yield f"{name}: torn, in the hub's cache"


def lost(place: Path, command: Command) -> Iterator[str]:
    """Files that a run that ended as if undisturbed has not written."""
    for name in command.files:
        path = place / name
        if not path.exists() or path.read_bytes() == OLD.encode():
            yield f"{name}: lost, and the exit code of a good run"


def _was_begun(place: Path, command: Command) -> bool:
    """Whether the file that says `started` had been written: all that was done after is worth telling."""
    path = place / command.files[0]
    return path.exists() and path.suffix == ".json" and path.read_text() != OLD
