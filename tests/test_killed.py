"""SIGKILL at random moments of `fetch`, `lock` and `gate`: the next run ends rightly, nothing half counts as whole."""

from __future__ import annotations

import random
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests import warm
from tests.hubserver import COMMIT, Fault, Hub, serving
from tests.test_hub_faults import FILES, SHARDS, hub_environment
from wirecheck.cli_lock import read_lock
from wirecheck.gate_records import GateResult
from wirecheck.lock_records import Lock

TIMES = 10
"""Of each command."""
LONGEST_S = {"fetch": 2.0, "lock": 1.0, "gate": 2.0}
"""About what each takes here; a later moment only finds it ended."""


@pytest.fixture(scope="module")
def hub():
    # Slow enough that some of the moments fall in the middle of a body.
    faults = {name: Fault(drip=(60_000, 0.04), whole=True) for name in SHARDS}
    with serving(Hub(dict(FILES), frozenset(SHARDS), faults=faults)) as running:
        yield running


def started(place: Path, hub: Hub, words: tuple[str, ...]) -> warm.Running:
    return warm.started(words, place, hub_environment(place, hub))


def killed(place: Path, hub: Hub, words: tuple[str, ...], moment_s: float) -> None:
    running = started(place, hub, words)
    time.sleep(moment_s)
    running.kill()
    running.ended()


def finished(place: Path, hub: Hub, words: tuple[str, ...]) -> str:
    done = started(place, hub, words).ended()
    assert done.returncode == 0, done.stderr
    return done.stdout


def cached(place: Path) -> Path:
    return place / "home" / "hub" / "models--org--name" / "snapshots" / COMMIT


def nothing_half(place: Path) -> None:
    """Under no name that a reader looks for is there anything but the whole."""
    for path in cached(place).rglob("*"):
        if path.is_file():
            assert path.read_bytes() == FILES[str(path.relative_to(cached(place)))]
    if (place / "wirecheck.lock").exists():
        assert read_lock(place / "wirecheck.lock").models[0].commit == COMMIT
    if (place / "gate.json").exists():
        GateResult.model_validate_json((place / "gate.json").read_text())
    store = place / "cache" / "answers.sqlite"
    if store.exists():
        with closing(sqlite3.connect(store)) as database:
            assert database.execute("pragma integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("seed", range(TIMES))
@pytest.mark.parametrize("verb", LONGEST_S)
def test_killed_and_run_again(tmp_path, hub, verb, seed):
    (tmp_path / "wirecheck.toml").write_text('[models.one]\nid = "org/name"\n[gate]\nrequire = "inspected"\n')
    words = {
        "fetch": ("fetch",),
        "lock": ("lock", "--no-gate"),
        "gate": ("gate", "--json", "gate.json"),
    }[verb]
    moment_s = random.Random(f"{verb} {seed}").uniform(0.0, LONGEST_S[verb])
    killed(tmp_path, hub, words, moment_s)
    nothing_half(tmp_path)
    finished(tmp_path, hub, words)
    nothing_half(tmp_path)
    if verb == "fetch":
        assert {name for name in SHARDS if (cached(tmp_path) / name).exists()} == set(SHARDS)
        assert not list((tmp_path / "home").rglob("*.wirecheck.incomplete"))
    elif verb == "lock":
        assert Lock.model_validate_json((tmp_path / "wirecheck.lock").read_text()).models[0].commit == COMMIT
    else:
        found = GateResult.model_validate_json((tmp_path / "gate.json").read_text())
        assert (found.status, found.outcome) == ("finished", "compatible")


def test_a_killed_gate_that_had_begun_says_so(tmp_path, hub):
    (tmp_path / "wirecheck.toml").write_text('[models.one]\nid = "org/name"\n')
    words = ("gate", "--json", "gate.json")
    running = started(tmp_path, hub, words)
    deadline = time.monotonic() + 60
    while not (tmp_path / "gate.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    running.kill()
    assert running.ended().returncode == -signal.SIGKILL
    found = GateResult.model_validate_json((tmp_path / "gate.json").read_text())
    assert (found.status, found.outcome) == ("started", "not-run")
