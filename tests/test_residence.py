"""The step on real weights runs one model after the other where both graphs together would not fit, and says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import rigs
from tests.benches import model_bench, pair_bench
from wirecheck import devices
from wirecheck.errors import CannotRun
from wirecheck.probe import PairBench
from wirecheck.probe_run import run_one
from wirecheck.probes import wiring
from wirecheck.probes.residence import affordable
from wirecheck.probes.wire import WIRE_WEIGHTS
from wirecheck.schema import TrainSpec, WireSpec

MIB = 2**20


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny Llama and the tiny Qwen2 on disk."""
    return rigs.saved_pair(tmp_path_factory.mktemp("pair"))


def benched(folders: dict[str, Path], wire: WireSpec = rigs.SPEC, resident: str = "joint") -> PairBench:
    asked: dict[str, Any] = {"wire": wire, "train": TrainSpec(dtype="float32", resident=resident)}
    return pair_bench(model_bench(folders["a"], **asked), model_bench(folders["b"], side="b", **asked))


def free(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(devices, "free_bytes", lambda _device="cpu": count)


def between(bench: PairBench, monkeypatch: pytest.MonkeyPatch) -> int:
    """A number of free bytes that the sequential step fits into and the joint one does not."""
    for count in range(MIB, 200 * MIB, MIB // 8):
        free(monkeypatch, count)
        try:
            if affordable(bench).train.resident == "sequential":
                return count
        except CannotRun:
            continue
    raise AssertionError("the sequential schedule is never cheaper")


def test_the_schedule_asked_for_stays_where_there_is_room(folders: dict[str, Path]) -> None:
    for resident in ("joint", "sequential"):
        bench = benched(folders, resident=resident)
        assert affordable(bench) is bench


def test_too_little_for_the_joint_step_makes_it_sequential(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = benched(folders)
    free(monkeypatch, between(bench, monkeypatch))
    fitting = affordable(bench)
    assert (bench.train.resident, fitting.train.resident) == ("joint", "sequential")
    assert fitting.a.weights is bench.a.weights
    assert wiring.on_weights(fitting).source.startswith("sequential step on the real weights")


def test_too_little_for_either_is_skipped_with_the_bytes(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = benched(folders)
    assert bench.a.weights is not None
    assert bench.b.weights is not None
    free(monkeypatch, 4000)
    with pytest.raises(CannotRun, match=r"needs [\d.]+ MiB of memory beside them.*, and 4000 bytes are free"):
        affordable(bench)


def test_the_sizes_of_the_users_own_wire_are_not_guessed(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = benched(folders, wire=WireSpec(name="package.module:factory"))
    free(monkeypatch, 10**6)
    assert affordable(bench) is bench


def test_the_executed_probe_runs_the_cheaper_schedule_and_says_so(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = benched(folders)
    free(monkeypatch, between(bench, monkeypatch))
    run = run_one(WIRE_WEIGHTS, bench)
    assert run.kind == "ran"
    sources = {e.source for f in run.findings for e in f.evidence}
    assert any(source.startswith("sequential step on the real weights") for source in sources)
    assert not any(source.startswith("joint step") for source in sources)
