"""MEM: the peak memory of the very step, traced on tensors without data; its parts, and the GPUs it fits on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from wirecheck.errors import CannotRun
from wirecheck.probe import ModelBench, PairBench, Probe, Yielded
from wirecheck.probes.memory_shape import LARGEST_PARTS, by_formula, estimated
from wirecheck.schema import (
    Evidence,
    Finding,
    Fit,
    GpuRequest,
    Level,
    MemoryEstimate,
    MemoryPart,
    Policy,
    WireSpec,
)
from wirecheck.vram.gpus import Gpu, find
from wirecheck.vram.overheads import overheads
from wirecheck.vram.placement import gigabytes
from wirecheck.vram.plan import MARGIN, Need, Plan, Step, need_of, on, place
from wirecheck.vram.remedies import milder, other_gpus

if TYPE_CHECKING:
    from wirecheck.vram.step import Traced

REFERENCE = "A100-80GB"
"""Whose kernels are traced where no GPU is named."""

WORKSPACES = "workspaces of matrix libraries"

TOLD = (
    "The step was traced: the real classes at full shape, wire, losses and optimizer, without data. The second step "
    "was run; the first is told from it, which it repeats but for what it finds there."
)
SPLIT = (
    "A split model has the map that transformers' own inference gives on GPUs empty but for their context; tensors are "
    "copied between GPUs as accelerate's hooks do."
)
"""Said where several GPUs were asked for."""


def _run_pair(bench: PairBench) -> Iterator[Yielded]:
    yield from _run(bench, (bench.a, bench.b))


def _run_model(bench: ModelBench) -> Iterator[Yielded]:
    yield from _run(bench, (bench,))


def _run(bench: ModelBench | PairBench, models: tuple[ModelBench, ...]) -> Iterator[Yielded]:
    from wirecheck.vram.step import CannotTrace

    asked = bench.policy.gpus
    first = find(asked[0].name if asked else REFERENCE)
    # A config that cannot be read is another probe's finding: here it is a skip.
    step = Step({model.side: model.config for model in models}, bench.wire, bench.train, bench.seed)
    try:
        made, need = step.traced(first), need_of(step.traced(first), first)
        placed = [_place(bench, step, request) for request in asked]
    except CannotTrace as missing:
        yield from _fallen_back(bench, models, missing.reason)
        return
    yield _estimate(bench, made, need, first, tuple(fit for fit, _ in placed))
    yield _peak(bench, made, need)
    yield from (finding for _, finding in placed)
    open_ = [f"{fit.gpu} x{fit.count}" for fit, _ in placed if fit.outcome == "uncertain"]
    if open_:
        raise CannotRun(f"whether the step fits on {', '.join(open_)} is within the error of the trace, or not traced")


def _fallen_back(bench: ModelBench | PairBench, models: tuple[ModelBench, ...], why: str) -> Iterator[Yielded]:
    """The formula's estimate, and why there is no better one. CannotRun where a GPU was named: none is shown to fit."""
    tried = Evidence(level=Level.SIMULATED, source="one step on tensors without data", observed=why, expected="a trace")
    made, total = estimated(bench, models), "not known either"
    if made is not None:
        total = f"{gigabytes(made.allocated_bytes)} ± {made.margin:.0%}"
        yield made
    claim = f"The step could not be traced ({why}); by formula its peak is {total}."
    yield bench.found("MEM04", claim, tried)
    if bench.policy.gpus:
        names = ", ".join(f"{request.name} x{request.count}" for request in bench.policy.gpus)
        raise CannotRun(f"the step is not shown to fit on {names}: it could not be traced ({why})")


def _parts(made: Traced, gpu: Gpu) -> tuple[MemoryPart, ...]:
    found = sorted(made.peak.parts.items(), key=lambda pair: -pair[1])
    parts = [MemoryPart(name=name, bytes=size, how="traced: alive at the peak") for name, size in found]
    held = overheads(gpu).workspace_bytes
    return (*parts, MemoryPart(name=WORKSPACES, bytes=held, how=f"torch's default on {gpu.name}"))


def _estimate(
    bench: ModelBench | PairBench, made: Traced, need: Need, gpu: Gpu, fits: tuple[Fit, ...]
) -> MemoryEstimate:
    counts = sorted(made.ledger.kernels.items())
    kernels = ", ".join(f"{name} {count} times a step" for name, count in counts) or "none"
    named = "" if bench.policy.gpus else ", since no GPU was named"
    sentences: tuple[str, ...] = (
        TOLD,
        f"The peak is in {made.peak.phase}, at {made.peak.op.removeprefix('aten::')}.",
        f"Kernels of attention are those torch's rules choose on {gpu.name}{named}: {kernels}. They were not measured.",
        "Rows are padded unevenly, one row of three to the full length; texts count by their length alone.",
        (
            f"With the allocator and the context of {gpu.name} the process is taken to hold {gigabytes(need.least)} to "
            f"{gigabytes(max(need.most, need.process))}; the allocator is replayed, the context is from a table."
        ),
    )
    if bench.train.quantize != "none":
        sentences += (f"Linear layers are held in {bench.train.quantize}, as bitsandbytes does; no probe ran them so.",)
    if bench.train.resident == "sequential":
        sentences += ("A model's weights leave the GPU when the other's forward begins.",)
    if any(fit.count > 1 for fit in fits):
        sentences += (SPLIT,)
    from wirecheck.vram.timeline import timeline

    return MemoryEstimate(
        level=Level.SIMULATED,
        method="trace",
        parts=_parts(made, gpu),
        assumptions=sentences,
        margin=MARGIN,
        reserved_bytes=need.reserved,
        process_bytes=need.process,
        fits=fits,
        timeline=timeline(made.ledger, made.peak.phase, {WORKSPACES: overheads(gpu).workspace_bytes}),
    )


