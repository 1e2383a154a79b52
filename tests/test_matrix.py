"""`wirecheck matrix`: every pair comes to what `pair` says of it; what breaks costs its cell; a second run goes on."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirecheck import cli_matrix
from wirecheck import matrix as module
from wirecheck.cli_matrix import names_of, texts
from wirecheck.demo import demo_folders
from wirecheck.errors import UsageError
from wirecheck.gate_shelf import Shelf
from wirecheck.matrix import Survey, cell_of, every_pair, ranked, tiles
from wirecheck.matrix_records import Matrix, MatrixCause, MatrixCell, MatrixModel
from wirecheck.runner import Request, check
from wirecheck.schema import Level, Policy, TrainSpec, WireSpec
from wirecheck.snapshot import parse_ref, take
from wirecheck.store import Store
from wirecheck.views import matrix as view

REQUEST = Request(
    wire=WireSpec(latent_length=4, latent_width=32, max_bytes=64),
    train=TrainSpec(),
    policy=Policy(required=Level.INSPECTED, depth=Level.INSPECTED),
    seed=0,
    command="wirecheck matrix",
)


class Heard:
    """What a survey tells while it goes."""

    def __init__(self) -> None:
        self.models: list[tuple[str, bool]] = []
        self.cells: list[MatrixCell] = []

    def model(self, model: MatrixModel, *, kept: bool) -> None:
        self.models.append((model.name, kept))

    def cell(self, cell: MatrixCell) -> None:
        self.cells.append(cell)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Four models: the two built-in ones, a copy of each with another file beside."""
    a, b = demo_folders()
    for name, source in (("one", a), ("two", b), ("three", a), ("four", b)):
        shutil.copytree(source, tmp_path / name)
    for name in ("three", "four"):
        path = tmp_path / name / "generation_config.json"
        held = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(held | {"temperature": 0.5}))
    return tmp_path


NAMES = ("one", "two", "three", "four")


def survey(place: Path, names=NAMES, request: Request = REQUEST, **more) -> Survey:
    read = {name: (lambda name=name: take(parse_ref(str(place / name)))) for name in names}
    given = {"pairs": every_pair(names), "shelf": Shelf(Store(place / "store.sqlite")), "watch": Heard(), "jobs": 2}
    return Survey(request, read, **(given | more))


def ran(place: Path, *args, **more) -> tuple[Survey, Matrix]:
    made = survey(place, *args, **more)
    made.run()
    return made, made.result()


# --- what it says ------------------------------------------------------------------------------------------------


def test_every_pair_comes_to_what_pair_says_of_it(place):
    _, found = ran(place)
    assert (found.status, len(found.cells)) == ("finished", 6)
    for a, b in every_pair(NAMES):
        alone = check(take(parse_ref(str(place / a))), take(parse_ref(str(place / b))), REQUEST)
        cell = found.cell(a, b)
        expected = cell_of((a, b), alone, cell.seconds)
        assert cell == expected
        assert found.cell(b, a) is cell


def test_simulated_too(place):
    simulated = Request(**vars(REQUEST) | {"policy": Policy(required=Level.SIMULATED, depth=Level.SIMULATED)})
    _, found = ran(place, ("one", "two"), simulated)
    alone = check(take(parse_ref(str(place / "one"))), take(parse_ref(str(place / "two"))), simulated)
    (cell,) = found.cells
    assert cell == cell_of(("one", "two"), alone, cell.seconds)
    assert (cell.outcome, cell.strength) == ("compatible", Level.SIMULATED)
    assert cell.memory == alone.memory.allocated_bytes


def test_a_second_run_runs_nothing_and_says_the_same(place, monkeypatch):
    _, first = ran(place)
    monkeypatch.setattr(module, "in_forks", None)
    again, second = ran(place)
    assert all(cell.kept for cell in second.cells)
    assert all(kept for _, kept in again.watch.models)
    same = [cell.model_copy(update={"kept": False, "seconds": 0.0}) for cell in second.cells]
    assert same == [cell.model_copy(update={"seconds": 0.0}) for cell in first.cells]


def test_one_changed_model_costs_itself_and_its_pairs(place, monkeypatch):
    ran(place)
    path = place / "two" / "tokenizer_config.json"
    path.write_text(path.read_text() + " ")
    again, found = ran(place)
    assert [name for name, kept in again.watch.models if not kept] == ["two"]
    assert {frozenset((cell.a, cell.b)) for cell in found.cells if not cell.kept} == {
        frozenset(("two", other)) for other in ("one", "three", "four")
    }


