"""One step's memory over rows and lengths at once, from a few traces: its curves along rows at other contexts.

A block's bytes are a polynomial of the batch (degree one) times one of the positions (degree two), as on the surfaces
of one axis; further corners are traced, and have to come out to the byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from wirecheck.errors import CannotRun
from wirecheck.vram.curve import THIN, WARM, Curve, Traces
from wirecheck.vram.plan import Step
from wirecheck.vram.search import MOST_ROWS
from wirecheck.vram.step import Built, trace_step
from wirecheck.vram.surface import (
    Axis,
    Floats,
    NotShown,
    Surface,
    batch_axis,
    evaluated,
    forward,
    grown,
    newton,
    of_events,
)

if TYPE_CHECKING:
    from wirecheck.vram.attention import Target
    from wirecheck.vram.live import Block, Ledger

Corner = tuple[int, int]
"""A batch and a context."""


@dataclass(frozen=True)
class Plane:
    """A step's blocks over both axes, and its events."""

    rows: Axis
    lengths: Axis
    differences: Floats
    """(2, degree of the lengths + 1, events): of the bytes at the first batch, and of what each further row adds."""
    signs: Floats
    blocks: tuple[int, ...]

    def tells(self, context: int) -> bool:
        """Whether that context lies on the lattice of the lengths, from the first traced on."""
        steps, off = divmod(context - self.lengths.first, self.lengths.step)
        return steps >= 0 and not off

    def at(self, context: int) -> Surface:
        """Along rows, at that context of the lattice."""
        along = evaluated(self.differences.swapaxes(0, 1), self.lengths, context)
        return Surface(self.rows, along, self.signs, self.blocks)


def corners(rows: Axis, lengths: Axis) -> tuple[list[Corner], list[Corner]]:
    """Where a polynomial is made from, the first corner first; and where it has to hold too: far out, and with few."""
    line = [lengths.first + lengths.step * k for k in range(lengths.degree + 1)]
    far = lengths.first + lengths.step * max(lengths.checks)
    made = [(rows.first + rows.step * k, context) for k in range(rows.degree + 1) for context in line]
    return made, [(rows.first + rows.step * k, far) for k in rows.checks]


def plane(whole: Ledger, thin: list[Ledger], rows: Axis, lengths: Axis) -> Plane:
    """The whole model's trace at the first corner, thin models' at all of them. Raises NotShown."""
    made, checks = corners(rows, lengths)
    count = lengths.degree + 1

    def growth(row: list[Block]) -> tuple[int, ...]:
        asked = [block.asked for block in row]
        first, next_ = forward(asked[:count]), forward(asked[count : 2 * count])
        more = tuple(after - before for before, after in zip(first, next_, strict=True))
        for (batch, context), seen in zip(checks, asked[len(made) :], strict=True):
            k = (context - lengths.first) // lengths.step
            if newton(first, k) + (batch - rows.first) * newton(more, k) != seen:
                raise NotShown(f"{row[0].op}: its bytes are no polynomial of rows and length: {asked}")
        return first + more

    table = grown(whole, thin, growth)
    return Plane(rows, lengths, table.reshape(2, count, -1), *of_events(whole))


@dataclass(frozen=True, kw_only=True)
class Slice(Curve):
    """Of a plane, at one context. Fewer rows than it speaks of are told along lengths, each number for itself."""

    over: Over
    plane: Plane

    @cached_property
    def shown(self) -> Surface | None:
        """Of the plane."""
        return self.plane.at(self.context)

    @property
    def context(self) -> int:
        """Text tokens of a row."""
        return self.traces.step.train.context

    def exact_peak(self, value: int) -> int:
        """The most bytes alive at a time. Raises CannotTrace."""
        return self.over.along(value).peak_bytes(self.context)

    def events(self, value: int) -> Sequence[tuple[int, int]]:
        """What the allocator is asked for. Raises CannotTrace."""
        if value >= self.shown_from:
            return super().events(value)
        return self.over.along(value).events(self.context)


@dataclass(frozen=True)
class Over:
    """One step for the kernels of one target, at several contexts."""

    step: Step
    """At the first of the contexts."""
    target: Target
    end: int
    """The longest context there is to ask for."""
    built: Built = field(default_factory=dict, repr=False, compare=False)
    _at: dict[int, Curve] = field(default_factory=dict, repr=False, compare=False)
    _along: dict[int, Curve] = field(default_factory=dict, repr=False, compare=False)

    def at(self, context: int) -> Curve:
        """Along rows at that context: of the plane where it speaks of it, else from traces at that context."""
        if context not in self._at:
            traces, whole = self._traces({"context": context}), self.shown
            self._at[context] = (
                Slice(traces, "batch", MOST_ROWS, over=self, plane=whole)
                if whole is not None and whole.tells(context)
                else Curve(traces, "batch", MOST_ROWS)
            )
        return self._at[context]

    def along(self, batch: int) -> Curve:
        """Along lengths at that batch."""
        if batch not in self._along:
            self._along[batch] = Curve(self._traces({"batch": batch}), "context", self.end)
        return self._along[batch]

    @cached_property
    def shown(self) -> Plane | None:
        """The plane; None where none is shown, whatever the reason."""
        step = self.step
        rows = batch_axis(step.train.batch)
        for lengths in self.along(step.train.batch).axes():
            try:
                made, checks = corners(rows, lengths)
                whole = self._ledger(made[0], thin=False)
                return plane(whole, [self._ledger(corner, thin=True) for corner in (*made, *checks)], rows, lengths)
            except CannotRun:
                continue
        return None

    def _ledger(self, corner: Corner, *, thin: bool) -> Ledger:
        batch, context = corner
        train = self.step.train.model_copy(update={"batch": batch, "context": context})
        step, extent = self.step, THIN if thin else WARM
        return trace_step(step.configs, step.wire, train, self.target, step.seed, extent, built=self.built).ledger

    def _traces(self, changed: dict[str, object]) -> Traces:
        return Traces(replace(self.step.but(changed), made={}), self.target, built=self.built)
