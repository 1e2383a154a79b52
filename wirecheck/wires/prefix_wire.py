"""The step that the shipped wires share: one reading of the sources, a prefix for each model, the losses of both.

B batch   M soft tokens   D model width   θ encoder   φ_i what projects towards model i

r = read_θ(sources)      prefix_i = project_φi(r)      L = Σ_i Σ_terms loss(model_i, prefix_i, answers)

joint        all forwards, then one backward of L. Peak: both models' activations together.
sequential   one model after the other: dL/dr adds up in a leaf, and one backward through the encoder ends it.
             L = Σ L_i(r), hence dL/dθ = (Σ dL_i/dr) dr/dθ: the same gradient; the larger model's activations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from wirecheck.wires.contract import Batch, Settings, SideName
from wirecheck.wires.failure import part
from wirecheck.wires.losses import LOSSES
from wirecheck.wires.receiver import Receiver
from wirecheck.wires.recompute import recomputing


class Projection(Protocol):
    """What makes soft tokens of a reading, for one model: an `nn.Module`."""

    @property
    def __call__(self) -> Callable[..., Tensor]:
        """What was read, towards this side -> prefix_BMD, float32, at the scale of the model's embeddings."""

    @property
    def body(self) -> Callable[..., Tensor]:
        """The same -> x_BMD, float32, before it is brought to that scale."""


class Reader(Protocol):
    """What reads the sources."""

    def read(self, sources: Sequence[str]) -> dict[str, Tensor]:
        """The reading, by name. What asks for a gradient there is differentiated; the rest is passed on."""

    def towards(self, side: SideName, reading: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """What that side's projection is given of it."""


class PrefixWire:
    """A wire of the contract: `module`, `loss`, `prefix`, `generate`, and `uncalibrated`, with the joint schedule."""

    def __init__(
        self,
        settings: Settings,
        reader: Reader,
        projections: Mapping[SideName, Projection],
        receivers: Mapping[SideName, Receiver],
        module: nn.Module,
    ) -> None:
        """`projections` and `receivers` have one entry per model that is handed soft tokens; `module` holds what of it
        all is trained.
        """
        self.settings = settings
        self.reader, self.projections, self.receivers = reader, projections, receivers
        self._module = module

    @property
    def module(self) -> nn.Module:
        """Everything trained: `encoder.…` where there is one, `adapter_a.…`, `adapter_b.…`."""
        return self._module

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The terms: `a` and `b` for the answer's cross-entropy alone, else `a.answer`, `a.first-k`, `a.kd`, …"""
        with self._recomputing():
            reading = self.read(batch)
            terms: dict[str, Tensor] = {}
            for side in self.receivers:
                terms |= self._terms(side, reading, batch)
        return terms

    def prefix(self, batch: Batch) -> dict[SideName, Tensor]:
        """prefix_BMD of each model that gets one, float32."""
        reading = self.read(batch)
        return {side: self._soft_tokens(side, reading) for side in self.receivers}

    def uncalibrated(self, batch: Batch) -> dict[SideName, Tensor]:
        """x_BMD of each model that gets a prefix, before it is coloured, calibrated and scaled, float32."""
        reading = self.read(batch)
        return {side: self.projections[side].body(*self.reader.towards(side, reading)) for side in self.receivers}

    @torch.no_grad()
    def generate(self, batch: Batch, max_new_tokens: int) -> dict[SideName, list[list[int]]]:
        """Greedy and cached, from prefix and anchor; rows end with the tokenizer's EOS where they reach it."""
        prefixes = self.prefix(batch)
        return {side: self.receivers[side].generate(prefix, max_new_tokens) for side, prefix in prefixes.items()}

    # --- parts ---------------------------------------------------------------------------------------------------

    def read(self, batch: Batch) -> dict[str, Tensor]:
        """What the sources are to the projections."""
        with part("encoder"):
            return self.reader.read(batch.sources)

    def _soft_tokens(self, side: SideName, reading: Mapping[str, Tensor]) -> Tensor:
        projection, given = self.projections[side], self.reader.towards(side, reading)
        with part(f"adapter {side}", **{f"input {i}": tensor for i, tensor in enumerate(given)}):
            if self.settings.train.grad_checkpointing and torch.is_grad_enabled():
                again: Tensor = checkpoint(projection, *given, use_reentrant=False)
                return again
            return projection(*given)

    def _terms(self, side: SideName, reading: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        prefix_BMD, spec = self._soft_tokens(side, reading), self.settings.wire
        named = {
            side if spec.losses == ("answer",) else f"{side}.{name}": LOSSES[name]
            for name in dict.fromkeys(spec.losses)
        }
        return {name: loss(self.receivers[side], prefix_BMD, batch, spec.first_k) for name, loss in named.items()}

    @contextmanager
    def _recomputing(self) -> Iterator[None]:
        with ExitStack() as stack:
            if self.settings.train.grad_checkpointing:
                for side, receiver in self.receivers.items():
                    with part(f"checkpointing of {side}"):
                        stack.enter_context(recomputing(receiver.model))
            yield


class SequentialPrefixWire(PrefixWire):
    """The same wire with a schedule of its own: one model after the other."""

    def backward(self, batch: Batch) -> dict[str, Tensor]:
        """Forward and backward; gradients are left in `module`. The detached terms of the loss, by name."""
        with self._recomputing():
            reading = self.read(batch)
            leaves = {name: x.detach().requires_grad_() if x.requires_grad else x for name, x in reading.items()}
            losses: dict[str, Tensor] = {}
            for side in self.receivers:
                terms = self._terms(side, leaves, batch)
                with part(f"backward of {side}"):
                    torch.autograd.backward(tuple(terms.values()))
                losses |= {name: term.detach() for name, term in terms.items()}
        shared = [(reading[name], leaf.grad) for name, leaf in leaves.items() if leaf.grad is not None]
        if shared:
            with part("backward of encoder"):
                torch.autograd.backward([x for x, _ in shared], [grad for _, grad in shared])
        return losses


def prefix_wire(
    settings: Settings,
    reader: Reader,
    projections: Mapping[SideName, Projection],
    receivers: Mapping[SideName, Receiver],
    module: nn.Module,
) -> PrefixWire:
    """The wire with the schedule that `settings.train.resident` asks for."""
    kind = SequentialPrefixWire if settings.train.resident == "sequential" else PrefixWire
    return kind(settings, reader, projections, receivers, module)
