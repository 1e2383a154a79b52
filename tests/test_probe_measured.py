"""The probes of the rung `measured`: their logic on the CPU, under a meter that says what it is told to say."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import rigs
from tests.benches import Output, model_bench, pair_bench
from wirecheck import devices
from wirecheck.devices import Peak
from wirecheck.errors import CannotRun
from wirecheck.probe import PairBench
from wirecheck.probe_run import run_one
from wirecheck.probes import measured, wiring
from wirecheck.probes.measured import EMBEDS_DEVICE, STEP_DEVICE
from wirecheck.schema import Fact, Finding, Level, Policy, TrainSpec, WireSpec
from wirecheck.wires import full_step

TRAIN = TrainSpec(dtype="float32", batch=4, answer=16)
GIB = 2**30


@dataclass
class ToldMeter:
    """Reads nothing: gives the peaks it was made with, and notes when it was reset."""

    allocated_bytes: int = GIB
    resets: list[int] = field(default_factory=list)
    name: str = "a GPU of the tests"

    def reset(self) -> None:
        self.resets.append(1)

    def peak(self) -> Peak:
        return Peak(self.allocated_bytes, 2 * self.allocated_bytes)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny Llama and the tiny Qwen2 on disk."""
    return rigs.saved_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def bench(folders: dict[str, Path]) -> PairBench:
    return benched(folders)


def benched(folders: dict[str, Path], train: TrainSpec = TRAIN, **policy: Any) -> PairBench:
    asked: dict[str, Any] = {"wire": rigs.SPEC, "train": train, "policy": Policy(**policy)}
    return pair_bench(model_bench(folders["a"], **asked), model_bench(folders["b"], side="b", **asked))


def step(bench: PairBench, meter: ToldMeter) -> list[Any]:
    ground = wiring.Ground(Level.MEASURED, "real weights", "one step")
    return list(measured.check_step(bench, wiring.wired(bench, ground), meter))


def formula(bench: PairBench) -> int:
    """The formula's figure for the step that runs, read from the evidence."""
    (finding,) = [f for f in step(bench, ToldMeter(1)) if isinstance(f, Finding)]
    (total,) = [e.observed for e in finding.evidence if "by formula" in e.source]
    return total


def only(yielded: list[Any]) -> Finding:
    (finding,) = [item for item in yielded if isinstance(item, Finding)]
    return finding


# --- where there is no GPU ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("probe", [EMBEDS_DEVICE, STEP_DEVICE], ids=lambda probe: probe.name)
def test_without_a_cuda_device_both_are_skipped(monkeypatch: pytest.MonkeyPatch, bench: PairBench, probe: Any) -> None:
    monkeypatch.setattr(devices, "available", lambda: ("cpu",))
    run = run_one(probe, bench if probe.scope == "pair" else bench.a)
    assert run.kind == "skipped"
    assert run.reason == "no CUDA device on this machine: run the same command on one that has it"
    assert (run.findings, run.facts) == ((), ())


@pytest.mark.parametrize("probe", [EMBEDS_DEVICE, STEP_DEVICE], ids=lambda probe: probe.name)
def test_another_device_asked_for_is_not_measured(folders: dict[str, Path], probe: Any) -> None:
    bench = benched(folders, device="cpu")
    run = run_one(probe, bench if probe.scope == "pair" else bench.a)
    assert run.kind == "skipped"
    assert "`--device cuda`" in run.reason


def test_a_wire_of_the_user_s_is_not_run_on_the_gpu(monkeypatch: pytest.MonkeyPatch, bench: PairBench) -> None:
    monkeypatch.setattr(measured, "CudaMeter", ToldMeter)
    bench.wire = WireSpec(name="package.module:factory")
    with pytest.raises(CannotRun, match="your own wire is not run on the GPU by wirecheck"):
        list(STEP_DEVICE.run(bench))


# --- embeddings --------------------------------------------------------------------------------------------------


def embeds(bench: PairBench) -> Output:
    findings = tuple(measured.check_embeds(bench.a, ToldMeter()))
    return Output(findings=findings, facts={}, estimates=())


def test_emb02_and_emb05_hold_with_both_attentions_at_odd_lengths(bench: PairBench) -> None:
    out = embeds(bench)
    assert {code: out.severity(code) for code in ("EMB02", "EMB05")} == {"EMB02": "ok", "EMB05": "ok"}
    sources = " ".join(e.source for f in out.findings for e in f.evidence)
    for words in ("sdpa attention, 7 positions", "eager attention, 11 positions", "float32 on a GPU of the tests"):
        assert words in sources
    assert {e.level for f in out.findings for e in f.evidence} == {Level.MEASURED}
    assert bench.a.weights.config._attn_implementation == "sdpa"


