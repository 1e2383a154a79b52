"""The rule that judges pairs without running anything: it says what the probes say."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.matrices import REQUEST, ran, survey
from wirecheck import matrix as module
from wirecheck.gate_shelf import Shelf
from wirecheck.matrix import Survey, tiles
from wirecheck.matrix_rule import Rule, Unknown
from wirecheck.matrix_shelf import MatrixShelf
from wirecheck.matrix_work import ModelWork, ProbedModel, cell_of
from wirecheck.runner import check
from wirecheck.schema import Crashed, GpuRequest, Level, ProbeError
from wirecheck.snapshot import parse_ref, take
from wirecheck.store import Store


@pytest.fixture
def place(four_models: Path) -> Path:
    return four_models


# --- the rule, which runs nothing ----------------------------------------------------------------------------------

GPUS = tuple(GpuRequest(name=name, count=count) for name, count in (("T4", 1), ("A100-40GB", 2), ("H100", 1)))
DIFFERENT = {
    "plain": {},
    "gpus": {"policy": {"gpus": GPUS}},
    "strict": {"policy": {"gpus": GPUS[:1], "strict": True}, "train": {"batch": 4096}},
    "one after the other": {
        "policy": {"gpus": GPUS[:2]},
        "train": {"resident": "sequential", "grad_checkpointing": True, "batch": 512},
    },
    "a width that heads do not divide": {"wire": {"latent_width": 12}},
    "resampler": {"wire": {"name": "resampler", "private_length": 1}},
    "two losses": {"wire": {"losses": ("answer", "first-k")}},
    "quantized": {"train": {"quantize": "nf4"}},
    "required": {"policy": {"required": Level.SIMULATED}},
    "declared": {"policy": {"required": Level.DECLARED, "depth": Level.DECLARED}},
    "own": {"wire": {"name": "nowhere.at_all:wire"}},
}


def broken(place: Path) -> tuple[str, ...]:
    """The models of `place`, and some of which not everything can be asked."""
    for name, source in (("torn", "one"), ("mute", "two"), ("sizeless", "one"), ("long", "two")):
        shutil.copytree(place / source, place / name)
    (place / "torn" / "config.json").write_text("{")
    for path in (place / "mute").glob("tokenizer*"):
        path.unlink()
    config = json.loads((place / "sizeless" / "config.json").read_text())
    (place / "sizeless" / "config.json").write_text(json.dumps(config | {"num_attention_heads": None}))
    config = json.loads((place / "long" / "config.json").read_text())
    (place / "long" / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 7}))
    return ("one", "torn", "two", "mute", "sizeless", "long")


@pytest.mark.parametrize("asked", DIFFERENT, ids=str)
def test_the_rule_says_what_the_probes_say(place, asked):
    changes = DIFFERENT[asked]
    parts = {
        part: getattr(REQUEST, part).model_copy(update=changes.get(part, {})) for part in ("wire", "train", "policy")
    }
    request = replace(REQUEST, **parts)
    names = broken(place)
    made = survey(place, names, request)
    made.run()
    ruled = {pair: cell for pair in made.pairs if (cell := made._ruled(pair)) is not None}
    assert made.rule.covers
    assert len(ruled) >= 10
    work = made._pair_work(set(names))
    list(made._run_tiles(work, tiles(list(ruled))))
    for pair, cell in ruled.items():
        assert cell == made.run_cells[pair].model_copy(update={"seconds": 0.0}), pair


def test_the_rule_says_what_a_check_alone_says_of_models_that_break(place):
    names = broken(place)
    made = survey(place, names)
    made.run()
    for pair in ("torn mute", "mute torn", "one mute", "mute long", "sizeless mute", "long one"):
        a, b = pair.split()
        alone = check(*(take(parse_ref(str(place / name))) for name in (a, b)), REQUEST)
        assert made._ruled((a, b)) == cell_of((a, b), alone, 0.0), (a, b)


def test_what_the_rule_does_not_cover_is_run(place, monkeypatch):
    made, found = ran(place, ("one", "two"))
    assert made.run_cells == {}
    lone = made.sketches["one"].model_copy(update={"lengths": None})
    with pytest.raises(Unknown):
        made.rule.cell(("x", lone), ("two", made.sketches["two"]))
    monkeypatch.setattr(module, "shared", lambda a, b: (_ for _ in ()).throw(LookupError))
    again, second = ran(place, ("one", "two"), shelf=Shelf(Store(place / "other.sqlite")))
    assert list(again.run_cells) == [("one", "two")]
    assert [cell.model_copy(update={"seconds": 0.0}) for cell in second.cells] == list(found.cells)


def test_a_wire_of_ones_own_leaves_nothing_in_the_store(place):
    request = replace(REQUEST, wire=REQUEST.wire.model_copy(update={"name": "nowhere.at_all:wire"}))
    made, found = ran(place, ("one", "two", "three"), request)
    assert len(found.cells) == 3
    assert made.shelf.store.held() == ()


def test_a_store_that_takes_nothing_costs_nothing_but_time(place):
    store = Store(Path("/dev/null/answers.sqlite"))
    _, found = ran(place, shelf=Shelf(store))
    assert [cell.outcome for cell in found.cells] == ["compatible"] * 6


def test_a_model_that_changes_while_its_pairs_wait(place, monkeypatch):
    before = Survey._compare_vocabularies

    def meddled(self: Survey) -> None:
        before(self)
        path = place / "two" / "tokenizer_config.json"
        path.write_text(path.read_text() + " ")

    monkeypatch.setattr(Survey, "_compare_vocabularies", meddled)
    made, _ = ran(place, ("one", "two", "three"))
    work = made._pair_work({"one", "two"})
    assert list(work.snapshots) == ["one"]
    assert "changed" in made.models["two"].why


def crashing(before):
    """The probes of a model, as if the last of them had crashed."""

    def call(self: ModelWork, key: str) -> str:
        found = ProbedModel.model_validate_json(before(self, key))
        last = found.runs[-1]
        error = ProbeError(type="MemoryError", message="no", traceback="")
        kept = {name: getattr(last, name) for name in ("probe", "subject", "level", "seconds")}
        runs = (*found.runs[:-1], Crashed(error=error, **kept))
        return found.model_copy(update={"runs": runs}).model_dump_json()

    return call


def test_a_cell_that_rests_on_a_crash_is_not_kept(place, monkeypatch):
    monkeypatch.setattr(Rule, "covers", False)
    whole = ModelWork.__call__
    monkeypatch.setattr(ModelWork, "__call__", crashing(whole))
    made, _ = ran(place, ("one", "two"))
    assert made.kept.passing == {"one", "two"}
    assert [one.kind for one in made.shelf.store.held()] == ["vocabulary"]
    monkeypatch.setattr(ModelWork, "__call__", whole)
    _, again = ran(place, ("one", "two"))
    assert [cell.kept for cell in again.cells] == [False]
    _, third = ran(place, ("one", "two"))
    assert [cell.kept for cell in third.cells] == [True]


def test_a_model_that_changes_while_it_is_probed_is_lost_and_not_kept(place, monkeypatch):
    whole = ModelWork.__call__

    def meddling(self: ModelWork, key: str) -> str:
        if self.snapshots[key].ref.name == "two":
            path = place / "two" / "tokenizer_config.json"
            path.write_text(path.read_text() + " ")
        return whole(self, key)

    monkeypatch.setattr(ModelWork, "__call__", meddling)
    monkeypatch.setattr(ModelWork, "runs_code_of_the_user", True)  # else the fence keeps it from the file
    made, found = ran(place, ("one", "two", "three"))
    assert "changed while" in made.models["two"].why
    assert [cell.outcome for cell in found.cells] == ["could-not-check", "compatible", "could-not-check"]
    assert {one.kind: one.count for one in made.shelf.store.held()}["model"] == 2


def test_what_ran_on_another_machines_device_is_not_kept(place):
    deep = replace(REQUEST, policy=REQUEST.policy.model_copy(update={"depth": Level.EXECUTED}))
    for request, is_elsewhere, kept in ((deep, True, False), (deep, False, True), (REQUEST, True, True)):
        held = MatrixShelf(Shelf(Store(place / f"{kept}{is_elsewhere}.sqlite")), request, is_elsewhere=is_elsewhere)
        assert held._may_take is kept
        held._put([("k", "x", "text")], keeps=held._may_take)
        assert held._text("k") == "text"
        assert (held.shelf.store.get("k") is not None) is kept
