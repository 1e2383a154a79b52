"""For every test: no property is judged by the clock; the built-in models to be broken; the command line in process."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from wirecheck import cli
from wirecheck.demo import demo_folders

settings.register_profile("wirecheck", deadline=None)
settings.load_profile("wirecheck")


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A copy of the built-in Llama-like model, to be broken."""
    return Path(shutil.copytree(demo_folders()[0], tmp_path / "llama"))


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    """A copy of the built-in Qwen2-like model, to be broken."""
    return Path(shutil.copytree(demo_folders()[1], tmp_path / "qwen"))


@pytest.fixture
def run(monkeypatch, capsys):
    """Run one command line in this process: its exit code, stdout and stderr."""

    def one(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["wirecheck", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return one
