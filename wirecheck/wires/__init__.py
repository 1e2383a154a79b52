"""The wires wirecheck ships, by name: a literal to be read. Importing it loads no torch; making a wire does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from wirecheck.schema import WireSpec
from wirecheck.wires import counts
from wirecheck.wires.counts import ParameterCount, frozen_parameters
from wirecheck.wires.sizes import receiving

if TYPE_CHECKING:
    from wirecheck.wires.contract import Factory, Settings, WiredModel
    from wirecheck.wires.prefix_wire import PrefixWire

__all__ = [
    "WIRES",
    "PairCount",
    "ParameterCount",
    "ShippedWire",
    "frozen_parameters",
    "pair_count",
    "parameter_count",
]


@dataclass(frozen=True, kw_only=True)
class ShippedWire:
    """One way to turn text into soft tokens of two models."""

    sentence: str
    """What the wire does, for the report."""
    factory: Factory
    """The contract's factory: two models and the settings -> the wire."""
    count: Callable[[WireSpec, int, int], ParameterCount]
    """(spec, hidden size of the model, hidden size of the other) -> scalars, by arithmetic."""

    def parameter_count(self, spec: WireSpec, hidden_size: int, other_hidden_size: int | None = None) -> ParameterCount:
        """Trained scalars towards a model of that hidden size; the other model's, where it is not given, is the same.

        CannotRun where the spec does not say enough.
        """
        return self.count(spec, hidden_size, hidden_size if other_hidden_size is None else other_hidden_size)


class PairCount(NamedTuple):
    """Trained scalars of one wire between two models; an adapter that is not there has none."""

    encoder: int
    adapter_a: int
    adapter_b: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)


def parameter_count(wire: WireSpec, hidden_size: int, other_hidden_size: int | None = None) -> ParameterCount:
    """Trained scalars of `wire` towards a model, without making it. KeyError: no such wire. Else as `ShippedWire`'s."""
    return WIRES[wire.name].parameter_count(wire, hidden_size, other_hidden_size)


def pair_count(wire: WireSpec, hidden_a: int, hidden_b: int) -> PairCount:
    """Trained scalars of `wire` between models of those hidden sizes. KeyError and CannotRun as `parameter_count`."""
    towards = {"a": parameter_count(wire, hidden_a, hidden_b), "b": parameter_count(wire, hidden_b, hidden_a)}
    adapters = {side: towards[side].adapter for side in receiving(wire)}
    return PairCount(towards["a"].encoder, adapters.get("a", 0), adapters.get("b", 0))


def _bytes(a: WiredModel, b: WiredModel, settings: Settings) -> PrefixWire:
    from wirecheck.wires.bytes_encoder import bytes_wire

    return bytes_wire(a, b, settings)


def _sentence_query(a: WiredModel, b: WiredModel, settings: Settings) -> PrefixWire:
    from wirecheck.wires.sentence_query import sentence_query_wire

    return sentence_query_wire(a, b, settings)


def _resampler(a: WiredModel, b: WiredModel, settings: Settings) -> PrefixWire:
    from wirecheck.wires.resampler import resampler_wire

    return resampler_wire(a, b, settings)


WIRES: dict[str, ShippedWire] = {
    "bytes": ShippedWire(
        sentence="a transformer pools the source's UTF-8 bytes into the latent; one adapter per model projects it",
        factory=_bytes,
        count=counts.bytes_count,
    ),
    "sentence-query": ShippedWire(
        sentence=(
            "learned queries pool the token features of a frozen sentence encoder into the latent; one adapter per "
            "model projects it"
        ),
        factory=_sentence_query,
        count=counts.sentence_query_count,
    ),
    "resampler": ShippedWire(
        sentence="a perceiver resampler turns one model's hidden states at a layer into soft tokens of the other",
        factory=_resampler,
        count=counts.resampler_count,
    ),
}
