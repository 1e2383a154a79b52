"""The memory formula against traced peaks and against tensors really saved; the catalogue of GPUs."""

from __future__ import annotations

import pytest
import torch

from wirecheck.errors import UsageError
from wirecheck.safetensors_header import TensorEntry
from wirecheck.schema import GpuRequest, TrainSpec, WireSpec
from wirecheck.vram.formula import (
    KNOWN_MARGIN,
    UNKNOWN_MARGIN,
    MemoryShape,
    estimate,
    layer_bytes,
    loss_bytes,
    lower_bound_bytes,
    wire_activation_bytes,
)
from wirecheck.vram.gpus import GIB, GPUS, find, parse_gpu
from wirecheck.vram.shape import read_shape, weight_bytes

SIZES = ("hidden_size", "num_layers", "num_heads", "num_kv_heads", "head_dim", "intermediate_size", "vocab_size")


def shape(model_type, weights, *sizes, side="a", **more) -> MemoryShape:
    return MemoryShape(
        side=side, model_type=model_type, weight_bytes=weights, **dict(zip(SIZES, sizes, strict=True)), **more
    )


LLAMA_8B = shape("llama", 16_060_522_496, 4096, 32, 32, 8, 128, 14336, 128_256)
TRACED = {
    "Llama-3.1-8B": (LLAMA_8B, 38.92, 22.90),
    "Qwen2.5-7B": (shape("qwen2", 15_231_233_024, 3584, 28, 28, 4, 128, 18944, 152_064), 39.36, 23.15),
    "Mistral-7B": (shape("mistral", 14_496_047_104, 4096, 32, 32, 8, 128, 14336, 32_768), 32.31, 16.29),
    "Gemma-2-9B": (
        shape("gemma2", 18_483_411_968, 3584, 42, 16, 8, 256, 14336, 256_000, capped_logits=True),
        70.33,
        34.08,
    ),
    "Gemma-3-12B": (shape("gemma3_text", 23_531_576_832, 3840, 48, 16, 8, 256, 15360, 262_208), 73.17, 37.41),
    "Mixtral-8x7B": (
        shape("mixtral", 93_405_585_408, 4096, 32, 32, 8, 128, 14336, 32_000, experts_per_token=2, expert_size=14336),
        118.3,
        89.8,
    ),
    "Qwen3-30B-A3B": (
        shape("qwen3_moe", 61_064_245_248, 2048, 48, 32, 4, 128, 6144, 151_936, experts_per_token=8, expert_size=768),
        87.7,
        65.8,
    ),
}
"""Model -> shape, traced peak in GiB without and with checkpointing: batch 8, 512 positions, bfloat16, no wire."""
BARE_WIRE = WireSpec(latent_length=1, latent_width=1, max_bytes=1)


def step(**changed) -> TrainSpec:
    """8 rows of 512 positions with `BARE_WIRE`."""
    return TrainSpec(**{"batch": 8, "context": 255, "answer": 256} | changed)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("name", sorted(TRACED))
def test_peaks_are_within_six_per_mille_of_the_traces(name, checkpointing):
    model, plain, checkpointed = TRACED[name]
    made = estimate(model, None, BARE_WIRE, step(grad_checkpointing=checkpointing), 0)
    assert made.allocated_bytes / GIB == pytest.approx(checkpointed if checkpointing else plain, rel=0.006)


def test_a_layer_of_llama_keeps_what_was_traced():
    assert layer_bytes(LLAMA_8B, 8, 512, "bfloat16") / 2**20 == 544.5


def test_logits_and_their_copies_are_those_traced():
    assert loss_bytes(LLAMA_8B, 8, 512, "bfloat16", float32_copies=0) / GIB == pytest.approx(0.98, abs=0.005)
    assert loss_bytes(LLAMA_8B, 8, 512, "bfloat16") / GIB == pytest.approx(0.98 + 3 * 1.96, abs=0.02)


def other(model: MemoryShape) -> MemoryShape:
    """The same model on the other side."""
    fields = {name: getattr(model, name) for name in model.__dataclass_fields__}
    return MemoryShape(**fields | {"side": "b"})


