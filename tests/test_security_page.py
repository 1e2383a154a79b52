"""docs/security.md: each line of its table names tests, and they exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/test_\w+\.py)::(test_\w+)`")
_ROWS = [line for line in PAGE.partition("## What holds what")[2].partition("\n## ")[0].splitlines() if line[:1] == "|"]
LINES = _ROWS[2:]


@cache
def functions_of(file: str) -> frozenset[str]:
    """The names of the tests that pytest collects from a file: functions at its top level."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split("|")[1].strip())
def test_every_line_names_what_holds_it_and_the_tests_that_show_it(line):
    threat, holds, shown = (cell.strip() for cell in line.strip("|").split("|"))
    assert threat
    assert holds
    named = NAMED.findall(shown)
    assert named
    assert NAMED.sub("", shown).strip(", ") == ""
    assert [f"{file}::{name}" for file, name in named if name not in functions_of(file)] == []


def test_the_table_is_the_whole_of_it():
    assert len(LINES) > 25
    assert NAMED.findall(PAGE) == [one for line in LINES for one in NAMED.findall(line)]


def test_no_test_of_a_hostile_file_is_left_out_of_the_table():
    told = {name for _, name in NAMED.findall(PAGE)}
    files = {file for file, _ in NAMED.findall(PAGE) if file.startswith("tests/test_hostile_")}
    assert files == {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").glob("test_hostile_*.py")}
    assert told
