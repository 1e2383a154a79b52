"""The memory probe on the trace: what it takes and where it fits; MEM04 and the formula where it cannot be traced."""

from __future__ import annotations

import pytest

from tests.benches import model_bench, pair_bench, run
from tests.factories import needs_assets, seed_snapshot
from wirecheck.demo import demo_folders
from wirecheck.errors import CannotRun
from wirecheck.probes.config import CONFIG
from wirecheck.probes.memory import MEMORY_FORMULA
from wirecheck.probes.memory_trace import MEMORY, MEMORY_MODEL
from wirecheck.schema import GpuRequest, Level, Policy, TrainSpec, WireSpec
from wirecheck.vram import plan
from wirecheck.vram.gpus import find

LLAMA, QWEN = "meta-llama__Llama-3.2-1B-Instruct", "Qwen__Qwen2.5-1.5B-Instruct"


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    place = tmp_path_factory.mktemp("seeds")
    return {name: seed_snapshot(name, place) for name in (LLAMA, QWEN)}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    place = tmp_path_factory.mktemp("large")
    names = {LLAMA: "meta-llama__Llama-3.1-8B-Instruct", QWEN: "Qwen__Qwen2.5-7B-Instruct"}
    return {name: seed_snapshot(real, place) for name, real in names.items()}


def benches(seeds, *gpus: GpuRequest, **train):
    policy = Policy(gpus=gpus)
    made = [
        model_bench(seeds[name], side=side, policy=policy, train=TrainSpec(**train))
        for side, name in (("a", LLAMA), ("b", QWEN))
    ]
    facts = [fact for bench in made for fact in run(CONFIG, bench).facts.values()]
    return pair_bench(*made, facts=facts)


@needs_assets
def test_mem03_is_traced_and_its_parts_make_the_whole(seeds):
    output = run(MEMORY, benches(seeds, batch=2))
    (made,) = output.estimates
    assert (made.method, made.level) == ("trace", Level.SIMULATED)
    assert output.fired == {"MEM03"}
    parts = {part.name: part.bytes for part in made.parts}
    assert parts["weights a"] >= 2_471_628_800
    assert parts["weights b"] >= 3_087_428_608
    assert made.allocated_bytes <= made.reserved_bytes <= made.process_bytes


@needs_assets
def test_mem01_fits_and_does_not(seeds):
    small, large = GpuRequest(name="T4"), GpuRequest(name="H100-80GB")
    output = run(MEMORY, benches(seeds, small, large, batch=16, answer=512))
    assert [fit.outcome for fit in output.estimates[0].fits] == ["does-not-fit", "fits"]
    assert {f.severity for f in output.findings if f.code == "MEM01"} == {"block", "ok"}
    blocked = next(f for f in output.findings if f.severity == "block")
    assert blocked.level is Level.SIMULATED
    assert blocked.remedy.startswith("Traced, it fits on")


@needs_assets
def test_two_gpus_hold_one_model_each(seeds):
    one, two = GpuRequest(name="T4"), GpuRequest(name="T4", count=2)
    output = run(MEMORY, benches(seeds, one, two, batch=2))
    first, second = output.estimates[0].fits
    assert second.free_bytes > first.free_bytes
    assert "the step fits on 2 x T4, one model per GPU: GPU 0 " in output.findings[-1].claim
    assert " GB, of 15.6 GB (14.6 GiB) each." in output.findings[-1].claim


@needs_assets
def test_models_are_split_where_one_gpu_does_not_hold_one(large):
    output = run(MEMORY, benches(large, GpuRequest(name="L4", count=3)))
    (fit,) = output.estimates[0].fits
    assert (fit.outcome, fit.free_bytes > 0) == ("fits", True)
    claim = output.claim("MEM01")
    assert 'the step fits on 3 x L4, each model split over 3 by device_map="auto": GPU 0 ' in claim
    assert all(f"GPU {n} " in claim for n in range(3))
    assert any("accelerate's hooks" in sentence for sentence in output.estimates[0].assumptions)


@needs_assets
def test_mem01_names_every_placement_that_was_tried(large):
    output = run(MEMORY, benches(large, GpuRequest(name="T4", count=2)))
    assert output.severity("MEM01") == "block"
    claim, (finding,) = output.claim("MEM01"), output.of("MEM01")
    assert "does not fit on 2 x T4: one model per GPU: GPU 0 " in claim
    assert 'each model split over 2 by device_map="auto": the step takes ' in claim
    packed = "Traced, it fits on 2 x T4, one model per GPU with --quantize nf4 with --grad-checkpointing, or on "
    assert finding.remedy.startswith(f"{packed}4 x T4, each model split over 4 by a device_map with ")


@needs_assets
def test_one_model_over_two_gpus(large):
    request = GpuRequest(name="L4", count=2)
    bench = model_bench(large[LLAMA], policy=Policy(gpus=(request,)), train=TrainSpec())
    output = run(MEMORY_MODEL, bench)
    assert [fit.outcome for fit in output.estimates[0].fits] == ["fits"]
    assert 'fits on 2 x L4, the model split over 2 by device_map="auto": GPU 0 ' in output.claim("MEM01")


def test_mem02_within_the_error_leaves_a_gap(monkeypatch):
    need = plan.Need(10, 10, 10, find("T4").usable_bytes - 1, find("T4").usable_bytes + 1, ran_out=False)
    monkeypatch.setattr(plan, "need_of", lambda _traced, _gpu: need)
    small = dict(zip((LLAMA, QWEN), demo_folders(), strict=True))  # the need is given, whatever the models
    bench = benches(small, GpuRequest(name="T4"), batch=1, answer=8, context=8)
    found = []
    with pytest.raises(CannotRun, match="within the error of the trace"):  # noqa: PT012
        for item in MEMORY.run(bench):
            found.append(item)  # noqa: PERF402  # what came before the error is kept
    assert "MEM02" in {getattr(item, "code", None) for item in found}


@needs_assets
def test_mem04_where_the_step_cannot_be_traced(seeds, monkeypatch):
    from wirecheck.vram import step

    def refuse(*_args, **_given):
        raise step.CannotTrace("the step reads a tensor's values (aten::_local_scalar_dense)")

    monkeypatch.setattr(step, "trace_step", refuse)
    output = run(MEMORY, benches(seeds))
    assert output.fired == {"MEM04"}
    assert "_local_scalar_dense" in output.claim("MEM04")
    assert output.estimates[0].method == "formula"
    asked = benches(seeds, GpuRequest(name="H100-80GB"))
    with pytest.raises(CannotRun, match="not shown to fit on H100-80GB"):
        list(MEMORY.run(asked))


@needs_assets
def test_one_model_alone(seeds):
    output = run(MEMORY_MODEL, model_bench(seeds[LLAMA]))
    assert output.fired == {"MEM03"}
    assert "weights b" not in {part.name for part in output.estimates[0].parts}


@pytest.mark.parametrize(
    ("wire", "depth", "traced"),
    [
        ("bytes", Level.SIMULATED, True),
        ("resampler", Level.EXECUTED, True),
        ("bytes", Level.INSPECTED, False),
        ("sentence-query", Level.EXECUTED, False),
        ("my.module:wire", Level.EXECUTED, False),
    ],
)
def test_one_of_the_two_probes_is_asked(wire, depth, traced):
    spec, policy = WireSpec(name=wire), Policy(depth=depth)
    assert (MEMORY.asked(spec, policy), MEMORY_FORMULA.asked(spec, policy)) == (traced, not traced)
