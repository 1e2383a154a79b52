"""One step's memory along an axis, rows or text tokens, on one GPU: from a surface where it is shown, else traced.

A curve is asked for values on its lattice: every batch, or every 128th length. Where the surface speaks, an answer
takes a tenth of a millisecond; elsewhere it takes a trace, which is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from wirecheck import zoo
from wirecheck.errors import CannotRun
from wirecheck.vram.attention import Target
from wirecheck.vram.plan import Step
from wirecheck.vram.search import POSITION_STEP, first_context
from wirecheck.vram.step import MOST_IDS, Built, Extent, Traced, trace_step, weight_bytes
from wirecheck.vram.surface import Axis, Surface, batch_axis, context_axis, surface

AxisName = Literal["batch", "context"]
WARM, THIN = Extent(warm=True), Extent(thin=True, warm=True)
WINDOWS = ("sliding_window", "attention_chunk_size", "attention_window_size")
"""Fields of configs with a number of positions past which a layer does something else."""


@dataclass(frozen=True)
class Traces:
    """The traces of one step at several sizes, for the kernels of one target; each is made once."""

    step: Step
    target: Target
    made: dict[Any, Traced] = field(default_factory=dict, repr=False, compare=False)
    built: Built = field(default_factory=dict, repr=False, compare=False)

    def at(self, axis: AxisName, value: int, extent: Extent) -> Traced:
        """The step at that batch, or that context. Raises CannotTrace."""
        train = self.step.train.model_copy(update={axis: value})
        key = (train.batch, train.context, extent)
        if key not in self.made:
            step = self.step
            self.made[key] = trace_step(
                step.configs, step.wire, train, self.target, step.seed, extent, built=self.built
            )
        return self.made[key]


@dataclass(frozen=True)
class Curve:
    """Peaks and requests to the allocator along one axis."""

    traces: Traces
    axis: AxisName
    end: int
    """The largest value there is to ask for."""
    exact: bool = False
    """Whether every value is to be traced, surface or not."""

    @property
    def stride(self) -> int:
        """From one value of the lattice to the next."""
        return 1 if self.axis == "batch" else POSITION_STEP

    @cached_property
    def least(self) -> int:
        """The first value of the lattice, on which the value asked for lies."""
        return 1 if self.axis == "batch" else first_context(self.traces.step.train.context)

    @cached_property
    def most(self) -> int:
        """The last value of the lattice: less than `least` where there is none."""
        train, wire = self.traces.step.train, self.traces.step.wire
        end = self.end
        if self.shown is None:  # each value is traced, and a trace holds the ids of all rows
            row = max(train.sequence_length(wire), wire.max_bytes)
            end = min(end, MOST_IDS // row if self.axis == "batch" else MOST_IDS // train.batch - row)
        return self.least + (end - self.least) // self.stride * self.stride

    @cached_property
    def shown(self) -> Surface | None:
        """The surface; None where none is shown, whatever the reason. Raises CannotTrace."""
        for axis in () if self.exact else self.axes():
            whole = self._at(axis.first).ledger
            try:
                return surface(whole, [self.traces.at(self.axis, p, THIN).ledger for p in axis.points], axis)
            except CannotRun:
                continue
        return None

    @property
    def shown_from(self) -> int:
        """The first value the surface speaks of; `least` where there is none."""
        return self.least if self.shown is None else self.shown.axis.least

    @cached_property
    def held_bytes(self) -> int:
        """Of models' weights, on the GPU at any value. Raises CannotTrace."""
        traces, train = self.traces, self.traces.step.train
        each = weight_bytes(traces.step.configs, train, traces.target, traces.built).values()
        return max(each) if train.resident == "sequential" else sum(each)

    def exact_peak(self, value: int) -> int:
        """The most bytes alive at a time, traced at that value. Raises CannotTrace."""
        return self._at(value).peak.bytes

    def peak_bytes(self, value: int) -> int:
        """The most bytes alive at a time. Raises CannotTrace."""
        if self._is_shown(value):
            assert self.shown is not None
            return self.shown.peak_bytes(value)
        return self.exact_peak(value)

    def events(self, value: int) -> Sequence[tuple[int, int]]:
        """What the allocator is asked for. Raises CannotTrace."""
        if self._is_shown(value):
            assert self.shown is not None
            return self.shown.events(value)
        return self._at(value).ledger.events

    def _at(self, value: int) -> Traced:
        return self.traces.at(self.axis, value, WARM)

    def _is_shown(self, value: int) -> bool:
        return self.shown is not None and value >= self.shown_from

    def axes(self) -> list[Axis]:
        """Where a surface may begin: at the values asked for; for lengths, past every layer's window too."""
        step = self.traces.step
        if self.axis == "batch":
            return [batch_axis(step.train.batch)]
        taken = step.wire.prefix_length + step.train.answer
        windows = [size for config in step.configs.values() for size in _windows(config)]
        past = [self.least + -(-max(size - taken - self.least, 0) // POSITION_STEP) * POSITION_STEP for size in windows]
        return [context_axis(first) for first in sorted({self.least, max(past, default=self.least)})]


def _windows(config: Any) -> list[int]:
    fields = zoo.text_config(config).to_dict()
    return [size for name in WINDOWS if isinstance(size := fields.get(name), int) and size > 0]
