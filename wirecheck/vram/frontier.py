"""What GPUs hold of a step at most: the largest batch at the context asked for, the longest context at the batch.

On one GPU, and with one model on each of several, the answer is found on curves (`curve`); where models are split,
every value that is tried is traced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache

from wirecheck import zoo
from wirecheck.errors import CannotRun
from wirecheck.frontier_records import CurvePoint, FrontierRow, Largest, Placement, WayName
from wirecheck.vram.allocator import replay
from wirecheck.vram.curve import AxisName, Curve, Traces
from wirecheck.vram.gpus import Gpu
from wirecheck.vram.plan import Plan, Step, bounds_of, even_split, split, target_of
from wirecheck.vram.plane import Over
from wirecheck.vram.search import MOST_ROWS, contexts_above, largest, largest_below, last_context

AXES: tuple[AxisName, ...] = ("batch", "context")
Find = Callable[[AxisName], Largest]


def on_one(step: Step, gpus: Sequence[Gpu], way: WayName) -> Iterator[FrontierRow]:
    """Everything on one GPU, for GPUs that choose the same kernels."""
    traces = Traces(step, target_of(gpus[0]))
    curves = {axis: [Curve(traces, axis, _end(step, axis))] for axis in AXES}
    for gpu in gpus:
        yield _row(gpu, 1, way, "one-gpu", _on(gpu, curves))


def on_each(step: Step, gpus: Sequence[tuple[Gpu, int]], way: WayName) -> Iterator[FrontierRow]:
    """One model on each of two GPUs, beside its own adapter, for GPUs that choose the same kernels."""
    steps = [replace(step, configs={side: config}, made={}) for side, config in step.configs.items()]
    alone = [Traces(one, target_of(gpus[0][0])) for one in steps]
    curves = {axis: [Curve(traces, axis, _end(step, axis)) for traces in alone] for axis in AXES}
    for gpu, count in gpus:
        yield _row(gpu, count, way, "one-model-per-gpu", _on(gpu, curves))


def points(
    step: Step, gpus: Sequence[tuple[Gpu, int]], placement: Placement, contexts: Sequence[int]
) -> Iterator[tuple[CurvePoint, ...]]:
    """For each GPU the largest batch at those contexts, which ascend, up to the first where not a row may fit.

    Nothing is split. The GPUs choose the same kernels. A context that cannot be traced costs its own point.
    """
    alone = {side: {side: config} for side, config in step.configs.items()}
    parts = [step.configs] if placement == "one-gpu" else list(alone.values())
    first = step.but({"context": contexts[0]})
    target, end = target_of(gpus[0][0]), _end(step, "context")
    overs = [Over(replace(first, configs=part, made={}), target, end) for part in parts]
    for gpu, _ in gpus:
        found_here: list[CurvePoint] = []
        for context in contexts:
            found_here.append(_point(overs, gpu, context))
            if (batch := found_here[-1].batch) is not None and not batch.may_fit:
                break
        yield tuple(found_here)


def _point(overs: Sequence[Over], gpu: Gpu, context: int) -> CurvePoint:
    try:
        return CurvePoint(context=context, batch=found([over.at(context) for over in overs], gpu))
    except CannotRun as missing:
        return CurvePoint(context=context, why=missing.reason)


def contexts_of(step: Step) -> tuple[int, ...]:
    """The contexts of a curve of that step, past the one it asks for."""
    return contexts_above(step.train.context, _end(step, "context"))


def over_all(step: Step, gpu: Gpu, count: int, way: WayName) -> FrontierRow:
    """Each model split over all of them, by `device_map="auto"` or evenly."""
    return _row(gpu, count, way, "split", lambda axis: _found_split(step, gpu, count, axis))


def _on(gpu: Gpu, curves: Mapping[AxisName, Sequence[Curve]]) -> Find:
    return lambda axis: found(curves[axis], gpu)


def found(curves: Sequence[Curve], gpu: Gpu) -> Largest:
    """The largest value at which that GPU holds each of the curves. Raises CannotTrace."""
    first = curves[0]
    if any(_out_of_question(curve, gpu) for curve in curves):
        return Largest(fits=0, may_fit=0, method="traces")
    most = min(curve.most for curve in curves)
    border = max(curve.shown_from for curve in curves)

    def peak(value: int) -> int:
        return max(curve.peak_bytes(value) for curve in curves)

    def top(test: Callable[[int], bool]) -> int | None:
        """On the surfaces, which cost nothing, if there; else below them."""
        if border <= most and test(border):
            return largest(test, border, most, first.stride)
        return largest(test, first.least, min(border - first.stride, most), first.stride)

    may = top(lambda value: bounds_of(peak(value), gpu).least <= gpu.usable_bytes)
    held = top(lambda value: bounds_of(peak(value), gpu).most <= gpu.usable_bytes)
    if held is not None:
        held = largest_below(lambda value: _is_served(curves, gpu, value), held, first.least, first.stride)
    method = "surface" if all(curve.shown is not None for curve in curves) else "traces"
    if held is None:
        return Largest(fits=0, may_fit=may or 0, method=method)
    bounds = bounds_of(peak(held), gpu)
    return Largest(
        fits=held,
        may_fit=max(may or 0, held),
        ended=held == most,
        least_bytes=bounds.least,
        most_bytes=bounds.most,
        method=method,
    )


def _out_of_question(curve: Curve, gpu: Gpu) -> bool:
    """Whether not even the first value may fit; asked by a trace of its own where the weights alone are too close."""
    weights = bounds_of(curve.held_bytes, gpu)
    if weights.least > gpu.usable_bytes or weights.most <= gpu.usable_bytes:
        return weights.least > gpu.usable_bytes
    return bounds_of(curve.exact_peak(curve.least), gpu).least > gpu.usable_bytes


def _is_served(curves: Sequence[Curve], gpu: Gpu, value: int) -> bool:
    """Whether torch's allocator finds room for every request."""
    rooms = [(curve, bounds_of(curve.peak_bytes(value), gpu).room) for curve in curves]
    return not any(replay(curve.events(value), capacity_bytes=room).ran_out for curve, room in rooms)


