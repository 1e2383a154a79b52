"""Quantized weights in the trace: against bitsandbytes where it is installed, against both steps run, by hand."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.benches import config_folder, model_bench, run
from tests.small_steps import AMPERE, HIDDEN, ONE, PAIR, TRAIN, WIRE, small, weights
from tests.test_vram_told import same
from wirecheck import zoo
from wirecheck.errors import CannotRun
from wirecheck.probes.measured import EMBEDS_DEVICE
from wirecheck.probes.memory import MEMORY_FORMULA_MODEL
from wirecheck.schema import TrainSpec
from wirecheck.vram.live import Tracer, tracing
from wirecheck.vram.quantized import ASKED, EightBit, FourBit, Scheme, made_like, quantize, scheme_of
from wirecheck.vram.step import CannotTrace, trace_step
from wirecheck.zoo_quantized import layers_to_quantize

K, N, ROWS = 192, 96, 10
SCHEMES = {
    "4-bit": Scheme("4-bit"),
    "4-bit nested": Scheme("4-bit", nested=True),
    "8-bit": Scheme("8-bit"),
    "8-bit, no outliers looked for": Scheme("8-bit", threshold=0.0),
}


def linear(device: str, dtype: torch.dtype = torch.bfloat16, *, bias: bool = True) -> nn.Linear:
    return nn.Linear(K, N, bias=bias, device=device, dtype=dtype).requires_grad_(requires_grad=False)


def real(scheme: Scheme, *, bias: bool = True):
    """The layer of bitsandbytes, quantized."""
    bnb = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: nothing to compare with")
    plain = linear("cpu", bias=bias)
    if scheme.method == "4-bit":
        layer = bnb.nn.Linear4bit(K, N, bias, compress_statistics=scheme.nested, quant_type="nf4")
        layer.weight = bnb.nn.Params4bit(
            plain.weight.data, requires_grad=False, compress_statistics=scheme.nested, quant_type="nf4", module=layer
        )
    else:
        layer = bnb.nn.Linear8bitLt(K, N, bias, has_fp16_weights=False, threshold=scheme.threshold)
        layer.weight = bnb.nn.Int8Params(plain.weight.data, requires_grad=False, has_fp16_weights=False)
    layer.bias = plain.bias
    return layer.to("cpu").requires_grad_(requires_grad=False)


def on_device(layer) -> int:
    """Bytes of the weight and of all that bitsandbytes keeps beside it."""
    state = getattr(layer.weight, "quant_state", None)
    if state is None:
        return layer.weight.nbytes + layer.weight.SCB.nbytes
    held = [layer.weight.data, state.absmax, state.code]
    if state.nested:
        held += [state.state2.absmax, state.state2.code, state.offset]
    return sum(one.nbytes for one in held)


@pytest.mark.parametrize("name", SCHEMES)
def test_what_is_held_is_what_bitsandbytes_holds(name):
    stand_in = made_like(linear("meta"), SCHEMES[name])
    held = [stand_in.weight, *stand_in.buffers()]
    assert sum(one.nbytes for one in held) == on_device(real(SCHEMES[name]))


def is_kept(layer, device: str) -> bool:
    """Whether what a layer is fed lives on between forward and backward."""
    start = torch.ones(2, ROWS, K, dtype=torch.bfloat16, device=device, requires_grad=True)
    fed = start + 1
    watched = weakref.ref(fed.untyped_storage())
    out = layer(fed)
    del fed
    assert out.shape == (2, ROWS, N)
    assert out.dtype is torch.bfloat16
    return watched() is not None


@pytest.mark.parametrize(("name", "kept"), [("4-bit", False), ("4-bit nested", False), ("8-bit", True)])
def test_what_is_kept_for_the_backward(name, kept):
    assert is_kept(made_like(linear("meta"), SCHEMES[name]), "meta") == kept
    assert is_kept(real(SCHEMES[name]), "cpu") == kept


class Made(TorchDispatchMode):
    """Notes the largest new tensor, by its bytes."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple) else (result,):
            if isinstance(one, torch.Tensor):
                self.largest = max(self.largest, one.untyped_storage().nbytes())
        return result


