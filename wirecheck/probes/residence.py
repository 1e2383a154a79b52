"""Which schedule the step on the real weights can afford here: both models' graphs together, or one after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from wirecheck import devices
from wirecheck.errors import CannotRun
from wirecheck.probe import ModelBench, PairBench
from wirecheck.probes.memory_shape import memory_shape
from wirecheck.schema import MemoryEstimate, TrainSpec
from wirecheck.vram.formula import MemoryShape, estimate

if TYPE_CHECKING:
    from wirecheck.schema import WireSpec

TEXT_POSITIONS = 48
"""Anchor and answer of the small batch, in the tokens of a wasteful tokenizer."""


def affordable(bench: PairBench) -> PairBench:
    """The bench, asking for the sequential schedule where a joint step on the small batch would not fit here.

    Both give the same gradient. Loads the real weights first: what is free is what they leave. CannotRun with the bytes
    needed and had where the sequential step does not fit either. Where the sizes are not known the bench stays.
    """
    from wirecheck.wires.samples import SAMPLES

    sides = (bench.a, bench.b)
    shapes = [_sizes(bench, one) for one in sides]
    for one in sides:
        one.weights  # noqa: B018 - loaded here, and kept
    a, b = shapes
    if a is None or b is None or bench.wire.is_own:
        return bench
    free = devices.free_bytes(devices.choose(bench.policy))
    train = bench.train.model_copy(update={"batch": len(SAMPLES.sources), "context": 0, "answer": TEXT_POSITIONS})
    for resident in dict.fromkeys((train.resident, "sequential")):
        needed = _working_bytes(a, b, bench.wire, TrainSpec.model_validate(dict(train) | {"resident": resident}))
        if needed <= free:
            same = resident == bench.train.resident
            return bench if same else replace(bench, train=bench.train.model_copy(update={"resident": resident}))
    raise CannotRun(
        f"a step on the real weights needs {devices.size(needed)} of memory beside them, one model after the other, "
        f"and {devices.size(free)} are free"
    )


def _sizes(bench: PairBench, one: ModelBench) -> MemoryShape | None:
    shape = memory_shape(bench, one) if one.snapshot.has("config.json") else None
    return shape if isinstance(shape, MemoryShape) else None


def _working_bytes(a: MemoryShape, b: MemoryShape, wire: WireSpec, train: TrainSpec) -> int:
    """Everything but the frozen weights, at the upper end of the formula's margin."""
    made: MemoryEstimate = estimate(a, b, wire, train, 0)
    working = sum(part.bytes for part in made.parts if not part.name.startswith("weights "))
    return int(working * (1 + made.margin))
