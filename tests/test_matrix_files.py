"""What a matrix is written to, while its cells are made: rows, pages, the record; and the ranking."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from tests.matrices import HOSTILE, hostile, survey
from wirecheck import cli_matrix
from wirecheck import matrix as module
from wirecheck.cli_matrix_asked import names_of, texts
from wirecheck.cli_matrix_files import MatrixFiles
from wirecheck.errors import OutputNotWritten, UsageError
from wirecheck.matrix import EveryPair, Local, tiles
from wirecheck.matrix_records import MatrixCell
from wirecheck.matrix_tally import MOST_GRID, Tally, ranked
from wirecheck.schema import Level
from wirecheck.views import matrix as view

# --- order and names ---------------------------------------------------------------------------------------------


@given(st.lists(st.text("abcdefgh", min_size=1, max_size=2), unique=True, min_size=2, max_size=14))
def test_tiles_hold_EveryPair_once_and_few_models(names):
    pairs = list(EveryPair(names))
    assert len(EveryPair(names)) == len(pairs) == len(names) * (len(names) - 1) // 2
    made = tiles(pairs)
    assert sorted(pair for tile in made for pair in tile) == sorted(pairs)
    assert all(len({name for pair in tile for name in pair}) <= 2 * module.TILE_MODELS for tile in made)


def test_few_pairs_are_spread_over_all_that_may_run(tmp_path):
    def made(names: str, jobs: int) -> list[list[tuple[str, str]]]:
        return survey(tmp_path, names, executor=Local(jobs))._tiles(list(EveryPair(names)))

    assert [len(tile) for tile in made("abcd", 2)] == [1] * 6
    assert len(made("abcd", 1)) == 2
    assert max(map(len, made("abcdefghijklmnopqrst", 2))) == 16
    assert made("ab", 8) == [[("a", "b")]]


def test_against_one():
    assert list(EveryPair(["a", "b", "c"], "b")) == [("a", "b"), ("b", "c")]
    assert len(EveryPair(["a", "b", "c"], "b")) == 2
    assert ("a", "c") in EveryPair("abc")
    assert ("a", "c") not in EveryPair("abc", "b")


def test_ranking():
    def cell(name: str, outcome="compatible", **more) -> MatrixCell:
        return MatrixCell(a=name, b="z", outcome=outcome, **more)

    order = [
        cell("executed", strength=Level.EXECUTED, warnings=3),
        cell("lean", strength=Level.SIMULATED, memory=1),
        cell("near", strength=Level.SIMULATED, memory=5, token_length_ratio=0.9),
        cell("far", strength=Level.SIMULATED, memory=5, token_length_ratio=2.0),
        cell("farther", strength=Level.SIMULATED, memory=5, token_length_ratio=0.4),
        cell("untold", strength=Level.SIMULATED, memory=5),
        cell("warned", strength=Level.SIMULATED, warnings=1, memory=1),
        cell("open", "unproven"),
        cell("lost", "could-not-check"),
        cell("no", "incompatible", strength=Level.SIMULATED),
    ]
    assert [one.a for one in ranked(order[::-1])] == [one.a for one in order]


def test_names_are_short_and_no_two_alike():
    given_ = ["org/m", "other/m", "./m/", "x" * 10_000, "org/a\x1b[2J"]
    named = names_of(given_)
    assert list(named.values()) == given_
    assert list(named)[:3] == ["m", "m-2", "m-3"]
    assert all(len(name) <= 70 for name in named)
    assert not any("\x1b" in name for name in named)


def test_a_list_of_models(tmp_path):
    path = tmp_path / "models.txt"
    path.write_text("# candidates\norg/a\n\norg/b  # small\norg/a\n")
    assert texts(["org/b", "org/c"], path) == ["org/b", "org/c", "org/a"]
    with pytest.raises(UsageError, match="nowhere"):
        texts([], tmp_path / "nowhere.txt")


# --- views -------------------------------------------------------------------------------------------------------


def test_reports_of_hostile_names(tmp_path):
    found = hostile()
    tally = Tally.of(found)
    links = {(HOSTILE, "b|c"): "pairs/x%22y.html"}
    page, text = view.render_html(found, tally, links), view.render(found, tally, links)
    assert "<script>alert" not in page
    assert "\x1b" not in page + text
    assert page.count('<td class="c">') == 2
    assert page.count('<i class="h0">1.0</i>') == page.count('<i class="h5">3.0</i>') == 2
    assert "X CFG11" in text
    assert page.count('href="pairs/x%22y.html"') == 3  # both ways in the grid, and in the ranking
    with MatrixFiles(tmp_path / "m.json", [tmp_path / "m.csv", tmp_path / "m.jsonl", tmp_path / "m.parquet"]) as files:
        for cell in found.cells:
            files.add(cell)
        files.publish(found)
    assert cli_matrix.read_matrix(tmp_path / "m.json") == found
    rows = list(csv.DictReader((tmp_path / "m.csv").read_text().splitlines()))
    assert len(rows) == 3
    assert rows[0]["a"].startswith("'=")
    lines = (tmp_path / "m.jsonl").read_text().splitlines()
    assert [MatrixCell.model_validate_json(line) for line in lines] == list(found.cells)
    table = parquet.read_table(tmp_path / "m.parquet")
    assert table.column_names == list(view.COLUMNS)
    assert table.to_pylist() == [dict(zip(view.COLUMNS, view.row(cell), strict=True)) for cell in found.cells]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.csv", "m.json", "m.jsonl", "m.parquet"]


def test_a_matrix_without_cells_is_a_record_too(tmp_path):
    bare = hostile().model_copy(update={"cells": ()})
    with MatrixFiles(tmp_path / "m.json", [tmp_path / "m.parquet"]) as files:
        files.publish(bare)
    assert cli_matrix.read_matrix(tmp_path / "m.json") == bare
    assert parquet.read_table(tmp_path / "m.parquet").num_rows == 0


def test_files_that_are_not_finished_are_not_there(tmp_path):
    with MatrixFiles(tmp_path / "m.json", [tmp_path / "m.parquet", tmp_path / "m.csv"]) as files:
        files.add(hostile().cells[0])
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_is_said(tmp_path):
    with MatrixFiles(None, [tmp_path / "m.csv"]) as files:
        files._files[0]._stream.close()
        files._files[0]._stream = Path("/dev/full").open("w")  # noqa: SIM115
        files.add(hostile().cells[0])
        with pytest.raises(OutputNotWritten, match="not written: No space left"):
            files.publish(hostile())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputNotWritten, match="not written"), MatrixFiles(Path("/dev/null/m.json"), []):
        pass


def test_a_file_that_cannot_be_put_keeps_no_other_from_its_place(tmp_path):
    (tmp_path / "m.json").mkdir()
    files = MatrixFiles(tmp_path / "m.json", [tmp_path / "m.csv"])
    with files, pytest.raises(OutputNotWritten, match=r"m\.json: not written"):
        files.publish(hostile())
    assert (tmp_path / "m.csv").read_text().startswith("a,b,outcome")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.csv", "m.json"]


def test_too_many_models_are_no_table():
    found = hostile()
    many = found.model_copy(update={"models": found.models * 20})
    assert "more than a table bears" in view.render(many, Tally.of(many))
    assert "more than a table bears" not in view.render(found, Tally.of(found))
    very_many = found.model_copy(update={"models": found.models * 100})
    assert Tally.of(very_many).grid == {}
    assert "100 models more in the JSON." in view.render(very_many, Tally.of(very_many))
    assert MOST_GRID < 300


@given(st.lists(st.integers(0, 10**12), max_size=300), st.integers(1, 40))
def test_the_best_of_a_stream_are_the_first_of_the_ranking(memories, top):
    cells = [MatrixCell(a=f"{n}", b="z", outcome="compatible", memory=memory) for n, memory in enumerate(memories)]
    tally = Tally(models=1000, top=top)
    for cell in cells:
        tally.add(cell)
        tally._waiting = tally._waiting if len(tally._waiting) < 2 * top else tally.best
    assert tally.best == ranked(cells)[:top]
    assert tally.memory == ((min(memories), max(memories)) if memories else None)
    assert tally.count == len(memories)
