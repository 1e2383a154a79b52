"""Folders of children: dropped at the end, and those of killed runs taken away by the next one."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from wirecheck import scratch
from wirecheck.demo import demo_folders
from wirecheck.errors import CouldNotCheck
from wirecheck.fork_pool import Answered, Limits, NotBegun, in_forks
from wirecheck.gate_records import GateResult
from wirecheck.scratch import PREFIX, Scratch
from wirecheck.snapshot_apart import folder_apart

pytestmark = pytest.mark.skipif(os.name != "posix", reason="folders are opened, and locked, on POSIX")


@pytest.fixture(autouse=True)
def _own_place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    scratch._take_away_abandoned.cache_clear()
    yield
    scratch._take_away_abandoned.cache_clear()


def test_what_a_killed_run_left_is_taken_away_and_nothing_else(tmp_path):
    living = Scratch()
    scratch._take_away_abandoned.cache_clear()
    (tmp_path / f"{PREFIX}abandoned" / "deep").mkdir(parents=True)
    (tmp_path / "wirecheck-other").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "elsewhere")
    with Scratch() as own:
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
            [living.path.name, own.name, "wirecheck-other", "elsewhere", f"{PREFIX}link"]
        )
    living.drop()
    assert not own.exists()
    assert not living.path.exists()


def test_a_folder_that_was_taken_for_abandoned_is_made_anew(tmp_path, monkeypatch):
    real, made = tempfile.mkdtemp, []

    def taken(**named: str) -> str:
        made.append(real(**named))
        if len(made) == 1:
            Path(made[0]).rmdir()
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", taken)
    with Scratch() as own:
        assert (str(own), own.is_dir(), len(made)) == (made[1], True, 2)


# --- a disk that refuses one ---


@pytest.fixture
def refuses(monkeypatch):
    """What makes the disk refuse the n-th folder from now on, and no other."""
    real = tempfile.mkdtemp

    def begin(nth: int) -> None:
        made = []

        def refused(**named: str) -> str:
            made.append(named)
            if len(made) == nth:
                raise OSError(errno.ENOSPC, "No space left on device", f"tmp/{PREFIX}x")
            return real(**named)

        monkeypatch.setattr(tempfile, "mkdtemp", refused)

    return begin


REFUSED = f"tmp/{PREFIX}x: not written: No space left on device"


def test_where_there_can_be_none_nothing_is_checked(refuses):
    refuses(1)
    with pytest.raises(CouldNotCheck) as told:
        Scratch()
    assert told.value.message == REFUSED
    assert "TMPDIR" in told.value.next_step


def test_a_model_that_could_not_be_read_for_want_of_one_is_not_broken(refuses):
    refuses(1)
    with pytest.raises(CouldNotCheck, match="No space left"):  # and no weights that cannot be read
        folder_apart(demo_folders()[0])


def test_a_child_without_one_costs_its_piece_alone(refuses):
    refuses(2)
    ended = {one.name: one for one in in_forks(["a", "b", "c"], str.upper, jobs=1, limits=Limits(seconds=30.0))}
    assert [type(ended[name]) for name in "abc"] == [Answered, NotBegun, Answered]
    assert ended["b"].why == REFUSED


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere probes run in the process itself")
def test_a_pair_of_a_gate_without_one_costs_its_row_alone(refuses, run, tmp_path, monkeypatch):
    monkeypatch.setenv("WIRECHECK_CACHE", str(tmp_path / "cache"))
    names, folder = ("one", "two", "three"), demo_folders()[0]
    for name in names:
        shutil.copytree(folder, tmp_path / name)
    asked = "".join(f'[models.{name}]\nid = "./{name}"\n' for name in names)
    (tmp_path / "wirecheck.toml").write_text(f'{asked}[gate]\ndepth = "declared"\nrequire = "declared"\n')
    refuses(5)  # after one for each model, and one for the first pair
    code, out, _ = run("gate", str(tmp_path / "wirecheck.toml"), "--json", str(tmp_path / "g.json"))
    found = GateResult.model_validate_json((tmp_path / "g.json").read_text())
    assert (code, found.status) == (4, "finished")
    assert [row.outcome == "could-not-check" for row in found.rows] == [False, True, False]
    assert found.rows[1].why == (REFUSED,)
    assert REFUSED in out
