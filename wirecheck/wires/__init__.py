"""The wires wirecheck ships, by name: a literal to be read. Importing it loads no torch; building a wire does."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from wirecheck.schema import WireSpec

if TYPE_CHECKING:
    from torch import nn

    from wirecheck.wires.adapter import Adapter, TableStatistics
    from wirecheck.wires.bytes_encoder import BytesEncoder


class ParameterCount(NamedTuple):
    """Trainable scalars of one wire towards one model: the encoder is shared, the adapter is that model's own."""

    encoder: int
    adapter: int


@dataclass(frozen=True, kw_only=True)
class Wire:
    """One way to turn text into a latent and the latent into a prefix."""

    sentence: str
    """What the wire does, for the report."""
    encoder: Callable[[WireSpec, int], BytesEncoder]
    """(spec, seed) -> encoder, float32. ValueError where the spec's sizes do not fit."""
    adapter: Callable[[WireSpec, TableStatistics, int], Adapter]
    """(spec, statistics of the model's embedding table, seed) -> adapter, float32."""
    parameter_count: Callable[[WireSpec, int], ParameterCount]
    """(spec, hidden size of the model) -> scalars, by arithmetic."""


def parameter_count(wire: WireSpec, hidden_size: int) -> ParameterCount:
    """Trainable scalars of `wire` towards a model of that hidden size, without building it. KeyError: no such wire."""
    return WIRES[wire.name].parameter_count(wire, hidden_size)


def initialise(module: nn.Module, seed: int) -> None:
    """Every trainable tensor of a wire starts here, from `seed` alone; the global generator is not touched.

    | tensor                   | start                                                          |
    |--------------------------|----------------------------------------------------------------|
    | weight of a Linear       | N(0, 2 / (fan in + fan out)), Glorot's                         |
    | bias of a Linear         | 0                                                              |
    | byte embedding           | N(0, 1), as strong as the sinusoid added to it                 |
    | learned queries, slots   | N(0, 1 / Z): small beside what they read, and no two alike     |
    | LayerNorm                | weight 1, bias 0                                               |
    | scale of an adapter      | 1: the prefix starts at the RMS it is calibrated to            |
    """
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        match part:
            case nn.Linear():
                nn.init.xavier_normal_(part.weight, generator=generator)
                nn.init.zeros_(part.bias)
            case nn.Embedding():
                nn.init.normal_(part.weight, generator=generator)
            case nn.LayerNorm():
                nn.init.ones_(part.weight)
                nn.init.zeros_(part.bias)
        for name, tensor in part.named_parameters(recurse=False):
            if name in ("queries_MZ", "slots_MZ"):
                nn.init.normal_(tensor, std=1 / math.sqrt(tensor.shape[-1]), generator=generator)
            elif name == "scale":
                nn.init.ones_(tensor)


def _bytes_encoder(spec: WireSpec, seed: int) -> BytesEncoder:
    from wirecheck.wires.bytes_encoder import BytesEncoder

    encoder = BytesEncoder(spec.latent_width, spec.latent_length, spec.max_bytes)
    initialise(encoder, seed)
    return encoder


def _adapter(spec: WireSpec, table: TableStatistics, seed: int) -> Adapter:
    from wirecheck.wires.adapter import Adapter

    adapter = Adapter(spec.latent_width, spec.latent_length, spec.max_bytes, table)
    initialise(adapter, seed)
    return adapter


def _bytes_parameters(spec: WireSpec, hidden_size: int) -> ParameterCount:
    """Weights and biases, part by part, in the order of `BytesEncoder` and `Adapter`."""
    Z, M, D = spec.latent_width, spec.latent_length, hidden_size
    norm = 2 * Z
    attention = _linear(Z, Z) + _linear(Z, 2 * Z) + _linear(Z, Z)
    layer = attention + norm + _linear(Z, 4 * Z) + _linear(4 * Z, Z) + norm
    pooler = M * Z + attention + norm + _linear(Z, Z) + norm + _linear(Z, 2 * Z) + _linear(2 * Z, Z)
    metadata = M * Z + _linear(1, Z)
    body = norm + _linear(Z, 2 * Z) + _linear(2 * Z, 2 * Z) + _linear(2 * Z, D) + _linear(Z, D)
    film = 2 * _linear(Z, D)
    return ParameterCount(encoder=256 * Z + 6 * layer + norm + pooler, adapter=metadata + body + film + 2 * D + 1)


def _linear(fan_in: int, fan_out: int) -> int:
    return fan_in * fan_out + fan_out


WIRES: dict[str, Wire] = {
    "bytes": Wire(
        sentence="a transformer pools the source's UTF-8 bytes into the latent; one adapter per model projects it",
        encoder=_bytes_encoder,
        adapter=_adapter,
        parameter_count=_bytes_parameters,
    ),
}
