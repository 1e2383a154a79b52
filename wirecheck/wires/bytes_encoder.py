"""The wire *bytes*: text to latent, through its UTF-8 bytes; one adapter per model turns the latent into soft tokens.

    B batch   T source bytes   M latent slots, shared and private   Z latent width

    bytes_BT -> x_BTZ         byte embedding + sinusoid, six post-norm transformer layers, LayerNorm
    x_BTZ    -> z_BMZ         M learned queries read the bytes; a gate mixes what they read with what they are
    z_BMZ    -> prefix_BMD    `adapter`, once per model, from the slots that model reads (`text_wire`)

Padding is told by mask_BT alone (True: a byte of the source); no byte value means padding, and a masked byte
changes nothing in z.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wirecheck.wires.attention import Attention, FeedForward, sinusoid
from wirecheck.wires.contract import Settings, WiredModel
from wirecheck.wires.initial import initialise
from wirecheck.wires.prefix_wire import PrefixWire
from wirecheck.wires.sizes import NUM_HEADS
from wirecheck.wires.text_wire import text_wire

NUM_LAYERS = 6


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


class BytesReading:
    """Sources -> what the adapters are given: z_BMZ, and each source's length as read over the longest."""

    def __init__(self, encoder: BytesEncoder) -> None:
        self.encoder = encoder

    def __call__(self, sources: Sequence[str]) -> tuple[Tensor, Tensor]:
        """-> z_BMZ, length_B in 0..1, both float32."""
        device = self.encoder.embed.weight.device
        source = SourceBytes(*(tensor.to(device) for tensor in read_bytes(sources, self.encoder.max_bytes)))
        return self.encoder(*source), source.lengths_B / self.encoder.max_bytes


def bytes_wire(a: WiredModel, b: WiredModel, settings: Settings) -> PrefixWire:
    """The factory of the wire *bytes*. Raises ValueError where sizes do not fit, CannotRun as `text_wire` does."""
    spec = settings.wire
    encoder = BytesEncoder(spec.latent_width, spec.latent_length + 2 * spec.private_length, spec.max_bytes)
    initialise(encoder, settings.seed)
    encoder.to(next(a.model.get_input_embeddings().parameters()).device)
    return text_wire(a, b, settings, encoder, BytesReading(encoder))
