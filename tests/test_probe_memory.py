"""The memory probe: an estimate always, a block only on what no schedule can do without."""

from __future__ import annotations

import pytest

from tests.benches import config_folder, model_bench, pair_bench, run, run_short
from tests.factories import needs_assets, seed_snapshot
from wirecheck.errors import CannotRun
from wirecheck.probes.config import CONFIG
from wirecheck.probes.memory import MEMORY_FORMULA as MEMORY
from wirecheck.probes.memory import MEMORY_FORMULA_MODEL as MEMORY_MODEL
from wirecheck.schema import GpuRequest, Policy, TrainSpec, WireSpec
from wirecheck.vram.gpus import GPUS, find
from wirecheck.vram.placement import CONTEXT_BYTES, gigabytes

LLAMA_8B, QWEN_7B = "meta-llama__Llama-3.1-8B-Instruct", "Qwen__Qwen2.5-7B-Instruct"
TENSOR_BYTES = {
    "meta-llama__Llama-3.1-8B-Instruct": 16_060_522_496,
    "meta-llama__Llama-3.2-1B-Instruct": 2_471_628_800,
    "meta-llama__Llama-3.2-3B-Instruct": 6_425_499_648,
    "Qwen__Qwen2.5-7B-Instruct": 15_231_233_024,
    "Qwen__Qwen2.5-1.5B-Instruct": 3_087_428_608,
    "mistralai__Mistral-7B-Instruct-v0.3": 14_496_047_104,
}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """The folder of each seed model, laid out once."""
    place = tmp_path_factory.mktemp("seeds")
    return {name: seed_snapshot(name, place) for name in TENSOR_BYTES}


def of_pair(seeds, *gpus: str, a=LLAMA_8B, b=QWEN_7B, ask=run, **train):
    policy = Policy(gpus=tuple(GpuRequest(name=name) for name in gpus))
    benches = [
        model_bench(seeds[name], side=side, policy=policy, train=TrainSpec(**train))
        for side, name in zip("ab", (a, b), strict=True)
    ]
    facts = [fact for bench in benches for fact in run(CONFIG, bench).facts.values()]
    return ask(MEMORY, pair_bench(*benches, facts=facts))


@needs_assets
@pytest.mark.parametrize("name", sorted(TENSOR_BYTES))
def test_weights_are_the_tensor_bytes_of_the_seed_models(seeds, name):
    output = run(MEMORY_MODEL, model_bench(seeds[name]))
    parts = {part.name: part.bytes for part in output.estimates[0].parts}
    assert parts["weights a"] == TENSOR_BYTES[name]
    assert output.fired == {"MEM03"}


@needs_assets
def test_mem03_states_the_peak_and_the_largest_parts(seeds):
    output = of_pair(seeds)
    (made,) = output.estimates
    claim = output.claim("MEM03")
    assert output.severity("MEM03") == "note"
    assert gigabytes(made.allocated_bytes) in claim
    assert "weights a 16.1 GB (15.0 GiB), weights b 15.2 GB (14.2 GiB)" in claim
    assert made.fits == ()
    assert {finding.code for finding in output.findings} == {"MEM03"}


@needs_assets
def test_mem01_fires_where_the_weights_alone_are_too_large(seeds):
    output = of_pair(seeds, "RTX-4090")
    assert output.severity("MEM01") == "block"
    assert output.estimates[0].fits[0].outcome == "does-not-fit"
    assert output.estimates[0].fits[0].free_bytes < 0
    assert "one model at a time" in output.of("MEM01")[0].remedy


@needs_assets
def test_mem01_silent_where_the_estimate_with_its_margin_fits(seeds):
    output = of_pair(seeds, "H200")
    assert output.severity("MEM01") == "ok"
    assert output.of("MEM02") == []
    fit = output.estimates[0].fits[0]
    assert (fit.gpu, fit.count, fit.outcome) == ("H200", 1, "fits")
    assert fit.free_bytes == find("H200").usable_bytes - output.estimates[0].allocated_bytes


@needs_assets
def test_mem01_asks_every_gpu_of_the_policy(seeds):
    output = of_pair(seeds, "H200", "T4")
    assert [fit.outcome for fit in output.estimates[0].fits] == ["fits", "does-not-fit"]
    assert [finding.severity.value for finding in output.of("MEM01")] == ["ok", "block"]


@needs_assets
def test_mem02_fires_where_only_the_formula_says_no(seeds):
    output, why = of_pair(seeds, "H200", "A100-40GB", batch=8, context=448, ask=run_short)
    assert why.startswith("the step is not shown to fit on A100-40GB x1: by the formula it peaks at ")
    assert output.severity("MEM01") == "ok"
    assert output.severity("MEM02") == "warn"
    assert "By formula alone the step does not fit" in output.claim("MEM02")
    assert [fit.outcome for fit in output.estimates[0].fits] == ["fits", "does-not-fit"]


