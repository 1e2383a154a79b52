"""The kept texts of `said`: none of a test that is no more."""

from __future__ import annotations

import pytest

from tests.said import KEPT


@pytest.mark.parametrize("file", sorted(KEPT.glob("*.txt")), ids=lambda file: file.stem)
def test_what_is_kept_is_of_a_test_that_there_is(file):
    tests = (KEPT.parents[1] / f"test_probe_{file.stem}.py").read_text(encoding="utf-8")
    names = [line[2:].partition("[")[0] for line in file.read_text(encoding="utf-8").splitlines() if line[:2] == "# "]
    assert names
    assert [name for name in names if f"def {name}(" not in tests] == []
