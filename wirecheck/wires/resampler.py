"""The wire *resampler*: hidden states of one model at one layer, as soft tokens of the other.

    B batch   T tokens of the source, in the sender's own tokenizer   S width of the sender   D width of the receiver
    K latents (soft tokens)   n blocks

    ids_BT     -> h_BTS         the frozen sender's hidden states at `source_layer`, no gradient, padding masked
    h_BTS      -> y_BTD         y = W (h - mean) / std: statistics of the sender's states, per dimension; W is there
                                where the widths differ
    latents_KD -> x_BKD         n blocks:  x += attention(LN x, y);  x += attention(LN x, LN x);  x += ff(LN x)
    x_BKD      -> prefix_BKD    scale rms(table) x / rms(x), token by token; scale: one learned scalar, 1 at the start

One resampler per receiving model, 8 heads each: both directions (two of them), or one. Layers count from 0, the
embeddings, to the depth, whose states have passed the final norm.

With D = S = 4096, K = 8, n = 2 a resampler has 537.06 M parameters: 16 n D² of matrices, 19 n D of biases and norms,
K D latents, the scale; S D + D more where the widths differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from wirecheck.schema import WireSpec
from wirecheck.wires.adapter import read_table, root_mean_square
from wirecheck.wires.attention import Attention, FeedForward
from wirecheck.wires.contract import Settings, SideName, WiredModel
from wirecheck.wires.initial import initialise
from wirecheck.wires.prefix_wire import PrefixWire, prefix_wire
from wirecheck.wires.receiver import Receiver
from wirecheck.wires.samples import SAMPLES
from wirecheck.wires.sizes import NUM_HEADS, receiving, source_layer

LEAST_DEVIATION = 1e-6
"""A dimension that never moves is divided by this instead of by nothing."""


class Block(nn.Module):
    """x += attention(LN x, y);  x += attention(LN x, LN x);  x += ff(LN x)."""

    def __init__(self, D: int, heads: int) -> None:
        super().__init__()
        self.cross_norm = nn.LayerNorm(D)
        self.cross = Attention(D, heads)
        self.own_norm = nn.LayerNorm(D)
        self.own = Attention(D, heads)
        self.feed_forward_norm = nn.LayerNorm(D)
        self.feed_forward = FeedForward(D, 4)

    def forward(self, x_BKD: Tensor, y_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """-> x_BKD."""
        x_BKD = x_BKD + self.cross(self.cross_norm(x_BKD), y_BTD, mask_BT)
        n_BKD = self.own_norm(x_BKD)
        x_BKD = x_BKD + self.own(n_BKD, n_BKD)
        out_BKD: Tensor = x_BKD + self.feed_forward(self.feed_forward_norm(x_BKD))
        return out_BKD


class Resampler(nn.Module):
    """h_BTS, mask_BT -> prefix_BKD, float32. `initialise` gives the trained tensors their values."""

    mean_S: Tensor
    std_S: Tensor
    rms: Tensor

    def __init__(self, S: int, D: int, K: int, rms: Tensor, *, depth: int, heads: int = NUM_HEADS) -> None:
        """`rms`: of the receiver's embedding table, a scalar. ValueError where the heads do not divide D."""
        super().__init__()
        self.project: nn.Module = nn.Linear(S, D) if S != D else nn.Identity()
        self.latents_MD = nn.Parameter(torch.empty(K, D))
        self.blocks = nn.ModuleList(Block(D, heads) for _ in range(depth))
        self.scale = nn.Parameter(torch.empty(()))
        self.register_buffer("mean_S", torch.zeros(S))
        self.register_buffer("std_S", torch.ones(S))
        self.register_buffer("rms", rms)

    def forward(self, hidden_BTS: Tensor, mask_BT: Tensor) -> Tensor:
        """-> prefix_BKD. The scalar stands behind the norm that would cancel it."""
        x_BKD = self.body(hidden_BTS, mask_BT)
        return self.scale * self.rms * x_BKD / root_mean_square(x_BKD, dim=(-1,)).clamp_min(1e-12)

    def body(self, hidden_BTS: Tensor, mask_BT: Tensor) -> Tensor:
        """-> x_BKD, at whatever scale the blocks leave it."""
        y_BTD = self.project((hidden_BTS - self.mean_S) / self.std_S)
        x_BKD = self.latents_MD.expand(len(hidden_BTS), -1, -1)
        for block in self.blocks:
            x_BKD = block(x_BKD, y_BTD, mask_BT)
        return x_BKD

    @torch.no_grad()
    def fit(self, hidden_BTS: Tensor, mask_BT: Tensor) -> None:
        """Take mean and deviation from those states; they are saved with the wire and not trained."""
        states_NS = hidden_BTS[mask_BT]
        self.mean_S.copy_(states_NS.mean(dim=0))
        self.std_S.copy_(states_NS.std(dim=0, correction=0).clamp_min(LEAST_DEVIATION))


