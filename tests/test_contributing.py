"""The probe and the test that CONTRIBUTING shows are run, so that they stay true."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def module(name: str, source: str) -> ModuleType:
    made = ModuleType(name)
    exec(compile(source, f"CONTRIBUTING.md, {name}", "exec"), made.__dict__)
    return made


def test_the_probe_that_contributing_shows_passes_the_tests_that_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe, tests = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.setitem(sys.modules, "wirecheck.probes.dtype", module("wirecheck.probes.dtype", probe))
    shown = [value for name, value in vars(module("shown", tests)).items() if name.startswith("test_")]
    assert len(shown) == 3
    for test in shown:
        assert isinstance(test, FunctionType)
        test(tmp_path / test.__name__)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)", PAGE))))
def test_every_target_that_contributing_names_is_in_the_makefile(target: str) -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)
