"""`wirecheck matrix`: every pair comes to what `pair` says of it; what breaks costs its cell; a second run goes on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.matrices import NAMES, REQUEST, Heard, ran, survey
from wirecheck import matrix as module
from wirecheck.matrix import EveryPair
from wirecheck.matrix_records import MatrixCell
from wirecheck.matrix_rule import Rule
from wirecheck.matrix_work import ModelWork, PairWork, cell_of
from wirecheck.runner import Request, check
from wirecheck.schema import Level, Policy
from wirecheck.snapshot import parse_ref, take


@pytest.fixture
def place(four_models: Path) -> Path:
    return four_models


# --- what it says ------------------------------------------------------------------------------------------------


def test_every_pair_comes_to_what_pair_says_of_it(place):
    _, found = ran(place)
    assert (found.status, len(found.cells)) == ("finished", 6)
    for a, b in EveryPair(NAMES):
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
    monkeypatch.setattr(module, "in_forks", None)  # nothing is run
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


def test_two_names_of_one_model_are_probed_once_and_both_told(place):
    read = {name: (lambda: take(parse_ref(str(place / "one")))) for name in ("x", "y")}
    made = survey(place, pairs=EveryPair(["x", "y"]))
    made.read = read
    made.run()
    (cell,) = made.cells()
    assert (cell.outcome, sorted(name for name, _ in made.watch.models)) == ("compatible", ["x", "y"])


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
    before = ModelWork.__call__

    def dies(self: ModelWork, key: str) -> str:
        if self.snapshots[key].ref.name == "three":
            os._exit(9)
        return before(self, key)

    monkeypatch.setattr(ModelWork, "__call__", dies)
    _, found = ran(place)
    assert "exit status 9" in next(model.why for model in found.models if model.name == "three")
    assert [cell.outcome for cell in found.cells if "three" not in (cell.a, cell.b)] == ["compatible"] * 3


def test_a_pair_that_kills_its_child_costs_its_cell(place, monkeypatch):
    before = PairWork._judged

    def dies(self: PairWork, pair, runs, lent):
        if pair == ("two", "four"):
            os._exit(9)
        return before(self, pair, runs, lent)

    monkeypatch.setattr(Rule, "covers", False)
    monkeypatch.setattr(PairWork, "_judged", dies)
    _, found = ran(place)
    outcomes = {(cell.a, cell.b): cell.outcome for cell in found.cells}
    assert outcomes.pop(("two", "four")) == "could-not-check"
    assert set(outcomes.values()) == {"compatible"}
    monkeypatch.setattr(PairWork, "_judged", before)
    _, again = ran(place)
    assert [(cell.a, cell.b) for cell in again.cells if not cell.kept] == [("two", "four")]
    assert again.cell("two", "four").outcome == "compatible"


def test_a_pair_that_hangs_is_ended_at_its_limit(place, monkeypatch):
    def hangs(self: PairWork, pair, runs, lent):
        while True:
            pass

    monkeypatch.setattr(Rule, "covers", False)
    monkeypatch.setattr(PairWork, "_judged", hangs)
    _, found = ran(place, ("one", "two"), pair_limit_s=2.0)
    assert "time limit" in found.cells[0].why[0]


def test_ctrl_c_keeps_what_is_finished_and_the_next_run_goes_on(place, monkeypatch):
    monkeypatch.setattr(Rule, "covers", False)

    class Impatient(Heard):
        def cell(self, cell: MatrixCell) -> None:
            super().cell(cell)
            raise KeyboardInterrupt

    made = survey(place, watch=Impatient())
    with pytest.raises(KeyboardInterrupt):
        made.run()
    found = made.head(tuple(made.cells()))
    assert (found.status, 0 < len(found.cells) < 6) == ("interrupted", True)
    again, second = ran(place)
    assert second.status == "finished"
    assert all(kept for _, kept in again.watch.models)
    assert any(cell.kept for cell in second.cells)