class HiddenStates:
    """The frozen senders' hidden states at one layer each."""

    def __init__(
        self, senders: Mapping[SideName, tuple[Receiver, int]], devices: Mapping[SideName, torch.device]
    ) -> None:
        """`senders`: by the side that receives, the model read and the layer of it. `devices`: of the resamplers."""
        self.senders, self.devices = senders, devices

    @torch.no_grad()
    def read(self, sources: Sequence[str]) -> dict[str, Tensor]:
        """`hidden_a` float32 and `mask_a` bool for the side that receives them, `hidden_b` and `mask_b`."""
        found: dict[str, Tensor] = {}
        for side, (sender, layer) in self.senders.items():
            rows = [sender.tokenizer.encode(source) or [sender.tokenizer.eos_token_id or 0] for source in sources]
            output, tokens = sender.read(rows, output_hidden_states=True)
            states = getattr(output, "hidden_states", None)
            if states is None or not layer < len(states):
                given = "none" if states is None else f"those of layers 0 to {len(states) - 1}"
                raise ValueError(f"hidden states of layer {layer} were asked of {sender.side}, which gives {given}")
            found |= {f"hidden_{side}": states[layer].float(), f"mask_{side}": tokens.mask_BL}
        return found

    def towards(self, side: SideName, reading: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """-> hidden_BTS, mask_BT on that side's device."""
        return reading[f"hidden_{side}"].to(self.devices[side]), reading[f"mask_{side}"].to(self.devices[side])


def layer_of(one: WiredModel, spec: WireSpec) -> int:
    """The layer read of the model that runs: the one asked for, or the same part of a twin's depth.

    A twin keeps one layer of each kind: layer 21 of 32 is layer 1 of 2; layer 0, the embeddings, is 0 only by wish.
    """
    asked = source_layer(spec, one.num_layers)
    own_layers = int(getattr(one.model.config.get_text_config(), "num_hidden_layers", one.num_layers))
    if asked == 0 or own_layers == one.num_layers:
        return asked
    return max(1, round(asked * own_layers / one.num_layers))


def resampler_wire(a: WiredModel, b: WiredModel, settings: Settings) -> PrefixWire:
    """The factory of the wire *resampler*. ValueError where a size does not fit; CannotRun as `Receiver` does.

    The normaliser's statistics are of the sample batch's sources; a run would take them over its own data.
    """
    spec = settings.wire
    models: dict[SideName, WiredModel] = {one.side: one for one in (a, b)}
    ends = {side: Receiver(one, settings.train) for side, one in models.items()}
    sender_of: dict[SideName, SideName] = {"a": "b", "b": "a"}
    sides = receiving(spec)
    senders = {side: (ends[sender_of[side]], layer_of(models[sender_of[side]], spec)) for side in sides}
    reader = HiddenStates(senders, {side: ends[side].table.device for side in sides})
    sample = reader.read(SAMPLES.sources)
    resamplers: dict[SideName, Resampler] = {}
    for number, side in enumerate(sides, start=1):
        hidden_BTS, mask_BT = reader.towards(side, sample)
        resampler = _resampler(hidden_BTS.shape[-1], ends[side], spec, is_twin=models[side].is_twin)
        initialise(resampler, settings.seed + number)
        resamplers[side] = resampler.to(hidden_BTS.device)
        resampler.fit(hidden_BTS, mask_BT)
    module = nn.ModuleDict({f"adapter_{side}": resampler for side, resampler in resamplers.items()})
    return prefix_wire(settings, reader, resamplers, {side: ends[side] for side in sides}, module)


def _resampler(S: int, receiver: Receiver, spec: WireSpec, *, is_twin: bool) -> Resampler:
    D = receiver.table.shape[-1]
    heads = math.gcd(NUM_HEADS, D) if is_twin else NUM_HEADS  # a twin's width is ours, not the user's
    rms = read_table(receiver.embedding, receiver.num_tokens).rms
    return Resampler(S, D, spec.latent_length, rms, depth=spec.resampler_depth, heads=heads)