def test_a_model_on_either_side_is_probed_once(place):
    ran(place, ("one", "two"))
    again, _ = ran(place, ("two", "one"))
    assert [kept for _, kept in again.watch.models] == [True, True]


# --- what breaks -------------------------------------------------------------------------------------------------


def test_a_model_that_is_not_there_costs_its_row(place):
    shutil.rmtree(place / "two")
    _, found = ran(place)
    assert found.status == "finished"
    assert [model.why is not None for model in found.models] == [False, True, False, False]
    for cell in found.cells:
        assert (cell.outcome == "could-not-check") == ("two" in (cell.a, cell.b))
    assert "no folder" in found.cell("one", "two").why[0]


def test_a_model_whose_probes_die_costs_its_row(place, monkeypatch):
    before = Survey._model_runs

    def dies(self: Survey, name: str) -> str:
        if name == "three":
            os._exit(9)
        return before(self, name)

    monkeypatch.setattr(Survey, "_model_runs", dies)
    _, found = ran(place)
    assert "exit status 9" in next(model.why for model in found.models if model.name == "three")
    assert [cell.outcome for cell in found.cells if "three" not in (cell.a, cell.b)] == ["compatible"] * 3


def test_a_pair_that_kills_its_child_costs_its_cell(place, monkeypatch):
    before = Survey._judged

    def dies(self: Survey, pair, lent):
        if pair == ("two", "four"):
            os._exit(9)
        return before(self, pair, lent)

    monkeypatch.setattr(Survey, "_judged", dies)
    _, found = ran(place)
    outcomes = {(cell.a, cell.b): cell.outcome for cell in found.cells}
    assert outcomes.pop(("two", "four")) == "could-not-check"
    assert set(outcomes.values()) == {"compatible"}
    monkeypatch.setattr(Survey, "_judged", before)
    _, again = ran(place)
    assert [(cell.a, cell.b) for cell in again.cells if not cell.kept] == [("two", "four")]
    assert again.cell("two", "four").outcome == "compatible"


def test_a_pair_that_hangs_is_ended_at_its_limit(place, monkeypatch):
    before = Survey._judged

    def hangs(self: Survey, pair, lent):
        if pair == ("one", "two"):
            while True:
                pass
        return before(self, pair, lent)

    monkeypatch.setattr(Survey, "_judged", hangs)
    _, found = ran(place, ("one", "two"), pair_limit_s=2.0)
    assert "time limit" in found.cells[0].why[0]


def test_ctrl_c_keeps_what_is_finished_and_the_next_run_goes_on(place):
    class Impatient(Heard):
        def cell(self, cell: MatrixCell) -> None:
            super().cell(cell)
            raise KeyboardInterrupt

    made = survey(place, watch=Impatient())
    with pytest.raises(KeyboardInterrupt):
        made.run()
    found = made.result()
    assert (found.status, 0 < len(found.cells) < 6) == ("interrupted", True)
    again, second = ran(place)
    assert second.status == "finished"
    assert all(kept for _, kept in again.watch.models)
    assert any(cell.kept for cell in second.cells)


# --- order and names ---------------------------------------------------------------------------------------------


@given(st.lists(st.text("abcdefgh", min_size=1, max_size=2), unique=True, min_size=2, max_size=14))
def test_tiles_hold_every_pair_once_and_few_models(names):
    pairs = every_pair(names)
    assert len(pairs) == len(names) * (len(names) - 1) // 2
    made = tiles(pairs)
    assert sorted(pair for tile in made for pair in tile) == sorted(pairs)
    assert all(len({name for pair in tile for name in pair}) <= 2 * module.TILE for tile in made)


def test_against_one():
    assert every_pair(["a", "b", "c"], "b") == [("a", "b"), ("b", "c")]


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

HOSTILE = "=cmd|'<script>alert(1)</script>\x1b[2J"


def hostile() -> Matrix:
    names = (HOSTILE, "b|c", "plain")
    cause = MatrixCause(code="CFG11", subject="a", claim=HOSTILE)
    cells = (
        MatrixCell(a=names[0], b=names[1], outcome="incompatible", causes=(cause,), why=(HOSTILE,), memory=10**9),
        MatrixCell(a=names[0], b=names[2], outcome="compatible", strength=Level.SIMULATED, memory=3 * 10**9),
        MatrixCell(a=names[1], b=names[2], outcome="unproven", why=("not run",)),
    )
    return Matrix(
        status="finished",
        command="wirecheck matrix",
        seed=0,
        wire=REQUEST.wire,
        train=REQUEST.train,
        policy=REQUEST.policy,
        environment=module.environment(),
        models=tuple(MatrixModel(name=name, ref=name) for name in names),
        cells=cells,
        seconds=1.0,
    )


