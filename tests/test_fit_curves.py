"""`wirecheck fit --curve`: what the command adds, what a crash costs, what the faces say. Figures: test_vram_plane."""

from __future__ import annotations

import os

import pytest

from tests.small_steps import TRAIN, WIRE, small
from tests.test_fit import QUICK, STEP, frontier, row
from wirecheck import cli_fit, fit, fit_curves
from wirecheck.frontier_records import Frontier, Largest
from wirecheck.views import fit as view
from wirecheck.vram.gpus import find
from wirecheck.vram.plan import Step


def test_a_curve_begins_with_what_the_row_says_and_is_in_every_face(run, llama, qwen, tmp_path):
    words = [*QUICK, "--grad-checkpointing", "--gpu", "L4"]
    faces = [tmp_path / "f.md", tmp_path / "f.html"]
    reports = [w for face in faces for w in ("--report", face)]
    code, out, err = run("fit", llama, qwen, *words, "--curve", "--json", tmp_path / "f.json", *reports)
    assert code == 0, err
    found = cli_fit.read_frontier(tmp_path / "f.json")
    for one in found.rows:
        assert (one.curve[0].context, one.curve[0].batch, one.curve[0].why) == (8, one.batch, None)
        assert len(one.curve) > 1
        assert all(point.batch.fits for point in one.curve)
    assert found.command.endswith(" --grad-checkpointing --gpu L4 --curve")
    assert fit.CURVE in found.assumptions
    assert "largest batch that fits, by context in text tokens, as asked" in " ".join(out.split())
    assert "## The largest batch by context" in faces[0].read_text()
    assert 'id="picture-fit-frontier-as-asked"' in faces[1].read_text()
    assert [line.split()[0] for line in err.splitlines()] == [f"{n}/4" for n in range(1, 5)]


def test_models_that_are_split_get_no_curve(monkeypatch):
    given = []
    monkeypatch.setattr(fit, "with_curves", lambda groups, *_: given.extend(groups) or iter(()))
    todo = fit.pieces([(find("T4"), 2), (find("L4"), 1)], ("as-asked", "in-turns"))
    assert any(piece.placement == "split" for piece in todo)
    rows = {
        (gpu.name, count, piece.way, piece.placement): row(gpu.name, piece.way, count=count, placement=piece.placement)
        for piece in todo
        for gpu, count in piece.gpus
    }
    assert list(fit._curved(STEP, fit._with_a_curve(todo), rows, 1)) == []
    assert {(one.rows[0].placement, one.rows[0].way, one.step.train.resident) for one in given} == {
        ("one-gpu", "as-asked", "joint"),
        ("one-gpu", "in-turns", "sequential"),
        ("one-model-per-gpu", "as-asked", "joint"),
    }


def test_the_formula_has_a_curve_too(run, llama, qwen):
    words = (*QUICK, "--gpu", "T4", "--wire", "tests.tiny_wires:tiny", "--curve", "--json", "-")
    _, out, _ = run("fit", llama, qwen, *words)
    for one in Frontier.model_validate_json(out).rows:
        assert one.curve[0].batch == one.batch
        assert [point.batch.method for point in one.curve] == ["formula"] * len(one.curve)
        reach = [point.batch.may_fit for point in one.curve]
        assert reach == sorted(reach, reverse=True)
        assert len(reach) > 1


def test_a_curve_s_child_that_crashes_costs_the_points_and_no_row(monkeypatch):
    monkeypatch.setattr(fit_curves, "drawn", lambda _: os._exit(7))
    rows = (row("L4"), row("T4", batch=(0, 0), context=(0, 0)), row("A40", batch=None, why="no"))
    ((held, none, unknown),) = fit_curves.with_curves([fit_curves.Group(STEP, rows)], 1, 60.0)
    assert held.batch == rows[0].batch
    assert held.curve[0].batch == rows[0].batch
    assert {point.why for point in held.curve[1:]} == {"its process ended with exit status 7"}
    assert [point.context for point in none.curve] == [TRAIN.context], "nothing more to ask"
    assert unknown == rows[2]


def test_without_fork_curves_are_drawn_here(monkeypatch):
    step = Step({"a": small(num_hidden_layers=1, max_position_embeddings=1200)}, WIRE, TRAIN)
    group = fit_curves.Group(step, (row("L4"),))
    monkeypatch.delattr(os, "fork")
    ((drawn,),) = fit_curves.with_curves([group], 1, 60.0)
    assert [point.context for point in drawn.curve] == [TRAIN.context, 512, 1024]


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ({"context": 9}, "an answer or a reason"),
        ({"context": 9, "why": "no", "batch": Largest(fits=1, may_fit=1)}, "an answer or a reason"),
        ({"context": 8, "why": "no"}, "do not ascend"),
    ],
)
def test_a_point_is_an_answer_or_a_reason_and_contexts_ascend(point, said):
    with pytest.raises(ValueError, match=said):
        row(curve=({"context": 8, "why": "no"}, point))


def test_a_point_that_is_missing_says_why_in_every_face_and_changes_no_exit_code():
    points = [
        {"context": 64, "batch": Largest(fits=7, may_fit=9)},
        {"context": 512, "why": "not this one"},
        {"context": 1024, "batch": Largest(fits=0, may_fit=1)},
    ]
    found = frontier(row(curve=points), row("L4", curve=points[:1]))
    assert "| T4 | 7 to 9 | not traced | 0 to 1 |" in view.render(found)
    assert "| L4 | 7 to 9 | — | — |" in view.render(found)
    assert "- **T4, as asked, at 512 text tokens**: not this one" in view.render(found)
    assert "T4, as asked, at 512 text tokens: not this one" in cli_fit.shown(found)
    assert view.exit_code(found) == 0
