"""Linear layers as bitsandbytes holds them: what their weights take, and what a step through them makes and keeps.

    x (B, S, K) input   W (N, K) weight   n = N K elements   c bytes of the dtype computed in

From the sources of bitsandbytes 0.50 (its `nn/modules.py`, `autograd/_functions.py`, `backends/cuda/ops.py`).
4-bit: two elements a byte, a float32 scale for each 64, or one byte for each 64 and a float32 for each 256 of those.
Forward and backward each make the whole weight again, c n bytes, for as long as their product takes; nothing of x is
kept. Releases from 0.50 on multiply few rows without it: then the forward takes less than is said here.
8-bit: one byte an element and a float32 a row; x is kept, whatever checkpointing says, since the layer holds it where
autograd does not look. How many columns of x are outliers depends on values: none is counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wirecheck import zoo
from wirecheck.errors import CannotRun
from wirecheck.geometry import shown
from wirecheck.schema import TrainSpec
from wirecheck.zoo_quantized import layers_to_quantize

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

BLOCK, OUTER_BLOCK = 64, 256
"""Elements that share a scale, and scales that do."""
CODES_4BIT, CODES_8BIT = 16, 256
"""Entries of the tables that codes are looked up in, float32."""
OUTLIER = 6.0
"""transformers' default of `llm_int8_threshold`."""
Method = Literal["4-bit", "8-bit"]
_PLAIN_NAME = re.compile(r"[\w.]{1,200}")
_DTYPES = {name: getattr(torch, name) for name in ("float32", "float16", "bfloat16")}


@dataclass(frozen=True, slots=True)
class Scheme:
    """How the linear layers of one model are held."""

    method: Method
    nested: bool = False
    """Whether the scales of 4-bit weights are themselves quantized ("double quantization")."""
    compute: torch.dtype | None = None
    """What 4-bit layers compute in; None: the dtype of their input."""
    threshold: float = OUTLIER
    """From which size on 8-bit layers take an input for an outlier; 0: they do not look."""
    skip: tuple[str, ...] | None = None
    """Names or ends of names of layers left as they are; None: the library's choice, the head among them."""


ASKED: Mapping[str, Scheme] = {
    "nf4": Scheme("4-bit"),
    "nf4-dq": Scheme("4-bit", nested=True),
    "int8": Scheme("8-bit"),
}
"""By `TrainSpec.quantize`; computed in the dtype of the run."""


def scheme_of(config: PretrainedConfig, train: TrainSpec) -> Scheme | None:
    """What the checkpoint declares, else what the run asks for; None where nothing is quantized.

    CannotRun where what the layers keep is not known.
    """
    declared = zoo.quantization(config)
    if not declared:
        return ASKED.get(train.quantize)
    fields = declared if isinstance(declared, Mapping) else declared.to_dict()
    if fields.get("dequantize") is True:
        return None
    method = fields.get("quant_method")
    named = method is None or str(getattr(method, "value", method)).startswith("bitsandbytes")
    if fields.get("load_in_4bit") is True and named:
        compute = str(fields.get("bnb_4bit_compute_dtype") or "float32").removeprefix("torch.")
        if compute not in _DTYPES:
            raise CannotRun(f"4-bit layers that compute in {shown(compute)} are not known to the trace")
        nested = fields.get("bnb_4bit_use_double_quant") is True
        return Scheme("4-bit", nested=nested, compute=_DTYPES[compute], skip=_skipped(fields))
    if fields.get("load_in_8bit") is True and named and not fields.get("llm_int8_has_fp16_weight"):
        threshold = fields.get("llm_int8_threshold", OUTLIER)
        known = isinstance(threshold, int | float) and threshold >= 0
        return Scheme("8-bit", threshold=float(threshold) if known else OUTLIER, skip=_skipped(fields))
    raise CannotRun("the weights are quantized, and what their kernels keep is not known to the trace")


