"""The trace: kernels chosen, values known, blocks born and dead, and the step of a pair in parts."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as functions

from wirecheck import zoo
from wirecheck.schema import TrainSpec, WireSpec
from wirecheck.vram import live
from wirecheck.vram.attention import Target, choose, workspace_bytes
from wirecheck.vram.known import ValueRead
from wirecheck.vram.live import Event, Tracer, tracing
from wirecheck.vram.step import CannotTrace, SizedTokenizer, trace_step
from wirecheck.wires.receiver import ANCHOR

CPU = Target(device="cpu")
AMPERE, TURING, HOPPER = (Target(capability=c) for c in ((8, 0), (7, 5), (9, 0)))
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32


@pytest.mark.parametrize(
    ("target", "dtype", "head", "masked", "kernel"),
    [
        (AMPERE, BF16, 128, False, "flash"),
        (AMPERE, BF16, 128, True, "efficient"),
        (AMPERE, FP32, 64, False, "efficient"),
        (AMPERE, BF16, 320, False, "efficient"),
        (HOPPER, BF16, 128, True, "cudnn"),
        (HOPPER, BF16, 256, False, "flash"),
        (HOPPER, FP32, 128, False, "efficient"),
        (TURING, FP16, 64, False, "efficient"),
        (TURING, BF16, 64, False, "math"),
        (AMPERE, torch.float64, 64, False, "math"),
        (AMPERE, BF16, 60, True, "math"),
    ],
)
def test_the_kernel_chosen(target, dtype, head, masked, kernel):
    assert choose(target, dtype, (head, head), masked=masked) == kernel


def test_flash_needs_one_width_of_keys_and_values():
    assert choose(AMPERE, BF16, (192, 128), masked=False) == "efficient"


def test_flash_backward_takes_memory_of_its_own():
    query, key = (torch.empty(2, heads, 130, 64, dtype=BF16, device="meta") for heads in (8, 2))
    args = (query, query, key, key)
    own = 4 * 2 * 8 * 256 * (1 + 64)
    assert workspace_bytes("aten::_scaled_dot_product_flash_attention_backward", args) == own + 2 * 2 * 130 * 8 * 64 * 2
    assert workspace_bytes("aten::add.Tensor", args) == 0


@pytest.mark.parametrize(("target", "dtype"), [(AMPERE, BF16), (TURING, FP16), (HOPPER, BF16), (TURING, BF16)])
def test_heads_that_share_keys_get_their_gradients(target, dtype):
    query, key = (torch.empty(2, h, 40, 64, dtype=dtype, device="meta", requires_grad=True) for h in (8, 2))
    with tracing(Tracer(target)):
        functions.scaled_dot_product_attention(query, key, key, is_causal=True, enable_gqa=True).sum().backward()
    assert (query.grad.shape, key.grad.shape) == (query.shape, key.shape)


def traced(run, target=AMPERE):
    tracer = Tracer(target)
    with tracing(tracer):
        kept = run()
    return tracer.ledger, kept


def test_blocks_are_rounded_and_die_with_their_tensors():
    def run():
        first = torch.empty(100, device="meta")
        del first
        return torch.empty(200, device="meta")

    ledger, _ = traced(run)
    assert ledger.events == [Event(0, 512), Event(0, 0), Event(1, 1024)]
    assert ledger.peak().bytes == 1024


def test_a_view_is_no_block_of_its_own():
    ledger, _ = traced(lambda: torch.empty(8, device="meta")[2:])
    assert len(ledger.blocks) == 1


def test_gradients_are_added_up_in_place():
    """x feeds two branches: in the real backward the second gradient is added to the first one's memory."""
    x = torch.empty(1 << 20, device="meta", requires_grad=True)
    tracer = Tracer(AMPERE)
    tracer.hold([x], "x")
    with tracing(tracer):
        (x * 2.0 + x * 3.0).sum().backward()
    assert tracer.ledger.peak().bytes <= 4 * (4 << 20)


def test_gradients_of_what_was_indexed_are_put_in_place():
    x = torch.empty(1 << 20, device="meta", requires_grad=True)
    tracer = Tracer(AMPERE)
    tracer.hold([x], "x")
    with tracing(tracer):
        x[torch.arange(4)].sum().backward()
    assert tracer.ledger.peak().bytes < (8 << 20) + (1 << 12)


# --- what a device's kernels do otherwise than the CPU's ---------------------------------------------------------

N = 1 << 20