def _evidence(bench: ModelBench | PairBench, need: Need) -> Evidence:
    train = bench.train
    source = f"trace of two steps, batch {train.batch}, {train.sequence_length(bench.wire)} positions, {train.dtype}"
    if train.quantize != "none":
        source += f", linear layers in {train.quantize}"
    if train.grad_checkpointing:
        source += ", gradient checkpointing"
    return Evidence(level=Level.SIMULATED, source=source, observed=need.allocated)


def _peak(bench: ModelBench | PairBench, made: Traced, need: Need) -> Finding:
    largest = sorted(made.peak.parts.items(), key=lambda pair: -pair[1])[:LARGEST_PARTS]
    shares = ", ".join(f"{name} {gigabytes(size)}" for name, size in largest)
    claim = f"Traced, one step peaks at {gigabytes(need.allocated)} allocated; the largest parts: {shares}."
    return bench.found("MEM03", claim, _evidence(bench, need))


def _place(bench: ModelBench | PairBench, step: Step, request: GpuRequest) -> tuple[Fit, Finding]:
    gpu, count = find(request.name), request.count
    found = place(step, gpu, count)
    need = found.best.fullest if found.best is not None else need_of(step.traced(gpu), gpu)
    where, room = on(gpu, count), gpu.usable_bytes
    seen = Evidence(
        level=Level.SIMULATED, source=f"catalogue entry {gpu.name} ({gpu.source})", observed=room, expected=need.most
    )
    if found.outcome == "fits":
        plan = found.tried[-1]
        how = f", {plan.words}" if plan.words else ""
        finding = bench.ok("MEM01", f"Traced, the step fits on {where}{how}: {_figures(plan)}.", seen)
    else:
        ways_out = _ways_out(step, gpu, count)
        tried = "; ".join(f"{plan.words}: {_figures(plan)}" if plan.words else _figures(plan) for plan in found.tried)
        if found.outcome == "does-not-fit":
            claim = f"Traced, the step does not fit on {where}: {'it needs ' if count == 1 else ''}{tried}."
            finding = bench.found("MEM01", claim, seen, _evidence(bench, need), remedy=ways_out)
        else:
            why = "is not known" if any(plan.unknown for plan in found.tried) else "is within the trace's error"
            claim = f"Whether the step fits on {where} {why}: {tried}."
            finding = bench.found("MEM02", claim, seen, _evidence(bench, need), remedy=ways_out)
    return Fit(
        gpu=gpu.name, count=count, outcome=found.outcome, free_bytes=room - need.process, usable_bytes=room
    ), finding


def _figures(plan: Plan) -> str:
    """What each GPU has to hold, or why that is not known."""
    room = gigabytes(plan.gpu.usable_bytes)
    if not plan.needs:
        return plan.refused or f"not traced ({plan.unknown})"
    if len(plan.needs) == 1:
        (need,) = plan.needs
        return f"{gigabytes(need.least)} to {gigabytes(need.most)} of {room}"
    each = [f"GPU {n} {need.least / 1e9:.1f} to {need.most / 1e9:.1f} GB" for n, need in enumerate(plan.needs)]
    return f"{', '.join(each)}, of {room} each"


def _ways_out(step: Step, gpu: Gpu, count: int) -> str:
    """What does fit, by trace: the cheapest on these GPUs, and on others."""
    cheapest = (next(milder(step, gpu, count), None), next(other_gpus(step, gpu, count), None))
    found = [remedy.words for remedy in cheapest if remedy is not None]
    if found:
        return f"Traced, it fits on {', or on '.join(found)}; or choose smaller models."
    return "No GPU of the catalogue holds this step, nor several of this one: choose smaller models."


def _by_trace(wire: WireSpec, policy: Policy) -> bool:
    return not by_formula(wire, policy)


MEMORY = Probe(
    name="memory",
    question="How much memory does one step of the wire take, and does it fit on the GPUs asked for?",
    scope="pair",
    level=Level.SIMULATED,
    codes=("MEM01", "MEM02", "MEM03", "MEM04"),
    needs="torch",
    requires=("config", "class-fit"),
    moot_after=("CFG01", "CFG02", "CFG03", "CFG05"),
    run=_run_pair,
    asked=_by_trace,
)

MEMORY_MODEL = Probe(
    name="memory",
    question="How much memory does one step of the wire take with this model alone?",
    scope="model",
    level=Level.SIMULATED,
    codes=("MEM01", "MEM02", "MEM03", "MEM04"),
    needs="torch",
    requires=("config", "class-fit"),
    moot_after=("CFG01", "CFG02", "CFG03", "CFG05"),
    run=_run_model,
    asked=_by_trace,
)
