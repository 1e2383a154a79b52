"""What a device's kernels do beside what a dispatch shows: operands fused into one kernel, temporaries of their own.

Tensors without data are no CUDA tensors, so that torch takes the CPU's way where the two part. From torch 2.13's
sources: `SoftMax.cpp` and `SoftMax.cu`, `Dropout.cpp` and `Dropout.cu`, `TensorIterator.cpp`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wirecheck.vram.attention import Target, workspace_bytes

_PROMOTING = frozenset(("add", "sub", "mul", "div", "pow", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge"))
"""Operations on two tensors that first bring both to one dtype."""


def hidden_bytes(target: Target, op: str, args: tuple[Any, ...]) -> int:
    """What the operation allocates beside its results, and frees before it returns."""
    if target.device == "cpu":
        return _promoted_bytes(op, args)
    if op == "aten::_softmax_backward_data":  # softmax_backward_cuda_out: `Tensor tmp = grad * output`
        grad, output = args[:2]
        return int(grad.numel() * torch.result_type(grad, output).itemsize)
    return workspace_bytes(op, args)


def _promoted_bytes(op: str, args: tuple[Any, ...]) -> int:
    """The operands' copies in the common dtype, which the CPU makes first; CUDA's kernels convert as they read.

    In place the result has one too (`TensorIteratorBase::compute_types`).
    """
    name, _, overload = op.removeprefix("aten::").partition(".")
    if overload != "Tensor" or name.removesuffix("_") not in _PROMOTING:
        return 0
    given = [one for one in args[:2] if isinstance(one, Tensor)]
    if len(given) < 2:  # noqa: PLR2004  # a tensor and a number
        return 0
    common = torch.result_type(*given)
    copied = [*given, given[0]] if name.endswith("_") else given
    return sum(one.numel() * common.itemsize for one in copied if one.dtype is not common)


@contextmanager
def fused(target: Target) -> Iterator[None]:
    """Within it, functions over meta tensors are the one kernel they are on CUDA; for the CPU nothing changes.

    Functions are replaced and no mode entered: a layer recomputed in the backward calls them too.
    """
    if target.device == "cpu":
        yield
        return
    before = {name: getattr(F, name) for name in ("softmax", "log_softmax", "dropout")}
    aten: Any = torch.ops.aten
    F.softmax = _widening(F.softmax, aten._softmax)
    F.log_softmax = _widening(F.log_softmax, aten._log_softmax)
    F.dropout = _dropping(F.dropout)
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(F, name, function)


def _widening(function: Callable[..., Tensor], kernel: Any) -> Any:
    """`softmax` of float16 asked for in float32: CUDA converts within the kernel, of float16 alone."""

    def widen(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None) -> Tensor:  # noqa: A002  # torch's own
        if input.device.type != "meta" or dim is None or (input.dtype, dtype) != (torch.float16, torch.float32):
            return function(input, dim, _stacklevel, dtype)
        made: Tensor = kernel(input, dim, True)
        return made

    return widen


def _dropping(function: Callable[..., Tensor]) -> Any:
    """`dropout` that drops some: CUDA keeps what was dropped in one byte an element, others in the input's dtype."""

    def drop(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:  # noqa: A002  # torch's own
        if input.device.type != "meta" or not training or inplace or not 0 < p < 1 or not input.numel():
            return function(input, p, training, inplace)
        made: Tensor = torch.ops.aten.native_dropout(input, p, True)[0]
        return made

    return drop
