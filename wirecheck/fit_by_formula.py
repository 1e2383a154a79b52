"""The frontier of a step that is not traced: by the formula, within its own, wider margin. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Literal

from wirecheck.errors import CannotRun
from wirecheck.frontier_records import CurvePoint, FrontierRow, Largest, Placement, WayName
from wirecheck.probe import ModelBench, PairBench
from wirecheck.probes.memory_shape import estimated
from wirecheck.schema import MemoryEstimate, TrainSpec
from wirecheck.vram.gpus import Gpu
from wirecheck.vram.overheads import overheads
from wirecheck.vram.search import MOST_ROWS, POSITION_STEP, contexts_above, first_context, largest

Axis = Literal["batch", "context"]
Lattice = tuple[Axis, int, int, int]
"""An axis: its field of the training's spec, least, most, step."""


def rows_by_formula(
    bench: PairBench,
    gpus: Sequence[tuple[Gpu, int]],
    ways: Sequence[tuple[WayName, TrainSpec]],
    end: int,
    why: str,
    *,
    curve: bool = False,
) -> Iterator[FrontierRow]:
    """A row for each GPU and way; several GPUs hold one model each.

    `end`: the longest context there is. `why`: the step is not traced. `curve`: at more contexts too.
    """
    first = first_context(bench.train.context)
    lattices: dict[Axis, Lattice] = {
        "batch": ("batch", 1, MOST_ROWS, 1),
        "context": ("context", first, first + (end - first) // POSITION_STEP * POSITION_STEP, POSITION_STEP),
    }
    for gpu, count in gpus:
        placement: Placement = "one-gpu" if count == 1 else "one-model-per-gpu"
        for way, train in ways:
            if count > 1 and way.startswith("in-turns"):
                continue
            try:
                found = {axis: _largest(bench, gpu, count, train, line) for axis, line in lattices.items()}
                points = tuple(_points(bench, (gpu, count), train, lattices["batch"], end)) if curve else ()
            except CannotRun as missing:
                yield FrontierRow(gpu=gpu.name, count=count, way=way, placement=placement, why=missing.reason)
                continue
            yield FrontierRow(
                gpu=gpu.name,
                count=count,
                way=way,
                placement=placement,
                batch=found["batch"],
                context=found["context"],
                why=why,
                curve=points,
            )


def _points(
    bench: PairBench, gpu: tuple[Gpu, int], train: TrainSpec, lattice: Lattice, end: int
) -> Iterator[CurvePoint]:
    """The largest batch by context, up to the first where not a row may fit."""
    for context in (train.context, *contexts_above(train.context, end)):
        found = _largest(bench, *gpu, train.model_copy(update={"context": context}), lattice)
        yield CurvePoint(context=context, batch=found)
        if not found.may_fit:
            return


def _largest(bench: PairBench, gpu: Gpu, count: int, train: TrainSpec, lattice: Lattice) -> Largest:
    """What of the user's own wire is not known to the formula is added by nobody: then nothing is shown to fit."""
    axis, least, most, step = lattice
    low, high = overheads(gpu).context_span

    @cache
    def span(value: int) -> tuple[int, int]:
        asked = train.model_copy(update={axis: value})
        made = [_estimate(replace(bench, train=asked), models) for models in _together(bench, count)]
        sizes = [(one.allocated_bytes * (1 - one.margin), one.allocated_bytes * (1 + one.margin)) for one in made]
        return int(max(below for below, _ in sizes)) + low, int(max(above for _, above in sizes)) + high

    may = largest(lambda value: span(value)[0] <= gpu.usable_bytes, least, most, step)
    held = largest(lambda value: span(value)[1] <= gpu.usable_bytes, least, most, step)
    if held is None or bench.wire.is_own:
        return Largest(fits=0, may_fit=may or 0, method="formula")
    return Largest(
        fits=held,
        may_fit=max(may or 0, held),
        ended=held == most,
        least_bytes=span(held)[0],
        most_bytes=span(held)[1],
        method="formula",
    )


def _together(bench: PairBench, count: int) -> tuple[tuple[ModelBench, ...], ...]:
    """The models that are on one GPU together, GPU by GPU."""
    return ((bench.a, bench.b),) if count == 1 else ((bench.a,), (bench.b,))


def _estimate(bench: PairBench, models: tuple[ModelBench, ...]) -> MemoryEstimate:
    made = estimated(bench, models)
    if made is None:
        raise CannotRun("the configs do not say all the sizes that the formula needs")
    return made
