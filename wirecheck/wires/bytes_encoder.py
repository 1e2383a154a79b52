"""The *bytes* encoder: text to latent, through its UTF-8 bytes.

    B batch   T source bytes   M latent slots   Z latent width   H heads   K width of a head (Z = H K)

    bytes_BT -> x_BTZ    byte embedding + sinusoid, six post-norm transformer layers, LayerNorm
    x_BTZ    -> z_BMZ    M learned queries read the bytes; a gate mixes what they read with what they are

Padding is told by mask_BT alone (True: a byte of the source); no byte value means padding, and a masked byte
changes nothing in z.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_LAYERS = 6
NUM_HEADS = 8


class SourceBytes(NamedTuple):
    """A batch of sources: bytes_BT int64 in 0..255, right-padded; mask_BT bool, True on the bytes of a source."""

    bytes_BT: Tensor
    mask_BT: Tensor

    @property
    def lengths_B(self) -> Tensor:
        """Bytes of each source, int64."""
        return self.mask_BT.sum(dim=1)


def read_bytes(texts: Sequence[str], max_bytes: int) -> SourceBytes:
    """UTF-8 bytes of each text, cut after `max_bytes`. An empty text reads as one zero byte: attention needs a key."""
    rows = [list(text.encode("utf-8")[:max_bytes]) or [0] for text in texts]
    T = max(len(row) for row in rows)
    bytes_BT = torch.tensor([row + [0] * (T - len(row)) for row in rows])
    mask_BT = torch.tensor([[True] * len(row) + [False] * (T - len(row)) for row in rows])
    return SourceBytes(bytes_BT, mask_BT)


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

    def __init__(self, Z: int) -> None:
        super().__init__()
        self.query = nn.Linear(Z, Z)
        self.key_value = nn.Linear(Z, 2 * Z)
        self.out = nn.Linear(Z, Z)

    def forward(self, x_BMZ: Tensor, y_BTZ: Tensor, mask_BT: Tensor) -> Tensor:
        """-> BMZ."""
        B, M, Z = x_BMZ.shape
        K = Z // NUM_HEADS
        k_BTZ, v_BTZ = self.key_value(y_BTZ).chunk(2, dim=-1)
        q_BHMK = self.query(x_BMZ).view(B, M, NUM_HEADS, K).transpose(1, 2)
        k_BHTK = k_BTZ.reshape(B, -1, NUM_HEADS, K).transpose(1, 2)
        v_BHTK = v_BTZ.reshape(B, -1, NUM_HEADS, K).transpose(1, 2)
        o_BHMK = F.scaled_dot_product_attention(q_BHMK, k_BHTK, v_BHTK, attn_mask=mask_BT[:, None, None, :])
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


class Layer(nn.Module):
    """Post-norm: x ← LN(x + attention(x, x)); x ← LN(x + ff(x))."""

    def __init__(self, Z: int) -> None:
        super().__init__()
        self.attention = Attention(Z)
        self.attention_norm = nn.LayerNorm(Z)
        self.feed_forward = FeedForward(Z, 4)
        self.feed_forward_norm = nn.LayerNorm(Z)

    def forward(self, x_BTZ: Tensor, mask_BT: Tensor) -> Tensor:
        """-> BTZ."""
        x_BTZ = self.attention_norm(x_BTZ + self.attention(x_BTZ, x_BTZ, mask_BT))
        y_BTZ: Tensor = self.feed_forward_norm(x_BTZ + self.feed_forward(x_BTZ))
        return y_BTZ


class Pooler(nn.Module):
    """M learned queries q read the bytes.

    r = q + attention(q, x)                what a slot read
    g = sigmoid(W LN(r))                   how much of it the slot takes, per dimension
    s = g r + (1 - g) q
    z = s + ff(LN(s))
    """

    def __init__(self, Z: int, M: int) -> None:
        super().__init__()
        self.queries_MZ = nn.Parameter(torch.empty(M, Z))
        self.attention = Attention(Z)
        self.gate_norm = nn.LayerNorm(Z)
        self.gate = nn.Linear(Z, Z)
        self.feed_forward_norm = nn.LayerNorm(Z)
        self.feed_forward = FeedForward(Z, 2)

    def forward(self, x_BTZ: Tensor, mask_BT: Tensor) -> Tensor:
        """-> z_BMZ."""
        q_BMZ = self.queries_MZ.expand(x_BTZ.shape[0], -1, -1)
        r_BMZ = q_BMZ + self.attention(q_BMZ, x_BTZ, mask_BT)
        g_BMZ = torch.sigmoid(self.gate(self.gate_norm(r_BMZ)))
        s_BMZ = g_BMZ * r_BMZ + (1 - g_BMZ) * q_BMZ
        z_BMZ: Tensor = s_BMZ + self.feed_forward(self.feed_forward_norm(s_BMZ))
        return z_BMZ


class BytesEncoder(nn.Module):
    """bytes_BT, mask_BT -> z_BMZ, float32. `wires.initialise` gives the tensors their values."""

    sinusoid_TZ: Tensor

    def __init__(self, Z: int, M: int, max_bytes: int) -> None:
        """Sizes of the latent, and the longest source. ValueError where the heads do not divide Z."""
        if Z % NUM_HEADS:
            raise ValueError(f"latent width {Z} is not divisible by the encoder's {NUM_HEADS} heads")
        super().__init__()
        self.max_bytes = max_bytes
        self.embed = nn.Embedding(256, Z)
        self.register_buffer("sinusoid_TZ", sinusoid(max_bytes, Z), persistent=False)
        self.layers = nn.ModuleList(Layer(Z) for _ in range(NUM_LAYERS))
        self.norm = nn.LayerNorm(Z)
        self.pooler = Pooler(Z, M)

    def forward(self, bytes_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """-> z_BMZ. ValueError where a row is longer than the sinusoid."""
        T = bytes_BT.shape[1]
        if self.max_bytes < T:
            raise ValueError(f"{T} bytes, but the encoder's sinusoid holds {self.max_bytes}: cut the source first")
        x_BTZ = self.embed(bytes_BT) + self.sinusoid_TZ[:T]
        for layer in self.layers:
            x_BTZ = layer(x_BTZ, mask_BT)
        z_BMZ: Tensor = self.pooler(self.norm(x_BTZ), mask_BT)
        return z_BMZ