def _found_split(step: Step, gpu: Gpu, count: int, axis: AxisName) -> Largest:
    """Raises CannotTrace, CannotPlace."""
    lattice = Curve(Traces(step, target_of(gpu)), axis, _end(step, axis), exact=True)
    unknown = ""

    @cache
    def plan(value: int) -> Plan:
        nonlocal unknown
        asked = replace(step.but({axis: value}), made={})  # each is asked for once: its traces are not kept
        first = split(asked, gpu, count)
        even = even_split(asked, gpu, count) if first.needs and first.outcome != "fits" else None
        unknown = unknown or first.unknown
        return first if even is None or not even.needs else min(first, even, key=lambda one: one.fullest.most)

    held = largest(lambda value: plan(value).outcome == "fits", lattice.least, lattice.most, lattice.stride)
    begin = held or lattice.least
    may = largest(lambda value: plan(value).outcome != "does-not-fit", begin, lattice.most, lattice.stride)
    if held is None:
        if unknown:
            raise CannotRun(unknown)
        return Largest(fits=0, may_fit=may or 0, method="traces")
    need = plan(held).fullest
    return Largest(
        fits=held,
        may_fit=max(may or 0, held),
        ended=held == lattice.most,
        least_bytes=need.least,
        most_bytes=need.most,
        method="traces",
    )


def _row(gpu: Gpu, count: int, way: WayName, placement: Placement, find: Find) -> FrontierRow:
    answers: dict[AxisName, Largest] = {}
    why = None
    for axis in AXES:
        try:
            answers[axis] = find(axis)
        except CannotRun as missing:
            why = missing.reason
    return FrontierRow(gpu=gpu.name, count=count, way=way, placement=placement, why=why, **answers)


def _end(step: Step, axis: AxisName) -> int:
    """The last value there is to ask for: for text, what latent and answer leave of the models' positions."""
    if axis == "batch":
        return MOST_ROWS
    taken = step.wire.prefix_length + step.train.answer
    return last_context(map(zoo.positions, step.configs.values()), taken)