@needs_assets
def test_mem02_fires_inside_the_error(seeds):
    train = {"batch": 8, "context": 64}
    need = of_pair(seeds, **train).estimates[0].allocated_bytes
    near = next(gpu for gpu in GPUS if abs(gpu.usable_bytes - need) < 0.1 * need)
    output, why = of_pair(seeds, near.name, **train, ask=run_short)
    assert f"not shown to fit on {near.name} x1" in why
    assert output.severity("MEM02") == "warn"
    assert output.estimates[0].fits[0].outcome == "uncertain"


@needs_assets
def test_mem02_silent_where_there_is_room(seeds):
    assert of_pair(seeds, "H200").of("MEM02") == []


@needs_assets
def test_several_gpus_hold_one_model_each(seeds):
    policy = Policy(gpus=(GpuRequest(name="A100-40GB", count=2),))
    a, b = (model_bench(seeds[name], side=side, policy=policy) for side, name in (("a", LLAMA_8B), ("b", QWEN_7B)))
    output = run(MEMORY, pair_bench(a, b))
    assert "one model per GPU" in output.claim("MEM01")
    assert output.severity("MEM01") == "ok"
    assert output.estimates[0].fits[0].count == 2


def test_mem04_fires_where_even_the_formula_lacks_a_size(tmp_path):
    sound = model_bench(config_folder(tmp_path / "a"))
    lacking = model_bench(config_folder(tmp_path / "b", without=("num_attention_heads",)), side="b")
    output = run(MEMORY, pair_bench(sound, lacking))
    assert output.severity("MEM04") == "warn"
    assert "num_heads of model b" in output.claim("MEM04")
    assert output.estimates == ()


def test_mem04_silent_where_every_size_is_known(tmp_path):
    assert run(MEMORY_MODEL, model_bench(config_folder(tmp_path))).of("MEM04") == []


def test_no_block_rests_on_weights_that_were_not_read(tmp_path):
    huge = {"hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64, "intermediate_size": 28672}
    folder = config_folder(tmp_path, **huge, vocab_size=128_256, head_dim=128)
    output, why = run_short(MEMORY_MODEL, model_bench(folder, policy=Policy(gpus=(GpuRequest(name="T4"),))))
    assert "not shown to fit on T4 x1" in why
    assert "(of model a, no weight file was read, so" in output.claim("MEM02")
    assert "(of model a, no weight file was read, so" in output.claim("MEM03")
    assert output.of("MEM01") == []
    assert output.severity("MEM02") == "warn"
    assert any("no weight file was read" in words for words in output.estimates[0].assumptions)


def test_an_unknown_wire_is_a_reason_to_skip(tmp_path):
    with pytest.raises(CannotRun, match="mine"):
        run(MEMORY_MODEL, model_bench(config_folder(tmp_path), wire=WireSpec(name="mine")))


def test_an_unreadable_config_is_a_reason_to_skip(tmp_path):
    with pytest.raises(CannotRun, match="not JSON"):
        run(MEMORY_MODEL, model_bench(config_folder(tmp_path, "{")))


def test_checkpointing_is_said_and_lowers_the_peak(tmp_path):
    folder = config_folder(tmp_path)
    plain, milder = (
        run(MEMORY_MODEL, model_bench(folder, train=TrainSpec(grad_checkpointing=value))) for value in (False, True)
    )
    assert milder.estimates[0].allocated_bytes < plain.estimates[0].allocated_bytes
    assert "gradient checkpointing" in milder.of("MEM03")[0].evidence[0].source


def test_amounts_are_given_in_both_units():
    assert gigabytes(16_060_522_496) == "16.1 GB (15.0 GiB)"
    assert CONTEXT_BYTES < 10**9


def test_an_own_wire_is_left_out_of_the_estimate_and_never_said_to_fit(tmp_path):
    policy = Policy(gpus=(GpuRequest(name="h200"),))
    bench = model_bench(config_folder(tmp_path), wire=WireSpec(name="mine:factory"), policy=policy)
    output, reason = run_short(MEMORY_MODEL, bench)
    assert "without what your own wire trains and keeps" in output.claim("MEM03")
    assert [fit.outcome for fit in output.estimates[0].fits] == ["uncertain"]
    assert "not shown to fit on" in reason
    assert not {"encoder and adapters", "optimizer states"} & {part.name for part in output.estimates[0].parts}


def test_losses_over_k_tokens_keep_a_graph_for_each_of_their_forwards(tmp_path):
    folder = config_folder(tmp_path)
    wires = (WireSpec(), WireSpec(losses=("answer", "first-k", "kd"), first_k=3))
    plain, many = (run(MEMORY_MODEL, model_bench(folder, wire=wire)).estimates[0] for wire in wires)
    kept = [{part.name: part.bytes for part in made.parts}["layer activations a"] for made in (plain, many)]
    assert kept[1] == 7 * kept[0]
    assert any("7 forwards of each model" in words for words in many.assumptions)