def test_emb02_fires_where_one_attention_treats_embeds_otherwise(bench: PairBench) -> None:
    model = bench.a.weights

    def shift(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if kwargs.get("inputs_embeds") is not None and model.config._attn_implementation == "eager":
            kwargs["inputs_embeds"] = kwargs["inputs_embeds"] * 1.5
        return args, kwargs

    model.register_forward_pre_hook(shift, with_kwargs=True)
    assert embeds(bench).severity("EMB02") == "block"


def test_emb05_fires_where_the_gradient_is_lost_at_odd_lengths(bench: PairBench) -> None:
    def cut(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        held = kwargs.get("inputs_embeds")
        if held is not None and held.shape[1] % 2 and held.requires_grad:
            kwargs["inputs_embeds"] = held * 0
        return args, kwargs

    bench.a.weights.register_forward_pre_hook(cut, with_kwargs=True)
    out = embeds(bench)
    assert (out.severity("EMB02"), out.severity("EMB05")) == ("ok", "block")


def test_an_attention_the_class_refuses_is_told_and_the_other_judged(bench: PairBench) -> None:
    refuse(bench.a.weights, "sdpa")
    out = embeds(bench)
    assert out.severity("EMB02") == "ok"
    assert any(e.observed == "refused: no sdpa here" for e in out.of("EMB02")[0].evidence)
    refuse(bench.a.weights, "sdpa", "eager")
    with pytest.raises(CannotRun, match="refused: no eager here"):
        embeds(bench)


def refuse(model: Any, *names: str) -> None:
    """From now on the model's class does not take those attentions; it runs with another."""
    instead = next(name for name in ("sdpa", "eager", "flex_attention") if name not in names)
    model.config._attn_implementation = instead

    def take(asked: str) -> None:
        if asked in names:
            raise ValueError(f"no {asked} here")
        model.config._attn_implementation = asked

    model.set_attn_implementation = take


# --- the step ----------------------------------------------------------------------------------------------------


def test_mem03_is_ok_where_the_formula_foretold_the_peak(bench: PairBench) -> None:
    meter = ToldMeter(formula(bench))
    yielded = step(bench, meter)
    finding = only(yielded)
    assert (finding.code, finding.severity.value, finding.level) == ("MEM03", "ok", Level.MEASURED)
    assert "On a GPU of the tests the step of 4 rows of" in finding.claim
    assert len(meter.resets) == 2  # sdpa, eager
    facts = {f.key: (f.value, f.level) for f in yielded if isinstance(f, Fact)}
    assert facts["allocated_bytes_sdpa"] == (meter.allocated_bytes, Level.MEASURED)
    assert facts["reserved_bytes_eager"] == (2 * meter.allocated_bytes, Level.MEASURED)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_mem03_warns_where_the_formula_is_off_by_more_than_its_margin(bench: PairBench, factor: float) -> None:
    finding = only(step(bench, ToldMeter(int(formula(bench) * factor))))
    assert (finding.code, finding.severity.value) == ("MEM03", "warn")
    assert finding.remedy.startswith("Go by the figure that was read")


def test_the_formula_is_asked_for_the_rows_and_positions_that_ran(folders: dict[str, Path]) -> None:
    small, large = (benched(folders, TRAIN.model_copy(update={"answer": n})) for n in (16, 64))
    assert "4 rows of 28 positions" in only(step(small, ToldMeter())).claim  # 4 soft tokens, BOS, `Answer:`, 16
    assert "4 rows of 76 positions" in only(step(large, ToldMeter())).claim
    assert formula(large) > 1.1 * formula(small)


def test_both_models_stay_on_the_device_when_one_runs_after_the_other(folders: dict[str, Path]) -> None:
    joint = formula(benched(folders))
    after = formula(benched(folders, TRAIN.model_copy(update={"resident": "sequential"})))
    weights = [sum(f.stat().st_size for f in folders[side].glob("*.safetensors")) for side in "ab"]
    assert max(weights) < after < joint
    assert joint - after < min(weights) + joint / 2


def test_the_step_leaves_models_frozen_and_clean(bench: PairBench) -> None:
    step(bench, ToldMeter())
    for one in (bench.a, bench.b):
        assert not any(p.requires_grad or p.grad is not None for p in one.weights.parameters())
        assert one.weights.config._attn_implementation == "sdpa"


def test_a_step_that_fails_on_the_device_is_wir01(bench: PairBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("expected all tensors on one device")

    monkeypatch.setattr(bench.b.weights, "forward", fail)
    finding = only(step(bench, ToldMeter()))
    assert (finding.code, finding.severity.value, finding.level) == ("WIR01", "block", Level.MEASURED)
    assert "expected all tensors on one device" in finding.evidence[0].observed


def test_out_of_memory_on_the_device_is_skipped_with_the_bytes(
    bench: PairBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = (
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB of which 1 GiB is free."
    )

    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError(told)

    monkeypatch.setattr(bench.a.weights, "forward", fail)
    with pytest.raises(CannotRun, match="2 GiB more were asked for, and 1 GiB were free on the GPU"):
        step(bench, ToldMeter())


def test_the_second_attention_may_fail_without_taking_the_first_with_it(bench: PairBench) -> None:
    refuse(bench.a.weights, "eager")
    finding = only(step(bench, ToldMeter()))
    assert finding.code == "MEM03"
    assert any(str(e.observed).startswith("not read: eager attention is refused") for e in finding.evidence)


def test_the_whole_batch_has_the_rows_asked_for_unevenly_long() -> None:
    batch = full_step.full_batch(WireSpec(max_bytes=512), TrainSpec(batch=5, answer=64))
    assert len(batch.sources) == len(batch.answers) == 5
    assert min(len(source.encode()) for source in batch.sources) >= 512
    words = [len(answer.split()) for answer in batch.answers]
    assert max(words) >= 64
    assert len(set(words)) == 3
    assert len(set(batch.sources)) == 5
