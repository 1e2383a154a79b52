"""Folders of children: dropped at the end, and those of killed runs taken away by the next one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from wirecheck import scratch
from wirecheck.scratch import PREFIX, Scratch

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
