"""Every input that fuzzing kept, read again under its contract; and the contract itself, which can be broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz import page
from tests.fuzz.offenders import OFFENDERS, SOUND
from tests.fuzz.seeds import CORPUS, REGRESSIONS, kept, seeds
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[1]
MOST_BYTES = 1_000_000
NAMES = [one.name for one in TARGETS]


def started(module: str) -> dict[str, Any]:
    """What a module prints, in a process of its own: its audit hook is for life."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "RUST_BACKTRACE": "0"}
    done = subprocess.run([sys.executable, "-m", module], env=environment, cwd=ROOT, capture_output=True, check=False)
    assert done.stdout, done.stderr.decode()[-2000:]
    return json.loads(done.stdout)


@cache
def replayed() -> dict[str, Any]:
    return started("tests.fuzz.replay")


@cache
def offended() -> dict[str, Any]:
    return started("tests.fuzz.offenders")


@pytest.mark.parametrize("name", NAMES)
def test_every_kept_input_keeps_the_contract(name):
    assert replayed()[name]["broken"] == {}
    assert sum(replayed()[name]["endings"].values()) == len(kept(name)) > 0


@pytest.mark.parametrize("name", OFFENDERS)
def test_a_reader_that_breaks_the_contract_is_seen(name):
    assert offended()[name].startswith(f"BREACH {name.split(' of ')[0].split(' in ')[0]}"), offended()[name]


@pytest.mark.parametrize("name", SOUND)
def test_a_reader_that_keeps_it_is_left_alone(name):
    assert offended()[name] == name


@pytest.mark.parametrize("name", NAMES)
def test_every_target_begins_with_sound_inputs_of_its_own(name):
    assert any(data not in {path.read_bytes() for path in kept(name)} for data in seeds(name))


def test_the_kept_inputs_are_few_and_belong_to_a_target():
    files = [path for folder in (CORPUS, REGRESSIONS) for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    assert {path.parent.name for path in files} <= set(NAMES)


def test_every_regression_is_told_of_with_how_it_was_mended():
    told = {(one["target"], name) for one in page.mended() for name in one["inputs"]}
    assert told == {(path.parent.name, path.name) for path in REGRESSIONS.rglob("*") if path.is_file()}


def test_every_finding_of_every_run_and_every_input_that_ended_the_fuzzer_is_kept():
    known = {(path.parent.name, path.name) for path in REGRESSIONS.rglob("*")}
    assert {(run["target"], name) for run in page.runs() for name in run["findings"] + run["artifacts"]} <= known


def test_an_input_that_ended_the_fuzzer_is_mended_or_told_as_open():
    open_ones = {name for one in page.mended() if "mended" not in one for name in one["inputs"]}
    ended = {name for run in page.runs() for name in run["artifacts"]}
    explained = {name for one in page.mended() if "mended" in one for name in one["inputs"]}
    assert ended <= open_ones | explained
    assert all(f"`{name}`" in page.page().split("## Open")[1] for name in open_ones)


def test_the_page_is_as_its_log_has_it():
    assert page.PAGE.read_text(encoding="utf-8") == page.page()


def test_every_reader_that_the_issue_names_was_fuzzed_ten_minutes():
    longest = {
        name: max((run["fuzzed_s"] for run in page.runs() if run["target"] == name), default=0) for name in NAMES
    }
    named = ("header", "index", "config", "tokenizer", "template", "gate")
    assert {name: seconds for name, seconds in longest.items() if name in named and seconds < 600} == {}
