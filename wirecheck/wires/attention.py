"""The blocks that the wires are built of: attention, feed-forward, sinusoid.

B batch   M queries   T keys   Z width   H heads   K width of a head (Z = H K)
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wirecheck.wires.sizes import NUM_HEADS


def sinusoid(length: int, width: int) -> Tensor:
    """p_TZ: p[t, 2i] = sin(t / 10000^(2i/Z)), p[t, 2i+1] = cos(the same) (Vaswani et al. 2017, section 3.5)."""
    t_T1 = torch.arange(length, dtype=torch.float32)[:, None]
    frequency_K = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10_000) / width))
    angle_TK = t_T1 * frequency_K
    return torch.stack((angle_TK.sin(), angle_TK.cos()), dim=-1).reshape(length, width)


class Attention(nn.Module):
    """out(softmax(q kᵀ / √K) v) over the keys that are not masked: queries of x, keys and values of y.

    Keys and values share one projection. Softmax cancels a bias on the keys, so alone it would be a tensor
    whose gradient is rounding noise.
    """

    def __init__(self, Z: int, heads: int = NUM_HEADS) -> None:
        """ValueError where the heads do not divide Z."""
        if Z % heads:
            raise ValueError(f"width {Z} is not divisible by the {heads} heads of attention")
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(Z, Z)
        self.key_value = nn.Linear(Z, 2 * Z)
        self.out = nn.Linear(Z, Z)

    def forward(self, x_BMZ: Tensor, y_BTZ: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """-> BMZ. `mask_BT`: True where a key may be read; None: everywhere."""
        B, M, Z = x_BMZ.shape
        K = Z // self.heads
        k_BTZ, v_BTZ = self.key_value(y_BTZ).chunk(2, dim=-1)
        q_BHMK = self.query(x_BMZ).view(B, M, self.heads, K).transpose(1, 2)
        k_BHTK = k_BTZ.reshape(B, -1, self.heads, K).transpose(1, 2)
        v_BHTK = v_BTZ.reshape(B, -1, self.heads, K).transpose(1, 2)
        keys_B11T = None if mask_BT is None else mask_BT[:, None, None, :]
        o_BHMK = F.scaled_dot_product_attention(q_BHMK, k_BHTK, v_BHTK, attn_mask=keys_B11T)
        out_BMZ: Tensor = self.out(o_BHMK.transpose(1, 2).reshape(B, M, Z))
        return out_BMZ


class FeedForward(nn.Module):
    """W₂ gelu(W₁ x), inner width `factor` Z."""

    def __init__(self, Z: int, factor: int) -> None:
        super().__init__()
        self.wide = nn.Linear(Z, factor * Z)
        self.narrow = nn.Linear(factor * Z, Z)

    def forward(self, x_BTZ: Tensor) -> Tensor:
        """-> BTZ."""
        y_BTZ: Tensor = self.narrow(F.gelu(self.wide(x_BTZ)))
        return y_BTZ
