"""What the checks of a wire in use share: the wire in eval mode, its rows alone and together, differences in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from wirecheck.errors import CannotRun
from wirecheck.probe import ModelBench, PairBench, Yielded
from wirecheck.probes.stops import ids_of, read_stops
from wirecheck.probes.wiring import Ground, figure
from wirecheck.schema import Evidence

if TYPE_CHECKING:
    from wirecheck.wires.contract import Batch, SideName, WiredModel
    from wirecheck.wires.steady import Said, SteadyWire
    from wirecheck.wires.watch import Observation

REPEATS = 1e-6
"""Relative difference of one loss computed twice in the same way: the bits are mostly the same."""


@dataclass
class Case:
    """One wire between two models, and what has been seen of it so far."""

    bench: PairBench
    ground: Ground
    steady: SteadyWire
    """In eval mode."""
    make_other: Callable[[], SteadyWire]
    """Another wire of another seed, in eval mode too. Raises as `wiring.make` does."""

    @cached_property
    def samples(self) -> Batch:
        """The small batch of text."""
        from wirecheck.wires.samples import SAMPLES

        return SAMPLES

    @cached_property
    def alone(self) -> tuple[Observation, ...]:
        """A step on each row by itself."""
        from wirecheck.wires.contract import Batch

        return tuple(self.steady.observe(Batch((s,), (a,))) for s, a in zip(*self.samples, strict=True))

    @cached_property
    def together(self) -> Observation:
        """A step on all rows."""
        return self.steady.observe(self.samples)

    @cached_property
    def first_row(self) -> Batch:
        """The batch of one row."""
        from wirecheck.wires.contract import Batch

        return Batch(self.samples.sources[:1], self.samples.answers[:1])

    @property
    def models(self) -> tuple[WiredModel, ...]:
        """Those that the loss asks something of; all that a gradient comes back through where it asks none."""
        from wirecheck.wires.alignment import answering

        asked = answering(self.together)
        return tuple(one for one in self.steady.models if one.side in asked)

    @cached_property
    def repeats(self) -> bool:
        """Whether the same call with the same seed gives the same loss."""
        from wirecheck.wires.contract import HasBackward

        again = self.steady.forward(self.first_row).loss
        one_way = not isinstance(self.steady.wire, HasBackward)  # its schedule may scale the loss
        first = self.alone[0].loss if one_way else self.steady.forward(self.first_row).loss
        return abs(first - again) <= REPEATS * abs(first)

    def must_repeat(self, what: str) -> None:
        """CannotRun where two calls of this wire cannot be compared; `what` is what that leaves open."""
        if not self.repeats:
            raise CannotRun(f"{what}: the wire's loss is another at each call, though in eval mode and of one seed")

    def alone_said(self, side: SideName) -> list[Said] | None:
        """Of each row by itself; None where the loss rests on nothing that one model says."""
        from wirecheck.wires.steady import said

        return _all(said(seen.of(side), 0, 1) for seen in self.alone)

    def said(self, side: SideName) -> list[Said] | None:
        """Of each row in the batch; None where a row cannot be told from the others."""
        if side not in self._said:
            from wirecheck.wires.steady import said

            rows = range(len(self.samples.sources))
            self._said[side] = _all(said(self.together.of(side), row, len(rows)) for row in rows)
        return self._said[side]

    @cached_property
    def _said(self) -> dict[SideName, list[Said] | None]:
        return {}

    def ends(self, side: SideName) -> frozenset[int]:
        """Ids that end a text or a turn of one model, wherever they are named."""
        one: ModelBench = self.bench.a if side == "a" else self.bench.b
        turn_end = self.bench.value(side, "turn_end")
        known: dict[str, int] = one.vocabulary if isinstance(turn_end, str) else {}
        model = next(wired for wired in self.steady.models if wired.side == side).model
        used = (getattr(held, "eos_token_id", None) for held in (model.generation_config, model.config))
        named = frozenset(known[token] for token in (str(turn_end),) if token in known)
        return read_stops(one).anywhere.union(named, *(ids_of(held) for held in used))

    def within(self, difference: float, allowed: float, *, of: str) -> Evidence:
        """A difference of log-probabilities beside what rounding may make of it."""
        from wirecheck.wires.steady import REORDERED

        expected = f"at most {allowed:.2g} ({REORDERED} rounding steps of float32 at the largest log-probability)"
        return self.ground.saw(figure(difference), expected, of=of)


Check = Callable[[Case], Iterator[Yielded]]
"""Findings of one code or two. Raises StepFailed, MemoryError; CannotRun, in words, where something cannot be told."""


def _all(found: Iterable[Said | None]) -> list[Said] | None:
    """None where one is missing."""
    rows = list(found)
    told = [one for one in rows if one is not None]
    return told if len(told) == len(rows) else None


def letters(sides: Iterable[str]) -> str:
    """`A`, or `A and B`."""
    return " and ".join(side.upper() for side in sides)