def backward_makes(layer, device: str) -> int:
    start = torch.ones(1, 2, K, dtype=torch.bfloat16, device=device, requires_grad=True)
    out = layer(start)
    with Made() as made:
        out.backward(torch.ones_like(out))
    assert start.grad is not None
    return made.largest


@pytest.mark.parametrize("name", SCHEMES)
def test_the_backward_makes_the_whole_weight(name):
    whole = K * N * torch.bfloat16.itemsize
    assert backward_makes(made_like(linear("meta"), SCHEMES[name]), "meta") == whole
    assert backward_makes(real(SCHEMES[name]), "cpu") == whole


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mixtral", "qwen2"])
def test_the_layers_are_those_that_the_library_replaces(kind):
    bnb = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: nothing to compare with")
    from transformers import BitsAndBytesConfig
    from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

    sizes = {"gpt2": {"n_embd": HIDDEN, "n_layer": 2, "n_head": 4}, "mixtral": {"num_local_experts": 4}}
    model = zoo.build(small(kind, **sizes.get(kind, {})), device="meta", dtype=torch.bfloat16)
    names = layers_to_quantize(model, None)
    quantizer = Bnb4BitHfQuantizer(BitsAndBytesConfig(load_in_4bit=True), pre_quantized=False)
    quantizer._process_model_before_weight_loading(model, device_map=None)
    assert names == [name for name, module in model.named_modules() if isinstance(module, bnb.nn.Linear4bit)]
    assert names
    assert not any("lm_head" in name for name in names)


# --- by hand -----------------------------------------------------------------------------------------------------