def test_parts_name_what_they_are_and_make_the_total():
    made = estimate(LLAMA_8B, other(TRACED["Qwen2.5-7B"][0]), WireSpec(), TrainSpec(), 1000)
    parts = {part.name: part.bytes for part in made.parts}
    assert parts["weights a"] == LLAMA_8B.weight_bytes
    assert (parts["encoder and adapters"], parts["gradients"], parts["optimizer states"]) == (4000, 4000, 8000)
    assert made.allocated_bytes == sum(parts.values())
    assert made.method == "formula"


def test_plain_descent_keeps_no_states():
    made = estimate(LLAMA_8B, None, WireSpec(), TrainSpec(optimizer="sgd"), 1000)
    assert "optimizer states" not in {part.name for part in made.parts}


def test_together_costs_the_sum_and_one_at_a_time_the_larger():
    a, b = TRACED["Mistral-7B"][0], other(TRACED["Qwen2.5-7B"][0])
    alone = [estimate(model, None, BARE_WIRE, step(), 0).allocated_bytes for model in (a, b)]
    joint = estimate(a, b, BARE_WIRE, step(), 0).allocated_bytes
    sequential = estimate(a, b, BARE_WIRE, step(resident="sequential"), 0)
    assert max(alone) < joint <= sum(alone)
    assert sequential.allocated_bytes == pytest.approx(max(alone), rel=1e-4)
    assert "weights a" not in {part.name for part in sequential.parts}
    assert any("one model is on the gpu at a time" in words.lower() for words in sequential.assumptions)


def test_the_worst_moment_may_be_the_first_models_loss():
    large = shape("llama", 10**9, 64, 1, 2, 2, 32, 64, 200_000)
    small = shape("llama", 10**9, 64, 1, 2, 2, 32, 64, 10, side="b")
    parts = {part.name: part.bytes for part in estimate(large, small, BARE_WIRE, step(), 0).parts}
    assert parts["logits and loss a"] == loss_bytes(large, 8, 512, "bfloat16")


def test_margin_is_wider_where_the_layers_were_never_traced():
    known = estimate(LLAMA_8B, None, WireSpec(), TrainSpec(), 0)
    unknown = estimate(shape("nemotron_h", 1, 64, 2, 2, 2, 32, 64, 100), None, WireSpec(), TrainSpec(), 0)
    assert (known.margin, unknown.margin) == (KNOWN_MARGIN, UNKNOWN_MARGIN)
    assert any("nemotron_h" in words for words in unknown.assumptions)
    assert all(words.endswith(".") for words in (*known.assumptions, *unknown.assumptions))


def test_the_floor_is_weights_and_trainables():
    b = other(LLAMA_8B)
    assert lower_bound_bytes(LLAMA_8B, b, TrainSpec(), 100) == 2 * LLAMA_8B.weight_bytes + 1600
    assert lower_bound_bytes(LLAMA_8B, b, TrainSpec(resident="sequential"), 100) == LLAMA_8B.weight_bytes + 1600


# --- what the wire keeps, against the real modules ------------------------------------------------------------------


