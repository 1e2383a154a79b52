"""`wirecheck fit`: the ways and pieces, the command with its files and exits, crashed children, the faces."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace

import pytest

from tests.small_steps import PAIR, TRAIN, WIRE
from wirecheck import cli_fit, fit
from wirecheck.cli_request import OPTIONS, request
from wirecheck.frontier_records import Frontier, FrontierGpu, FrontierRow, Largest, Way
from wirecheck.probe import PairBench
from wirecheck.probes.memory_shape import estimated
from wirecheck.schema import CheckedModel, Environment, TrainSpec, WireSpec
from wirecheck.snapshot import parse_ref, take
from wirecheck.views import fit as view
from wirecheck.vram.gpus import find
from wirecheck.vram.overheads import overheads
from wirecheck.vram.plan import Step

QUICK = ("--latent-length", "4", "--batch", "3", "--context", "8", "--answer", "8", "--jobs", "2")


def gpus(*names: str):
    return [(find(name), 1) for name in names]


# --- what is tried -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "ways"),
    [
        ({}, ("as-asked", "checkpointing", "in-turns", "in-turns-checkpointing")),
        ({"grad_checkpointing": True}, ("as-asked", "in-turns")),
        ({"resident": "sequential"}, ("as-asked", "checkpointing")),
        ({"grad_checkpointing": True, "resident": "sequential"}, ("as-asked",)),
    ],
)
def test_ways_that_change_nothing_are_left_out(changed, ways):
    assert fit.ways_of(TrainSpec(**changed)) == ways


def test_gpus_that_choose_the_same_kernels_share_a_piece():
    found = fit.pieces(gpus("T4", "L4", "A100-80GB", "H200"), ("as-asked",))
    assert [[gpu.name for gpu, _ in piece.gpus] for piece in found] == [["T4"], ["L4", "A100-80GB"], ["H200"]]


def test_several_gpus_are_asked_for_every_placement_and_no_turns():
    found = fit.pieces([(find("T4"), 4), (find("L4"), 1)], ("as-asked", "in-turns"))
    told = {(piece.placement, piece.way, piece.gpus[0][1]) for piece in found}
    assert told == {
        ("one-gpu", "as-asked", 1),
        ("one-gpu", "in-turns", 1),
        ("one-model-per-gpu", "as-asked", 4),
        ("split", "as-asked", 4),
    }
    assert found[0].placement == "split", "what takes longest is begun last"


# --- the command -------------------------------------------------------------------------------------------------


def test_every_gpu_gets_a_row_for_every_way_and_the_files_are_written(run, llama, qwen, tmp_path):
    faces = [tmp_path / "f.md", tmp_path / "f.html"]
    words = [*QUICK, "--gpu", "T4", "--gpu", "L4", "--json", tmp_path / "f.json"]
    code, out, err = run("fit", llama, qwen, *words, *(w for face in faces for w in ("--report", face)))
    assert code == 0, err
    found = cli_fit.read_frontier(tmp_path / "f.json")
    assert [(row.gpu, row.way) for row in found.rows] == [
        (gpu, way) for gpu in ("T4", "L4") for way in fit.ways_of(found.train)
    ]
    assert all(row.batch.fits > 3 and row.context.ended for row in found.rows)
    assert found.command == f"wirecheck fit {llama} {qwen} {' '.join(QUICK[:-2])} --gpu T4 --gpu L4"
    assert found.status == "finished"
    assert '"curve"' not in (tmp_path / "f.json").read_text(), "it was not asked for"
    assert found.seconds > 0
    assert "largest batch, at 8 text tokens" in out
    assert all(row.batch.method == "surface" for row in found.rows)
    assert [view.render(found), view.render_html(found)] == [face.read_text() for face in faces]
    assert [line.split()[0] for line in err.splitlines()] == [f"{n}/8" for n in range(1, 9)]


def test_the_json_stands_alone_on_stdout(run, llama, qwen):
    code, out, _ = run("fit", llama, qwen, *QUICK, "--grad-checkpointing", "--gpu", "L4", "--json", "-")
    found = Frontier.model_validate_json(out)
    assert (code, [row.way for row in found.rows]) == (0, ["as-asked", "in-turns"])


def test_a_wire_that_cannot_be_read_leaves_no_answer_and_the_exit_is_3(run, llama, qwen, tmp_path):
    code, out, _ = run("fit", llama, qwen, *QUICK, "--gpu", "L4", "--wire", "sentence-query", "--sentence-encoder", "x")
    assert code == 3
    assert "x holds no sentence encoder" in " ".join(out.split())


def test_a_wire_of_the_user_s_own_is_answered_by_formula_and_not_shown_to_fit(run, llama, qwen, tmp_path):
    words = ("--gpu", "T4", "--gpu", "L4x2", "--wire", "tests.tiny_wires:tiny", "--json", tmp_path / "f.json")
    code, out, _ = run("fit", llama, qwen, *QUICK, *words)
    found = cli_fit.read_frontier(tmp_path / "f.json")
    assert code == 3
    assert {row.batch.method for row in found.rows} == {"formula"}
    assert {(row.gpu, row.placement) for row in found.rows} == {("T4", "one-gpu"), ("L4", "one-model-per-gpu")}
    assert all(row.batch.fits == 0 < row.batch.may_fit for row in found.rows)
    assert "without what it trains and keeps" in " ".join(out.split())
    assert found.assumptions[0].startswith("The wire is not one that can be traced")


def test_the_formula_s_answer_is_the_largest_within_its_margin(llama, qwen):
    wanted = request("fit", [], dict.fromkeys(OPTIONS) | {"--gpu": ["T4"]}, seed=0, config=None)
    benches = [fit._bench(wanted, side, take(parse_ref(str(path)))) for side, path in (("a", llama), ("b", qwen))]
    (row,) = fit._untraced(wanted, tuple(benches), gpus("T4"), ("as-asked",))
    pair = PairBench(
        wire=wanted.wire,
        train=wanted.train,
        policy=wanted.policy,
        seed=0,
        a=benches[0],
        b=benches[1],
        facts=benches[0].facts + benches[1].facts,
    )

    def most(batch):
        made = estimated(replace(pair, train=TrainSpec(batch=batch)), (pair.a, pair.b))
        return made.allocated_bytes * (1 + made.margin) + overheads(find("T4")).context_span[1]

    assert most(row.batch.fits) <= find("T4").usable_bytes < most(row.batch.fits + 1)
    assert (row.batch.method, row.batch.most_bytes) == ("formula", int(most(row.batch.fits)))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--gpu", "T5"), "no GPU named 'T5'"),
        (("--report", "f.xml"), "no table has the ending .xml"),
        (("--batch", "0"), "--batch"),
        (("--batch", "-3"), "--batch"),
        (("--context", "-1"), "--context"),
        (("--dtype", "int8"), "--dtype"),
        (("--wire", "bites"), "ships no wire"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_2(run, llama, qwen, words, said):
    code, out, err = run("fit", llama, qwen, *words)
    assert (code, out) == (2, "")
    assert said in err


def test_an_absurd_size_is_answered(run, llama, qwen):
    code, out, _ = run("fit", llama, qwen, *QUICK, "--batch", "1000000000", "--gpu", "L4", "--json", "-")
    assert code == 3
    assert "more than it can hold" in Frontier.model_validate_json(out).rows[0].why


def test_a_config_that_cannot_be_run_is_could_not_check(run, llama, qwen):
    (llama / "config.json").write_text(json.dumps({"model_type": "no-such"}))
    code, out, err = run("fit", llama, qwen, *QUICK)
    assert (code, out) == (4, "")
    assert f"next: wirecheck model {llama}" in err


def test_the_weights_need_not_be_there(run, llama, qwen):
    for path in (*llama.glob("*.safetensors*"), *qwen.glob("*.safetensors*")):
        path.unlink()
    code, out, _ = run("fit", llama, qwen, *QUICK, "--gpu", "L4", "--json", "-")
    assert code == 0
    assert all(row.batch.fits for row in Frontier.model_validate_json(out).rows)


def test_a_model_that_is_not_there_is_could_not_check(run, qwen, tmp_path):
    code, _, err = run("fit", tmp_path / "gone", qwen)
    assert code == 4
    assert "gone" in err


def test_ctrl_c_keeps_the_rows_so_far(run, llama, qwen, tmp_path, monkeypatch):
    def stopped(step, todo, jobs):
        yield [FrontierRow(gpu="T4", way="checkpointing", placement="one-gpu", why="x")]
        time.sleep(600)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "_shared_out", stopped)
    monkeypatch.setattr(cli_fit.Watch, "rows", interrupt)
    code, _, err = run("fit", llama, qwen, *QUICK, "--gpu", "T4", "--json", tmp_path / "f.json")
    kept = cli_fit.read_frontier(tmp_path / "f.json")
    assert (code, kept.status, len(kept.rows)) == (130, "interrupted", 1)
    assert "interrupted" in err
    assert view.exit_code(kept) == 3


def test_a_run_that_has_only_begun_says_so(run, llama, qwen, tmp_path, monkeypatch):
    def looked(*_):
        assert cli_fit.read_frontier(tmp_path / "f.json").status == "started"
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "_bench", looked)
    run("fit", llama, qwen, *QUICK, "--json", tmp_path / "f.json")


# --- the children ------------------------------------------------------------------------------------------------

STEP = Step(PAIR, WIRE, TRAIN)


def test_a_child_that_crashes_costs_its_own_rows(monkeypatch):
    real = fit.work

    def work(step, piece):
        if piece.way == "checkpointing":
            os._exit(7)
        return real(step, piece)

    monkeypatch.setattr(fit, "work", work)
    todo = fit.pieces(gpus("L4", "A6000"), ("as-asked", "checkpointing"))
    rows = {(row.gpu, row.way): row for made in fit._shared_out(STEP, todo, 2) for row in made}
    assert [rows[gpu, "checkpointing"].why for gpu in ("L4", "A6000")] == ["its process ended with exit status 7"] * 2
    assert rows["L4", "as-asked"].why is None


def test_without_fork_the_work_is_done_here(monkeypatch):
    todo = fit.pieces(gpus("L4"), ("as-asked",))
    forked = list(fit._shared_out(STEP, todo, 1))
    monkeypatch.delattr(os, "fork")
    assert list(fit._shared_out(STEP, todo, 1)) == forked


# --- the faces ---------------------------------------------------------------------------------------------------


def row(gpu="T4", way="as-asked", batch=(7, 9), context=(64, 64), **more) -> FrontierRow:
    def axis(pair):
        if pair is None:
            return None
        fits, may, *ended = pair
        span = {"least_bytes": 10**9, "most_bytes": 2 * 10**9} if fits else {}
        return Largest(fits=fits, may_fit=may, ended=bool(ended), **span)

    kept = {"gpu": gpu, "way": way, "placement": "one-gpu", "batch": axis(batch), "context": axis(context)}
    return FrontierRow.model_validate(kept | more)


def frontier(*rows: FrontierRow, **more) -> Frontier:
    model = CheckedModel(ref="x", name="<b>a|b`", kind="folder", commit="c")
    known = {
        "status": "finished",
        "command": "wirecheck fit <b>a|b` x",
        "seed": 0,
        "a": model,
        "b": model,
        "wire": WireSpec(),
        "train": TrainSpec(),
        "environment": Environment(python="3", platform="p", packages=()),
        "gpus": (FrontierGpu(name="T4", usable_bytes=10**10, source="s"),),
        "ways": tuple(Way(name=way, words=fit.WORDS[way]) for way in dict.fromkeys(one.way for one in rows)),
        "rows": rows,
    }
    return Frontier.model_validate(known | more)


@pytest.mark.parametrize(
    ("found", "cell"),
    [
        ((7, 9), "7 to 9"),
        ((1200, 1200), "1,200"),
        ((0, 0), "none"),
        ((0, 6), "0 to 6"),
        ((65536, 65536, True), "≥ 65,536"),
        (None, "not traced"),
    ],
)
def test_a_cell(found, cell):
    one = row(batch=found, why=None if found else "no")
    assert view.View(frontier(one)).cell(one, "batch") == cell


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ((row(),), 0),
        ((row(), row(gpu="L4", batch=(0, 0), context=(0, 0))), 0),
        ((row(batch=(0, 4), context=(0, 0)),), 1),
        ((row(), row(gpu="L4", batch=None, why="no")), 3),
    ],
)
def test_the_exit_says_whether_there_is_an_answer(rows, code):
    assert view.exit_code(frontier(*rows)) == code


def test_the_sentence_sorts_the_gpus():
    rows = (
        row("T4", batch=(0, 0), context=(0, 0)),
        row("L4", batch=(3, 3)),
        row("A6000", batch=(3, 3)),
        row("A6000", "checkpointing", batch=(9, 9)),
        row("H200", batch=(99, 99)),
        row("A40", batch=None, why="no"),
    )
    said = view.View(frontier(*rows)).sentence
    assert "batch 8 fits as asked on H200; with other options on A6000; a smaller batch on L4" in said
    assert "nothing is shown to fit on T4; not traced on A40." in said


def test_a_row_says_why_it_has_no_answer():
    with pytest.raises(ValueError, match="no answer and no reason"):
        row(batch=None)


def test_names_from_strangers_stay_text_on_the_page():
    found = frontier(row(), row("L4", batch=None, why="<script>x</script>"))
    page = view.render_html(found)
    assert "<b>" not in page
    assert "<script>" not in page
    rows = [line for line in view.render(found).splitlines() if line.startswith("| T4 |")][:3]
    span = "1.0 to 2.00 GB (1.86 GiB)"
    assert rows == ["| T4 | 7 to 9 |", "| T4 | 64 |", f"| T4 | as asked | 7 | {span} | 64 | {span} | surface |"]


def test_the_chart_is_to_the_scale_of_the_largest():
    bars = view.View(frontier(row(batch=(4, 4)), row("L4", batch=(8, 8)), row("A40", batch=(0, 0)))).bars("batch")
    assert [len(bar.drawn) for bar in bars] == [12, 24, 0]