def test_a_forward_by_hand():
    """4-bit without a graph: the whole weight lives while the product is made, and the input's copy."""
    layer = made_like(linear("meta", bias=False), Scheme("4-bit", compute=torch.float32))
    x = torch.empty(ROWS, K, dtype=torch.bfloat16, device="meta")
    tracer = Tracer(AMPERE)
    with tracing(tracer), torch.no_grad():
        out = layer(x)
    assert out.dtype is torch.bfloat16
    elements = K * N
    wide_x, wide_out = ROWS * K * 4, ROWS * N * 4
    loaded, computed = elements * 2, elements * 4
    rounded = [-(-size // 512) * 512 for size in (wide_x, loaded, computed, wide_out)]
    assert tracer.ledger.peak().bytes == rounded[0] + rounded[2] + max(rounded[1], rounded[3])


def test_gpt2_holds_its_weights_the_other_way_round():
    model = zoo.build(small("gpt2", n_embd=HIDDEN, n_layer=2, n_head=4), device="meta", dtype=torch.bfloat16)
    quantize(model, Scheme("4-bit"))
    layer = model.get_submodule("transformer.h.0.mlp.c_fc")
    assert isinstance(layer, FourBit)
    assert (layer.in_features, layer.out_features) == (HIDDEN, 4 * HIDDEN)


def packed_bytes(config, scheme: Scheme) -> int:
    model = zoo.build(config, device="meta", dtype=torch.bfloat16)
    quantize(model, scheme)
    held = {id(one): one for one in (*model.parameters(), *model.buffers())}
    return sum(-(-one.nbytes // 512) * 512 for one in held.values())


@pytest.mark.parametrize("kind", ASKED)
def test_a_step_holds_packed_weights(kind):
    found = trace_step(ONE, WIRE, TRAIN.model_copy(update={"quantize": kind}), AMPERE)
    assert weights(found) == packed_bytes(ONE["a"], ASKED[kind])
    assert weights(found) < weights(trace_step(ONE, WIRE, TRAIN, AMPERE))


def test_checkpointing_does_not_drop_what_8_bit_layers_keep():
    few, many = (
        trace_step(ONE, WIRE, TRAIN.model_copy(update={"quantize": kind, "grad_checkpointing": True}), AMPERE)
        for kind in ("nf4", "int8")
    )
    activations = [
        sum(n for part, n in one.peak.parts.items() if part.startswith("activations a")) for one in (few, many)
    ]
    assert activations[1] > 2 * activations[0]


@pytest.mark.parametrize("kind", ASKED)
@pytest.mark.parametrize("checkpointed", [False, True])
def test_the_first_step_is_told_from_the_second(kind, checkpointed):
    same(PAIR, WIRE, TRAIN.model_copy(update={"quantize": kind, "grad_checkpointing": checkpointed}))


# --- what a checkpoint declares ----------------------------------------------------------------------------------

BNB = {"quant_method": "bitsandbytes"}


@pytest.mark.parametrize(
    ("declared", "scheme"),
    [
        (BNB | {"load_in_4bit": True}, Scheme("4-bit", compute=torch.float32)),
        (
            BNB
            | {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16", "bnb_4bit_use_double_quant": True}
            | {"llm_int8_skip_modules": ["lm_head"]},
            Scheme("4-bit", nested=True, compute=torch.bfloat16, skip=("lm_head",)),
        ),
        (BNB | {"load_in_8bit": True}, Scheme("8-bit")),
        ({"load_in_8bit": True, "llm_int8_threshold": 0.0}, Scheme("8-bit", threshold=0.0)),
        ({"quant_method": "mxfp4", "dequantize": True}, None),
    ],
)
def test_what_a_checkpoint_declares(declared, scheme):
    config = small(quantization_config=declared)
    assert scheme_of(config, TrainSpec()) == scheme
    assert scheme_of(config, TrainSpec(quantize="int8")) == scheme  # the library keeps what is declared


def test_what_the_run_asks_for():
    assert scheme_of(small(), TrainSpec()) is None
    assert scheme_of(small(), TrainSpec(quantize="nf4-dq")) == Scheme("4-bit", nested=True)


@pytest.mark.parametrize(
    "declared",
    [
        {"quant_method": "gptq", "bits": 4},
        {"quant_method": "awq", "load_in_4bit": True},
        BNB | {"load_in_8bit": True, "llm_int8_has_fp16_weight": True},
        BNB | {"load_in_4bit": True, "bnb_4bit_compute_dtype": "float64"},
        BNB | {"load_in_4bit": True, "llm_int8_skip_modules": ["(a+)+$"]},
        BNB | {"load_in_4bit": True, "llm_int8_skip_modules": "lm_head"},
        BNB,
    ],
)
def test_what_is_not_known_is_not_traced(declared):
    with pytest.raises(CannotTrace):
        trace_step({"a": small(quantization_config=declared)}, WIRE, TRAIN, AMPERE)


def test_a_declared_checkpoint_is_traced():
    found = trace_step({"a": small(quantization_config=BNB | {"load_in_8bit": True})}, WIRE, TRAIN, AMPERE)
    assert weights(found) == packed_bytes(ONE["a"], Scheme("8-bit"))


def test_a_model_without_a_linear_layer_to_take():
    model = zoo.build(small(), device="meta")
    with pytest.raises(CannotRun, match="no linear layer"):
        quantize(model, Scheme("8-bit", skip=("model", "lm_head")))


def test_a_stand_in_is_a_linear_layer_with_its_bias():
    layer = made_like(linear("meta"), Scheme("8-bit"))
    assert isinstance(layer, EightBit)
    assert layer.bias is not None
    assert layer.bias.shape == (N,)


# --- what is said of it ------------------------------------------------------------------------------------------


def test_the_formula_does_not_answer_for_quantized_weights(tmp_path):
    folder = config_folder(tmp_path / "m")
    with pytest.raises(CannotRun, match="quantized on load"):
        run(MEMORY_FORMULA_MODEL, model_bench(folder, train=TrainSpec(quantize="int8")))
    assert run(MEMORY_FORMULA_MODEL, model_bench(folder)).estimates


def test_the_device_is_not_asked_for_what_it_would_not_run(tmp_path):
    bench = model_bench(config_folder(tmp_path / "m"), train=TrainSpec(quantize="nf4"))
    with pytest.raises(CannotRun, match="they are not run"):
        run(EMBEDS_DEVICE, bench)