def saved_bytes(module, *inputs) -> tuple[int, torch.Tensor]:
    """Bytes of the distinct storages autograd keeps, parameters aside, and the output."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = module(*inputs)
    own = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    return sum(t.untyped_storage().nbytes() for place, t in kept.items() if place not in own), output


def test_what_encoder_and_adapter_keep_is_what_they_really_save():
    from wirecheck.wires.adapter import TableStatistics
    from wirecheck.wires.bytes_encoder import BytesEncoder, read_bytes
    from wirecheck.wires.initial import initialise
    from wirecheck.wires.text_wire import adapter_of

    spec = WireSpec()
    source = read_bytes(["x" * spec.max_bytes] * 2, spec.max_bytes)
    encoder = BytesEncoder(spec.latent_width, spec.latent_length, spec.max_bytes)
    initialise(encoder, 0)
    encoder_bytes, z = saved_bytes(encoder, *source)
    table = TableStatistics(torch.zeros(2048), torch.ones(2048), torch.tensor(1.0))
    adapter = adapter_of(spec, table)
    initialise(adapter, 0)
    adapter_bytes, _ = saved_bytes(adapter, z.detach().requires_grad_(), source.lengths_B / spec.max_bytes)
    model = shape("llama", 1, 2048, 1, 1, 1, 1, 1, 1)
    assert wire_activation_bytes([], spec, 2) == pytest.approx(encoder_bytes, rel=0.03)
    assert wire_activation_bytes([model], spec, 2) - wire_activation_bytes([], spec, 2) == pytest.approx(
        adapter_bytes, rel=0.03
    )


# --- from files to shapes -------------------------------------------------------------------------------------------


def entry(name, dtype, *sizes, width=2) -> TensorEntry:
    count = 1
    for size in sizes:
        count *= size
    return TensorEntry(name, dtype, sizes, 0, count * width)


def test_weights_are_counted_in_the_runs_dtype_and_packed_ones_as_on_file():
    tensors = {
        "w": entry("w", "F32", 10, 10, width=4),
        "q": entry("q", "I32", 10, width=4),
        "k": entry("k", "Q4_K", 256, width=1),
    }
    assert weight_bytes(tensors, "bfloat16", tied=False) == 200 + 40 + 512
    assert weight_bytes(tensors, "float32", tied=False) == 400 + 40 + 1024


def test_a_tied_table_is_counted_once():
    tensors = {name: entry(name, "BF16", 100, 4) for name in ("model.embed_tokens.weight", "lm_head.weight")}
    assert weight_bytes(tensors, "bfloat16", tied=True) == 800
    assert weight_bytes(tensors, "bfloat16", tied=False) == 1600


CONFIG = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128_256,
    "tie_word_embeddings": False,
}


def test_weights_counted_from_sizes_come_near_the_file():
    made = read_shape("a", CONFIG, {}, lambda key: None, "bfloat16")
    assert made.weight_bytes == pytest.approx(16_060_522_496, rel=1e-3)
    assert made.margin == UNKNOWN_MARGIN


def test_established_sizes_go_before_declared_ones():
    made = read_shape("a", CONFIG, {"w": entry("w", "BF16", 8)}, {"head_dim": 64, "num_layers": None}.get, "bfloat16")
    assert (made.head_dim, made.num_layers, made.margin) == (64, 32, KNOWN_MARGIN)


def test_missing_sizes_are_named():
    assert read_shape("a", {"vocab_size": 5, "num_attention_heads": 2}, {}, lambda key: None, "bfloat16") == (
        "hidden_size",
        "num_layers",
    )


def test_experts_softcaps_and_nested_models_are_seen():
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
    text = CONFIG | experts | {"model_type": "gemma4_text", "final_logit_softcapping": 30.0}
    made = read_shape("a", {"text_config": text}, {"w": entry("w", "BF16", 8)}, lambda key: None, "bfloat16")
    assert (made.model_type, made.experts_per_token, made.expert_size, made.capped_logits) == (
        "gemma4_text",
        2,
        64,
        True,
    )
    assert any("text_config" in words for words in made.reservations)


# --- the catalogue --------------------------------------------------------------------------------------------------


def test_every_gpu_is_found_by_each_of_its_names_and_by_no_others():
    names = [name for gpu in GPUS for name in (gpu.name, *gpu.also)]
    assert [find(name) for name in names] == [gpu for gpu in GPUS for _ in (gpu.name, *gpu.also)]
    assert all(4 * GIB < gpu.usable_bytes < 300 * GIB and gpu.source for gpu in GPUS)


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [
        ("H100-80GBx4", "H100-80GB", 4),
        ("h100", "H100-80GB", 1),
        ("NVIDIA GeForce RTX 4090x2", "RTX-4090", 2),
        ("a100 80gb", "A100-80GB", 1),
        ("MI300X", "MI300X", 1),
        ("mi300xx8", "MI300X", 8),
        ("T4", "T4", 1),
    ],
)
def test_requests_are_read(text, name, count):
    assert parse_gpu(text) == GpuRequest(name=name, count=count)


@pytest.mark.parametrize(
    ("text", "step_words"),
    [
        ("A100", "A100-80GB, A100-40GB"),
        ("H1000", "H100-80GB"),
        ("banana", "the catalogue has"),
        ("", "the catalogue has"),
    ],
)
def test_unknown_names_are_usage_errors_with_the_nearest(text, step_words):
    with pytest.raises(UsageError) as caught:
        parse_gpu(text)
    assert step_words in caught.value.next_step


def test_a_count_of_none_is_a_usage_error():
    with pytest.raises(UsageError, match="at least 1"):
        parse_gpu("T4x0")