def test_reports_of_hostile_names():
    found = hostile()
    best = ranked(found.cells)
    page, text = view.render_html(found, best), view.render(found, best)
    assert "<script>alert" not in page
    assert "\x1b" not in page + text
    assert page.count('<td class="compatible"') == 2
    assert "background: #" in page
    assert "X CFG11" in text
    rows = list(csv.DictReader(io.StringIO(view.render_csv(found, best))))
    assert len(rows) == 3
    assert rows[0]["a"].startswith("'=")
    assert [MatrixCell.model_validate_json(line) for line in view.render_lines(found, best).splitlines()] == list(
        found.cells
    )


def test_too_many_models_are_no_table():
    found = hostile()
    many = found.model_copy(update={"models": found.models * 20})
    assert "more than a table bears" in view.render(many, [])
    assert "1,234" not in view.render(found, [])


# --- the command -------------------------------------------------------------------------------------------------


def command(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"WIRECHECK_CACHE": str(place / "cache"), "NO_COLOR": "1", "COLUMNS": "100"}
    line = [sys.executable, "-m", "wirecheck.cli", *words]
    return subprocess.run(line, cwd=place, env=environment, capture_output=True, text=True, check=False)


INSPECTED = ("--depth", "inspected", "--require", "inspected")


def test_the_command_and_its_files(place):
    reports = [word for ending in ("md", "html", "csv", "jsonl") for word in ("--report", f"m.{ending}")]
    done = command(place, "matrix", "./one", "./two", "./three", *INSPECTED, "--json", "m.json", *reports)
    assert done.returncode == 0, done.stderr
    assert "3 models, 3 pairs: 3 compatible." in done.stdout
    found = cli_matrix.read_matrix(place / "m.json")
    assert (found.status, len(found.cells), found.command.startswith("wirecheck matrix ./one")) == ("finished", 3, True)
    assert len((place / "m.jsonl").read_text().splitlines()) == 3
    held = command(place, "cache").stdout
    assert "3 of kind model" in held
    assert "3 of kind pair of a matrix" in held
    assert command(place, "cache", "--clear").returncode == 0
    assert "nothing is kept" in command(place, "cache").stdout


def test_the_command_with_a_model_that_is_not_there(place):
    (place / "list.txt").write_text("./one\n./two\n./nowhere\n")
    done = command(place, "matrix", "--from", "list.txt", *INSPECTED, "--against", "./one", "--top", "1")
    assert done.returncode == 4
    assert "nowhere: there is no folder ./nowhere" in " ".join(done.stdout.split())
    assert "3 models, 2 pairs" in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("./one",), "two models at least"),
        (("./one", "./one"), "two models at least"),
        (("./one", "./two", "--against", "five"), "--against five"),
        (("./one", "./two", "--report", "m.pdf"), "ending .pdf"),
    ],
)
def test_usage(place, words, says):
    done = command(place, "matrix", *words)
    assert (done.returncode, says in done.stderr) == (2, True)


def test_two_runs_at_once_on_one_store(place):
    environment = os.environ | {"WIRECHECK_CACHE": str(place / "cache")}
    line = [sys.executable, "-m", "wirecheck.cli", "matrix", *(f"./{name}" for name in NAMES), *INSPECTED, "--json"]
    both = [
        subprocess.Popen([*line, f"{n}.json"], cwd=place, env=environment, stdout=-3, stderr=subprocess.PIPE)
        for n in range(2)
    ]
    assert [(one.communicate(), one.returncode)[1] for one in both] == [0, 0]
    for n in range(2):
        found = cli_matrix.read_matrix(place / f"{n}.json")
        assert [cell.outcome for cell in found.cells] == ["compatible"] * 6


@pytest.mark.parametrize("columns", ["50", "140"])
def test_verdicts_are_whole_in_any_terminal(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    found = hostile()
    text = cli_matrix.shown(found, ranked(found.cells))
    assert all(word in text for word in ("incompatible", "compatible", "unproven", "CFG11"))
    assert ("warnings" in text) == (columns == "140")
    assert "\x1b[2J" not in text
