"""Which kernel `scaled_dot_product_attention` would run on a given GPU, called on tensors without data.

B batch   H heads   G key-value heads   Q queries   K keys   D head width

torch's own choice looks at the device of its tensors, and for the meta device says `math`, which keeps the B H Q K
scores. The rules here are those of torch 2.13's `sdp_utils.cpp`, what is done around a kernel is that of
`attention.cpp`; on a GPU wirecheck has not measured them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Kernel = Literal["cudnn", "flash", "efficient", "math", "cpu"]

NARROW = (torch.float16, torch.bfloat16)
ALIGNED = 8
"""Head widths are padded to a multiple of this for the flash kernel, rows of a mask for the efficient one."""
FLASH_HEAD = 256
CUDNN_HEAD = 128
"""Widest head whose backward every cuDNN in use takes."""
FLASH_BLOCK = 128
"""Queries are rounded up to this in what flash's backward allocates for itself (`flash_api.cpp`, mha_bwd)."""


@dataclass(frozen=True, slots=True)
class Target:
    """The device a step is traced for."""

    device: Literal["cuda", "cpu"] = "cuda"
    capability: tuple[int, int] = (8, 0)
    """CUDA's compute capability; not read for the CPU."""

    @property
    def rounding(self) -> int:
        """Bytes that every block is rounded up to: CUDA's allocator has a unit, the CPU's is asked for what it is."""
        return 512 if self.device == "cuda" else 1

    @property
    def prefers_cudnn(self) -> bool:
        """cuDNN's kernel goes first on Hopper and on data-centre Blackwell (check_prefer_cudnn_attention)."""
        return self.capability in ((9, 0), (10, 0))


def choose(target: Target, dtype: torch.dtype, head: tuple[int, int], *, masked: bool, dropout: float = 0.0) -> Kernel:
    """The kernel for queries of `dtype`; `head`: widths of the keys and of the values."""
    if target.device == "cpu":
        return "cpu" if head[0] == head[1] and dropout == 0 else "math"
    widest, same, narrow = max(head), head[0] == head[1], dtype in NARROW
    if target.prefers_cudnn and narrow and same and widest <= CUDNN_HEAD and widest % ALIGNED == 0:
        return "cudnn"
    if not masked and narrow and same and widest <= FLASH_HEAD and target.capability >= (8, 0):
        return "flash"
    aligned = all(width % (ALIGNED if narrow else 4) == 0 for width in head)
    if aligned and (
        dtype in (torch.float16, torch.float32) or (dtype is torch.bfloat16 and target.capability >= (8, 0))
    ):
        return "efficient"
    return "math"


def workspace_bytes(op: str, args: tuple[Any, ...]) -> int:
    """What a kernel's backward allocates for itself beside its results, which no dispatch shows.

    flash: Σ dO·O as B H Q and dQ as B Q H D in float32, Q rounded to 128; keys' and values' gradients once per query
    head where heads share them (`mha_bwd`).
    efficient: dQ in float32, and Σ dO·O (`kernel_backward.h`, kNeedsAccumGradQ).
    """
    if op == "aten::_scaled_dot_product_flash_attention_backward":
        query, key = args[1], args[2]
        B, H, Q, D = query.shape
        rounded = -(-Q // FLASH_BLOCK) * FLASH_BLOCK
        width = -(-D // 32) * 32 if D <= 192 else FLASH_HEAD  # noqa: PLR2004  # the kernel's widest but one
        shared = 2 * B * key.shape[2] * H * D * query.itemsize if key.shape[1] != H else 0
        return int(4 * B * H * rounded * (1 + width) + shared)
    if op == "aten::_scaled_dot_product_efficient_attention_backward":
        B, H, Q, D = args[1].shape
        accumulated = D if args[1].dtype in NARROW else 0
        return int(4 * B * H * Q * (1 + accumulated))
    return 0


@contextmanager
def kernels_of(target: Target) -> Iterator[dict[Kernel, int]]:
    """Within it, attention over meta tensors takes the target's kernels; yields how often each was taken.

    The function is replaced and no mode entered: a layer recomputed in the backward calls it too.
    """
    before, taken = F.scaled_dot_product_attention, dict[Kernel, int]()

    def attend(  # noqa: PLR0917  # torch's own signature
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,  # torch's own signature
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if query.device.type != "meta" or query.dim() != 4:  # noqa: PLR2004  # B H Q D
            return before(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        head = (key.shape[-1], value.shape[-1])
        kernel = choose(target, query.dtype, head, masked=attn_mask is not None, dropout=dropout_p)
        taken[kernel] = taken.get(kernel, 0) + 1
        if kernel == "math":
            return before(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        return _run(kernel, (query, key, value), _added(attn_mask, query.dtype), dropout_p, is_causal, scale)

    F.scaled_dot_product_attention = attend
    try:
        yield taken
    finally:
        F.scaled_dot_product_attention = before


def _added(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A mask that is added to the scores: a boolean one is converted, call by call (convert_boolean_attn_mask)."""
    if mask is None or mask.dtype is not torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask.logical_not(), float("-inf"))


def _run(  # noqa: PLR0917  # the kernels' own
    kernel: Kernel, qkv: tuple[Tensor, Tensor, Tensor], bias: Tensor | None, dropout: float, causal: bool, scale: Any
) -> Tensor:
    query, key, value = qkv
    aten: Any = torch.ops.aten
    made: Tensor
    asks = any(one.requires_grad for one in qkv)
    if kernel == "cpu":
        made = aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, dropout, causal, attn_mask=bias, scale=scale
        )[0]
        return made
    if kernel == "flash":
        D = query.shape[-1]
        scale = D**-0.5 if scale is None else scale
        padded = [_padded(one) for one in qkv]
        made = aten._scaled_dot_product_flash_attention(*padded, dropout, causal, False, scale=scale)[0]
        return made[..., :D]
    if bias is not None:
        K = bias.shape[-1]
        if kernel == "efficient" and K % ALIGNED:
            bias = F.pad(bias, (0, -K % ALIGNED))[..., :K]
        bias = bias.expand(query.shape[0], query.shape[1], query.shape[2], K)
    if kernel == "cudnn":
        run = aten._scaled_dot_product_cudnn_attention
        made = run(query, key, value, bias, asks, dropout, causal, False, scale=scale)[0]
    else:
        groups = query.shape[1] // key.shape[1]
        if groups > 1:  # this kernel's gradients are per query head: heads are repeated before it
            key, value = (one.repeat_interleave(groups, dim=1) for one in (key, value))
        run = aten._scaled_dot_product_efficient_attention
        made = run(query, key, value, bias, asks, dropout, causal, scale=scale)[0]
    return made


def _padded(one: Tensor) -> Tensor:
    rest = -one.shape[-1] % ALIGNED
    return F.pad(one, (0, rest)) if rest else one