def of_op(ledger, op: str, part: str | None = None) -> list[int]:
    return [one.asked for one in ledger.blocks if one.op == op and part in (None, one.part)]


@pytest.mark.parametrize(
    ("target", "dtype", "converted", "gradient"),
    [(TURING, FP16, [], 2 * N), (AMPERE, BF16, [4 * N], 4 * N), (CPU, FP16, [4 * N], 4 * N)],
)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_in_float32_converts_half_within_its_kernel_on_cuda(name, target, dtype, converted, gradient):
    scores = torch.empty(N // 1024, 1024, dtype=dtype, device="meta", requires_grad=True)
    ledger, _ = traced(lambda: getattr(functions, name)(scores, dim=-1, dtype=FP32).sum().backward(), target)
    asked = [one.asked for one in ledger.blocks]
    assert asked[: len(converted) + 1] == [*converted, 4 * N]
    assert of_op(ledger, f"aten::_{name}") == [4 * N]
    assert of_op(ledger, f"aten::_{name}_backward_data", "gradients") == [gradient]
    hidden = [4 * N] if name == "softmax" and target is not CPU else []
    assert of_op(ledger, f"aten::_{name}_backward_data", "workspaces of kernels") == hidden


def test_softmax_backward_holds_a_product_beside_its_operands_and_result():
    """The float16 scores' 2 N bytes: output, gradient and product in float32, twice that each, and the result."""
    scores = torch.empty(N // 1024, 1024, dtype=FP16, device="meta", requires_grad=True)
    ledger, _ = traced(lambda: functions.softmax(scores, dim=-1, dtype=FP32).half().sum().backward(), TURING)
    peak = ledger.peak()
    assert peak.op == "aten::_softmax_backward_data"
    assert 0 <= peak.bytes - (4 + 4 + 4 + 2) * N < 1 << 14


@pytest.mark.parametrize(("target", "mask"), [(AMPERE, N), (CPU, 2 * N)])
def test_what_dropout_keeps(target, mask):
    x = torch.empty(N, dtype=FP16, device="meta", requires_grad=True)
    ledger, kept = traced(lambda: functions.dropout(x, p=0.1, training=True), target)
    assert kept.requires_grad
    assert sum(one.asked for one in ledger.blocks if one.number in alive(ledger)) == 2 * N + mask


def alive(ledger) -> set[int]:
    left = set()
    for event in ledger.events:
        (left.add if event.bytes else left.discard)(event.block)
    return left


@pytest.mark.parametrize("given", [{"p": 0.0}, {"p": 0.1, "training": False}])
def test_dropout_that_drops_nothing_is_no_operation(given):
    x = torch.empty(8, dtype=FP16, device="meta", requires_grad=True)
    ledger, _ = traced(lambda: functions.dropout(x, **given))
    assert not ledger.blocks


def test_operands_are_converted_first_on_the_cpu_alone():
    narrow, wide = (torch.empty(N, dtype=dtype, device="meta") for dtype in (BF16, FP32))
    assert traced(lambda: narrow * wide, CPU)[0].peak().bytes == 4 * N + 4 * N
    assert traced(lambda: narrow * wide, AMPERE)[0].peak().bytes == 4 * N


def test_values_written_down_are_known():
    def run():
        mask = torch.tensor([[1, 1, 0], [1, 1, 1]]).to("meta")
        lengths = mask.sum(dim=1).tolist()
        return lengths, bool(mask.bool().all()), (torch.arange(4, device="meta") > 1).nonzero().shape

    _, (lengths, whole, where) = traced(run)
    assert lengths == [2, 3]
    assert whole is False
    assert tuple(where) == (2, 1)


def test_boolean_indexing_by_known_values():
    def run():
        keep = torch.tensor([True, False, True]).to("meta")
        return torch.empty(3, 5, device="meta")[keep]

    _, kept = traced(run)
    assert kept.shape == (2, 5)


def test_a_value_nobody_knows_ends_the_trace():
    with pytest.raises(ValueRead, match="_local_scalar_dense"):
        traced(lambda: torch.empty(3, device="meta").sum().item())


@pytest.mark.parametrize("name", ["scaled_dot_product_attention", "softmax", "log_softmax", "dropout"])
def test_functions_are_as_before_afterwards(name):
    before = getattr(functions, name)
    _, within = traced(lambda: getattr(functions, name))
    assert within is not before
    assert getattr(functions, name) is before


# --- the step of a pair ------------------------------------------------------------------------------------------


def small(kind: str = "llama", **fields):
    sizes = {"vocab_size": 1000, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return zoo.transformers_library().AutoConfig.for_model(kind, **(sizes | heads | fields))


PAIR = {"a": small(), "b": small("qwen2", hidden_size=96, vocab_size=1200)}
WIRE = WireSpec(latent_length=4, latent_width=32, max_bytes=64)
TRAIN = TrainSpec(batch=2, context=8, answer=12)


def test_parts_make_the_peak_and_are_named():
    made = trace_step(PAIR, WIRE, TRAIN, AMPERE)
    assert sum(made.peak.parts.values()) == made.peak.bytes
    assert {"weights a", "weights b", "trained parameters", "optimizer states"} <= set(made.peak.parts)
    assert made.peak.phase in ("step 1", "step 2")


def test_the_weights_are_the_models_own_bytes():
    made = trace_step(PAIR, WIRE, TRAIN, AMPERE)
    model = zoo.build(PAIR["a"], device="meta", dtype=BF16)
    held = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in (*model.parameters(), *model.buffers())}
    assert made.peak.parts["weights a"] == sum(-(-size // 512) * 512 for size in held.values())


def test_one_model_after_the_other_takes_less():
    joint = trace_step(PAIR, WIRE, TRAIN, AMPERE).peak
    apart = trace_step(PAIR, WIRE, TRAIN.model_copy(update={"resident": "sequential"}), AMPERE).peak
    assert apart.bytes < joint.bytes
    assert not {"weights a", "weights b"} <= set(apart.parts)


def test_checkpointing_takes_less_and_more_rows_take_more():
    long = TRAIN.model_copy(update={"answer": 200, "batch": 4})
    plain = trace_step(PAIR, WIRE, long, AMPERE).peak.bytes
    assert trace_step(PAIR, WIRE, long.model_copy(update={"grad_checkpointing": True}), AMPERE).peak.bytes < plain
    assert trace_step(PAIR, WIRE, long.model_copy(update={"batch": 8}), AMPERE).peak.bytes > plain


def test_several_losses_are_alive_together():
    more = WIRE.model_copy(update={"losses": ("answer", "first-k", "kd"), "first_k": 2})
    assert trace_step(PAIR, more, TRAIN, AMPERE).peak.bytes > trace_step(PAIR, WIRE, TRAIN, AMPERE).peak.bytes


def test_a_resampler_and_a_single_model():
    resampler = WireSpec(name="resampler", latent_length=4)
    assert trace_step(PAIR, resampler, TRAIN, AMPERE).trained > 0
    one = trace_step({"a": PAIR["a"]}, WIRE, TRAIN, AMPERE)
    assert "weights b" not in one.peak.parts
    with pytest.raises(CannotTrace, match="one model only"):
        trace_step({"a": PAIR["a"]}, resampler, TRAIN, AMPERE)


def test_what_is_not_traced_is_said():
    with pytest.raises(CannotTrace, match="is not one that can be traced"):
        trace_step(PAIR, WireSpec(name="my.module:wire"), TRAIN, AMPERE)
    quantized = small()
    quantized.quantization_config = {"quant_method": "gptq", "bits": 4}
    with pytest.raises(CannotTrace, match="quantized"):
        trace_step({"a": quantized}, WIRE, TRAIN, AMPERE)


@pytest.mark.parametrize("absurd", [{"batch": 10**9}, {"answer": 10**12}])
def test_absurd_sizes_are_refused_at_once(absurd):
    with pytest.raises(CannotTrace, match="more than it can hold"):
        trace_step(PAIR, WIRE, TRAIN.model_copy(update=absurd), AMPERE)


def test_a_step_of_too_many_operations_ends(monkeypatch):
    monkeypatch.setattr(live, "MOST_OPERATIONS", 500)
    with pytest.raises(CannotTrace, match="more than 500 operations"):
        trace_step(PAIR, WIRE, TRAIN, AMPERE)


def test_lengths_of_the_stand_in_for_a_tokenizer():
    one = SizedTokenizer(100, 7)
    assert len(one.encode(ANCHOR, add_special_tokens=False)) == 7
    assert len(one.encode(" word0 word1", add_special_tokens=False)) == 2
    assert len(one.encode(f"abcd efgh\n{ANCHOR}", add_special_tokens=False)) == 7 + 3
    assert SizedTokenizer(100, 0).encode(ANCHOR)
