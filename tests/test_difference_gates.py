"""Two gates against each other, and when a result is worse than another."""

from __future__ import annotations

import json
from datetime import date

import pytest
from pydantic import ValidationError

from tests.differences import BAD, COMPATIBLE, OLD, OTHER, UNPROVEN, edited, flat, gate, gate_row, judged, only_row
from tests.factories import COMMITS, pair_result
from wirecheck.cli_output import to_json
from wirecheck.cli_output import to_json as result_json
from wirecheck.difference import compare
from wirecheck.difference_records import Difference
from wirecheck.gate_records import GateAcceptance, GateModel
from wirecheck.schema import (
    Acceptance,
    Policy,
)
from wirecheck.views import difference as view

# --- worse ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("compatible", "compatible", 0),
        ("compatible", "unproven", 1),
        ("compatible", "incompatible", 1),
        ("unproven", "incompatible", 1),
        ("unproven", "unproven", 0),
        ("unproven", "compatible", 0),
        ("incompatible", "incompatible", 0),
        ("incompatible", "unproven", 0),
        ("incompatible", "compatible", 0),
    ],
)
def test_the_exit_code_is_1_where_it_is_worse(run, tmp_path, old, new, code):
    files = [tmp_path / "old.json", tmp_path / "new.json"]
    for file, outcome in zip(files, (old, new), strict=True):
        file.write_text(result_json(judged(outcome)))
    assert run("diff", *files)[0] == code


def test_not_finished_is_worse_than_finished():
    old, new = judged("unproven"), judged("unproven", "interrupted")
    assert compare(old, new).is_worse
    assert "The new result is interrupted, not finished" in flat(compare(old, new))
    assert not compare(new, old).is_worse
    assert not compare(new, new).is_worse


def test_a_file_that_says_worse_wrongly_is_refused():
    held = json.loads(to_json(compare(judged("compatible"), judged("unproven"))))
    assert held["is_worse"] is True
    with pytest.raises(ValidationError, match="the rows say True"):
        Difference.model_validate(held | {"is_worse": False})


# --- gates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "worse"),
    [
        ([gate_row("x + y", BAD)], [gate_row("x + y", BAD, kept=True, seconds=9)], False),
        ([gate_row("x + y", COMPATIBLE)], [gate_row("x + y", UNPROVEN)], True),
        (
            [gate_row("x + y", BAD), gate_row("x + z", COMPATIBLE)],
            [gate_row("x + y", BAD), gate_row("x + z", UNPROVEN)],
            True,
        ),
        ([gate_row("x + y", BAD), gate_row("x + z", COMPATIBLE)], [gate_row("x + y", BAD)], True),
        ([gate_row("x + y", COMPATIBLE)], [gate_row("x + y", COMPATIBLE), gate_row("x + z", COMPATIBLE)], False),
        ([gate_row("x + y", COMPATIBLE)], [gate_row("x + y", COMPATIBLE), gate_row("x + z", BAD)], True),
        ([gate_row("x + y", BAD)], [gate_row("x + y", BAD), gate_row("x + z", BAD)], False),
        ([gate_row("x + y", COMPATIBLE)], [gate_row("x + y", None)], True),
        ([gate_row("x + y", COMPATIBLE)], [gate_row("x + y", None, "not-run")], True),
        ([gate_row("x + y", None)], [gate_row("x + y", COMPATIBLE)], False),
        ([gate_row("x + y", UNPROVEN)], [gate_row("x + y", COMPATIBLE)], False),
    ],
)
def test_a_gate_is_worse_where_a_row_is_or_is_gone(old, new, worse):
    assert compare(gate(*old), gate(*new)).is_worse is worse


def test_the_same_gate_is_the_same():
    one = gate(
        gate_row("x + y", COMPATIBLE),
        gate_row("z", pair_result(b=None, runs=(), verdict=BAD.verdict)),
        gate_row("y", None),
    )
    found = compare(one, one)
    assert (found.is_empty, found.same) == (True, ("x + y", "z", "y"))


def test_rows_are_matched_by_name_wherever_they_stand_and_twice_is_twice():
    old = gate(gate_row("x + y", COMPATIBLE), gate_row("x + z", BAD), gate_row("x + y", UNPROVEN))
    new = gate(gate_row("x + z", BAD), gate_row("x + y", COMPATIBLE), gate_row("x + y", UNPROVEN))
    assert compare(old, new).is_empty
    (gone,) = compare(old, gate(*old.rows[:2])).rows
    assert (gone.name, gone.old.outcome, gone.new) == ("x + y", "unproven", None)


def test_a_gate_tells_models_by_their_names_and_what_is_of_some_rows_only():
    moved = pair_result(b=edited(OLD.b, commit=OTHER), verdict=COMPATIBLE.verdict, seed=5)
    models = [
        (GateModel(name="x", ref="x", commit=COMMITS[0]), GateModel(name="y", ref="y", commit=commit))
        for commit in (COMMITS[1], OTHER)
    ]
    old = gate(gate_row("x + y", COMPATIBLE), gate_row("x", COMPATIBLE), models=models[0])
    new = gate(
        gate_row("x + y", moved), gate_row("x", pair_result(seed=5, verdict=COMPATIBLE.verdict)), models=models[1]
    )
    causes = [(cause.key, cause.old, cause.new, cause.rows) for cause in compare(old, new).causes]
    assert causes == [("y.commit", COMMITS[1], OTHER, ("x + y",)), ("seed", 0, 5, ())]


def test_a_row_without_a_result_is_compared_by_what_it_came_to():
    old, new = gate(gate_row("x + y", COMPATIBLE)), gate(gate_row("x + y", None))
    found = only_row(compare(old, new))
    assert (found.is_compared, found.findings, found.runs) == (False, (), ())
    assert view.View.verdict(found)[-1] == ("+", "not there")
    assert view.View.UNCOMPARED in view.render(compare(old, new))


def test_an_acceptance_that_expired_is_told():
    def accepted(state: str) -> GateAcceptance:
        return GateAcceptance(code="CFG11", on="x", reason="r", until=date(2027, 1, 31), state=state)

    taken = Policy(accepted=(Acceptance(code="CFG11", subject="a", reason="r", until=date(2027, 1, 31)),))
    held = pair_result(policy=taken, verdict=COMPATIBLE.verdict)
    old = gate(gate_row("x + y", held), accepted=(accepted("used"),))
    new = gate(gate_row("x + y", BAD), accepted=(accepted("expired"),))
    keys = {cause.key: (cause.old, cause.new) for cause in compare(old, new).causes}
    assert keys["acceptance of CFG11 on x until 2027-01-31"] == ("used", "expired")
    assert set(keys) == {"policy.accepted", "acceptance of CFG11 on x until 2027-01-31"}


def test_a_gate_s_faces_tell_the_rows():
    old = gate(gate_row("x + y", COMPATIBLE), gate_row("x + z", COMPATIBLE), gate_row("y + z", COMPATIBLE))
    new = gate(gate_row("x + y", BAD), gate_row("y + z", COMPATIBLE), gate_row("u + v", COMPATIBLE), file="n.toml")
    found = compare(old, new, ("old.json", "new.json"))
    for face in (flat(found), view.render(found)):
        assert "3 of 4 rows not as before; worse: x + y; gone: x + z; new: u + v" in face
        assert "compatible → incompatible" in face
        assert "compatible → not there" in face
        assert "not there → compatible" in face