def _skipped(fields: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The library takes these for patterns and matches every layer's name with them; here plain names are taken."""
    given = fields.get("llm_int8_skip_modules")
    if given is None:
        return None
    if not isinstance(given, list) or not all(isinstance(one, str) and _PLAIN_NAME.fullmatch(one) for one in given):
        raise CannotRun("llm_int8_skip_modules of the checkpoint is not a list of plain names")
    return tuple(given)


def quantize(model: PreTrainedModel, scheme: Scheme) -> None:
    """Put stand-ins without data in the place of the model's linear layers. CannotRun where there is none to take."""
    names = layers_to_quantize(model, scheme.skip)
    if not names:
        raise CannotRun(f"{type(model).__name__} has no linear layer that would be quantized")
    for name in names:
        parent, _, last = name.rpartition(".")
        before: Any = model.get_submodule(name)
        setattr(model.get_submodule(parent), last, made_like(before, scheme))


def made_like(layer: nn.Module, scheme: Scheme) -> QuantizedLinear:
    """The stand-in for a linear layer, on the device it is on: torch's own, or GPT-2's, which holds (K, N)."""
    weight: Any = layer.weight
    outputs, inputs = weight.shape if isinstance(layer, nn.Linear) else (weight.shape[1], weight.shape[0])
    kind = FourBit if scheme.method == "4-bit" else EightBit
    bias: Any = layer.bias
    return kind(int(inputs), int(outputs), bias, weight.dtype, weight.device, scheme)


class QuantizedLinear(nn.Linear):
    """Stands for a layer of bitsandbytes: `weight` is what is packed, buffers are what belongs to it."""

    def __init__(  # noqa: PLR0917  # what a layer is of
        self,
        inputs: int,
        outputs: int,
        bias: nn.Parameter | None,
        dtype: torch.dtype,
        device: torch.device,
        scheme: Scheme,
    ) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = inputs, outputs
        self.dtype, self.scheme = dtype, scheme
        self.register_parameter("bias", bias)
        packed = self._packed(inputs * outputs, device)
        self.weight = nn.Parameter(packed, requires_grad=False)

    def _packed(self, elements: int, device: torch.device) -> Tensor:
        raise NotImplementedError

    def _hold(self, name: str, count: int, dtype: torch.dtype, device: torch.device) -> None:
        self.register_buffer(name, torch.empty(count, dtype=dtype, device=device), persistent=False)


class FourBit(QuantizedLinear):
    """Stands for `bitsandbytes.nn.Linear4bit`."""

    def _packed(self, elements: int, device: torch.device) -> Tensor:
        scales = -(-elements // BLOCK)
        self._hold("code", CODES_4BIT, torch.float32, device)
        if self.scheme.nested:
            self._hold("absmax", scales, torch.uint8, device)
            self._hold("outer_absmax", -(-scales // OUTER_BLOCK), torch.float32, device)
            self._hold("outer_code", CODES_8BIT, torch.float32, device)
            self._hold("offset", 1, torch.float32, device)
        else:
            self._hold("absmax", scales, torch.float32, device)
        return torch.empty((elements + 1) // 2, 1, dtype=torch.uint8, device=device)

    def dequantized(self) -> Tensor:
        """(N, K) in the dtype the layer was loaded in."""
        if not self.scheme.nested:
            return self._whole()
        absmax = torch.empty_like(self.get_buffer("absmax"), dtype=torch.float32)
        whole = self._whole()
        del absmax
        return whole

    def _whole(self) -> Tensor:
        return torch.empty(self.out_features, self.in_features, dtype=self.dtype, device=self.weight.device)

    def forward(self, x: Tensor) -> Tensor:
        """(..., K) -> (..., N), in the input's dtype."""
        dtype = x.dtype
        x = x.to(self.scheme.compute or self.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        made: Tensor = _FourBitProduct.apply(x, bias, self)  # type: ignore[no-untyped-call]
        return made.to(dtype)


class _FourBitProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, layer: FourBit) -> Tensor:
        ctx.layer = layer
        return F.linear(x, layer.dequantized().to(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        (gradient,) = gradients
        if not ctx.needs_input_grad[0]:
            return None, None, None
        return torch.matmul(gradient, ctx.layer.dequantized().to(gradient.dtype)), None, None


class EightBit(QuantizedLinear):
    """Stands for `bitsandbytes.nn.Linear8bitLt` with `has_fp16_weights=False`."""

    def _packed(self, elements: int, device: torch.device) -> Tensor:
        del elements
        self._hold("scales", self.out_features, torch.float32, device)
        return torch.empty(self.out_features, self.in_features, dtype=torch.int8, device=device)

    def forward(self, x: Tensor) -> Tensor:
        """(..., K) -> (..., N), in the input's dtype."""
        if self.bias is not None and self.bias.dtype is not x.dtype:
            self.bias.data = self.bias.data.to(x.dtype)
        made: Tensor = _EightBitProduct.apply(x, self.bias, self)  # type: ignore[no-untyped-call]
        return made


class _EightBitProduct(torch.autograd.Function):
    """T = B S rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, layer: EightBit) -> Tensor:
        x_TK = x.reshape(-1, x.shape[-1])
        codes_TK = _row_codes(x_TK.to(torch.float16), layer.scheme.threshold)
        sums_TN = torch.empty(len(x_TK), layer.out_features, dtype=torch.int32, device=x.device)
        out_TN = torch.empty_like(sums_TN, dtype=torch.float16)
        if bias is not None and bias.dtype is not torch.float16:
            out_TN.add_(bias)
        out_TN = out_TN.to(x.dtype)
        ctx.layer, ctx.shape, ctx.dtype = layer, x.shape, x.dtype
        if ctx.needs_input_grad[0]:
            ctx.kept = x_TK  # an attribute, not a saved tensor: checkpointing does not drop it
        del codes_TK, sums_TN
        return out_TN.reshape(*x.shape[:-1], layer.out_features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        (gradient,) = gradients
        if not ctx.needs_input_grad[0]:
            return None, None, None
        g_TN = gradient.reshape(-1, gradient.shape[-1]).contiguous()
        scales_N1 = ctx.layer.get_buffer("scales").unsqueeze(1)
        w_NK = ctx.layer.weight.to(ctx.dtype, copy=True).mul_(scales_N1.mul(1.0 / 127.0))
        return torch.matmul(g_TN.to(ctx.dtype), w_NK).view(ctx.shape), None, None


def _row_codes(x_TK: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Codes and scales of an input's rows, as the CUDA kernel makes them; its search for outliers finds none."""
    scales_T = torch.empty(len(x_TK), dtype=torch.float32, device=x_TK.device)
    codes_TK = torch.empty_like(x_TK, dtype=torch.int8)
    if threshold > 0:
        outliers_TK = x_TK.abs() >= threshold
        del outliers_TK
    return codes_TK, scales_T
