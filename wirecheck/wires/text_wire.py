"""What the wires that read text share: one latent, and one adapter per model.

B batch   M shared slots   P private slots of each model   Z latent width   D model width

sources -> z_BNZ           an encoder; N = M + 2 P slots: [shared M][private to A, P][private to B, P]
z_BNZ   -> prefix_B(M+P)D  each model's adapter reads the shared slots and its own
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from wirecheck.schema import WireSpec
from wirecheck.wires.adapter import Adapter, TableStatistics, read_table
from wirecheck.wires.contract import Settings, SideName, WiredModel
from wirecheck.wires.initial import initialise
from wirecheck.wires.prefix_wire import PrefixWire, prefix_wire
from wirecheck.wires.receiver import Receiver


class Encode(Protocol):
    """Sources as a latent."""

    def __call__(self, sources: Sequence[str]) -> tuple[Tensor, Tensor]:
        """-> z_BNZ, float32; length_B: how much was read of each source, over the most that is read."""


class TextReader:
    """The latent, and the slots of it that each model reads."""

    def __init__(self, encode: Encode, spec: WireSpec, devices: Mapping[SideName, torch.device]) -> None:
        """`devices`: where each model's adapter stands."""
        self.encode, self.spec, self.devices = encode, spec, devices

    def read(self, sources: Sequence[str]) -> dict[str, Tensor]:
        """`z` and `length`."""
        z_BNZ, length_B = self.encode(sources)
        return {"z": z_BNZ, "length": length_B}

    def towards(self, side: SideName, reading: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """-> z_B(M+P)Z, length_B on that model's device."""
        M, P = self.spec.latent_length, self.spec.private_length
        begin = M if side == "a" else M + P
        z_BNZ, device = reading["z"], self.devices[side]
        own_BMZ = z_BNZ if P == 0 else torch.cat((z_BNZ[:, :M], z_BNZ[:, begin : begin + P]), dim=1)
        return own_BMZ.to(device), reading["length"].to(device)


def adapter_of(spec: WireSpec, table: TableStatistics) -> Adapter:
    """The adapter that the spec describes, towards a model with that table; its tensors have no values yet."""
    M = spec.prefix_length
    options: dict[str, Any] = {
        "multiple": spec.hidden_multiple,
        "metadata": spec.metadata,
        "colour": spec.colour,
    }
    return Adapter(spec.latent_width, M, table, **options)


def text_wire(a: WiredModel, b: WiredModel, settings: Settings, encoder: nn.Module, encode: Encode) -> PrefixWire:
    """A wire of that encoder and two adapters. `encode` runs `encoder`, which alone is trained of what it uses.

    CannotRun where a tokenizer makes no tokens of plain text.
    """
    receivers: dict[SideName, Receiver] = {one.side: Receiver(one, settings.train) for one in (a, b)}
    adapters: dict[SideName, Adapter] = {}
    for number, (side, receiver) in enumerate(receivers.items(), start=1):
        adapter = adapter_of(settings.wire, read_table(receiver.embedding, receiver.num_tokens))
        initialise(adapter, settings.seed + number)
        adapters[side] = adapter.to(receiver.table.device)
    module = nn.ModuleDict({"encoder": encoder} | {f"adapter_{side}": adapter for side, adapter in adapters.items()})
    reader = TextReader(encode, settings.wire, {side: one.table.device for side, one in receivers.items()})
    return prefix_wire(settings, reader, adapters, receivers, module)
