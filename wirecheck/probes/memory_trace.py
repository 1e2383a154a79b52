"""MEM: the peak memory of the very step, traced on tensors without data; its parts, and the GPUs it fits on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from wirecheck.errors import CannotRun
from wirecheck.probe import ModelBench, PairBench, Probe, Yielded
from wirecheck.probes.memory_shape import LARGEST_PARTS, by_formula, estimated, gigabytes
from wirecheck.schema import (
    Evidence,
    Finding,
    Fit,
    GpuRequest,
    Level,
    MemoryEstimate,
    MemoryPart,
    Policy,
    TrainSpec,
    WireSpec,
)
from wirecheck.vram.gpus import GPUS, Gpu, find
from wirecheck.vram.overheads import overheads

if TYPE_CHECKING:
    from wirecheck.vram.attention import Target
    from wirecheck.vram.step import Traced

MARGIN = 0.05
"""Stated relative error of the allocated total: kernels and workspaces of a GPU were not measured for this trace."""
REFERENCE = "A100-80GB"
"""Whose kernels are traced where no GPU is named."""
Outcome = Literal["fits", "uncertain", "does-not-fit"]


@dataclass(frozen=True)
class Need:
    """What the fullest GPU has to hold."""

    allocated: int
    reserved: int
    process: int
    """With the context."""
    least: int
    most: int
    """The honest interval around it."""
    ran_out: bool
    """Whether the allocator finds no room on that GPU although it gives back what it caches."""

    def fits(self, gpu: Gpu) -> bool:
        """Whether that GPU holds it, at the upper end of the interval."""
        return self.most <= gpu.usable_bytes and not self.ran_out


@dataclass
class _Step:
    """One step, and the traces of it that were made: one for each set of options and kernels."""

    bench: ModelBench | PairBench
    models: tuple[ModelBench, ...]
    made: dict[str, Traced] = field(default_factory=dict)

    def traced(self, gpu: Gpu, changed: Mapping[str, object] | None = None, sides: str = "ab") -> Traced:
        """Raises CannotTrace."""
        from wirecheck.vram.step import trace_step

        target, train = _target(gpu), TrainSpec.model_validate(dict(self.bench.train) | dict(changed or {}))
        key = f"{target} {train} {sides}"
        if key not in self.made:
            configs: Any = {one.side: one.config for one in self.models if one.side in sides}
            self.made[key] = trace_step(configs, self.bench.wire, train, target, self.bench.seed)
        return self.made[key]

    def need(self, gpu: Gpu, count: int = 1, changed: Mapping[str, object] | None = None) -> Need:
        """All on one GPU; from two on each model on its own, beside its own adapter."""
        if count == 1 or len(self.models) == 1:
            return _need(self.traced(gpu, changed), gpu)
        return max((_need(self.traced(gpu, changed, one.side), gpu) for one in self.models), key=lambda n: n.most)


def _target(gpu: Gpu) -> Target:
    """GPUs that choose the same kernels have one target."""
    from wirecheck.vram.attention import Target

    exact = Target(capability=gpu.capability)
    if exact.prefers_cudnn and gpu.maker == "nvidia":
        return Target(capability=(9, 0))
    return Target(capability=(8, 0) if gpu.capability >= (8, 0) else (7, 5))


def _need(traced: Traced, gpu: Gpu) -> Need:
    from wirecheck.vram.allocator import replay

    beside = overheads(gpu)
    low, high = beside.context_span
    allocated = traced.peak.bytes + beside.workspace_bytes
    spare = int(MARGIN * allocated)
    least, most = allocated - spare + low, allocated + spare + high
    reserved = traced.reserved_bytes + beside.workspace_bytes
    room = gpu.usable_bytes - high - beside.workspace_bytes - spare
    ran_out = most > gpu.usable_bytes or replay(traced.ledger.events, capacity_bytes=room).ran_out
    return Need(allocated, reserved, reserved + beside.context_bytes, least, most, ran_out)


def _run_pair(bench: PairBench) -> Iterator[Yielded]:
    yield from _run(bench, (bench.a, bench.b))


def _run_model(bench: ModelBench) -> Iterator[Yielded]:
    yield from _run(bench, (bench,))


def _run(bench: ModelBench | PairBench, models: tuple[ModelBench, ...]) -> Iterator[Yielded]:
    from wirecheck.vram.step import CannotTrace

    step, asked = _Step(bench, models), bench.policy.gpus
    first = find(asked[0].name if asked else REFERENCE)
    for model in models:
        _ = model.config  # a config that cannot be read is another probe's finding: here it is a skip
    try:
        made, need = step.traced(first), step.need(first)
        placed = [_place(step, request) for request in asked]
    except CannotTrace as missing:
        yield from _fallen_back(bench, models, missing.reason)
        return
    yield _estimate(step, made, need, first, tuple(fit for fit, _ in placed))
    yield _peak(step, made, need)
    yield from (finding for _, finding in placed)
    open_ = [f"{fit.gpu} x{fit.count}" for fit, _ in placed if fit.outcome == "uncertain"]
    if open_:
        raise CannotRun(f"whether the step fits on {', '.join(open_)} is within the error of the trace")


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
    return (*parts, MemoryPart(name="workspaces of matrix libraries", bytes=held, how=f"torch's default on {gpu.name}"))


def _estimate(step: _Step, made: Traced, need: Need, gpu: Gpu, fits: tuple[Fit, ...]) -> MemoryEstimate:
    kernels = ", ".join(f"{name} {count} times" for name, count in sorted(made.ledger.kernels.items())) or "none"
    named = "" if step.bench.policy.gpus else ", since no GPU was named"
    sentences: tuple[str, ...] = (
        "The step was traced: two steps of the real classes at full shape, wire, losses and optimizer, without data.",
        f"The peak is in {made.peak.phase}, at {made.peak.op.removeprefix('aten::')}.",
        f"Kernels of attention are those torch's rules choose on {gpu.name}{named}: {kernels}. They were not measured.",
        "Rows are padded unevenly, one row of three to the full length; texts count by their length alone.",
        (
            f"With the allocator and the context of {gpu.name} the process is taken to hold {gigabytes(need.least)} to "
            f"{gigabytes(max(need.most, need.process))}; the allocator is replayed, the context is from a table."
        ),
    )
    if step.bench.train.resident == "sequential":
        sentences += ("A model's weights leave the GPU when the other's forward begins.",)
    return MemoryEstimate(
        level=Level.SIMULATED,
        method="trace",
        parts=_parts(made, gpu),
        assumptions=sentences,
        margin=MARGIN,
        reserved_bytes=need.reserved,
        process_bytes=need.process,
        fits=fits,
    )


def _evidence(step: _Step, need: Need) -> Evidence:
    train = step.bench.train
    source = (
        f"trace of two steps, batch {train.batch}, {train.sequence_length(step.bench.wire)} positions, {train.dtype}"
    )
    if train.grad_checkpointing:
        source += ", gradient checkpointing"
    return Evidence(level=Level.SIMULATED, source=source, observed=need.allocated)


def _peak(step: _Step, made: Traced, need: Need) -> Finding:
    largest = sorted(made.peak.parts.items(), key=lambda pair: -pair[1])[:LARGEST_PARTS]
    shares = ", ".join(f"{name} {gigabytes(size)}" for name, size in largest)
    claim = f"Traced, one step peaks at {gigabytes(need.allocated)} allocated; the largest parts: {shares}."
    return step.bench.found("MEM03", claim, _evidence(step, need))


def _on(gpu: Gpu, count: int) -> str:
    """`T4`, or `2 x T4`."""
    return gpu.name if count == 1 else f"{count} x {gpu.name}"


def _place(step: _Step, request: GpuRequest) -> tuple[Fit, Finding]:
    bench, gpu, count = step.bench, find(request.name), request.count
    need, room = step.need(gpu, count), gpu.usable_bytes
    where = _on(gpu, count)
    how = ", one model per GPU" if count > 1 and len(step.models) > 1 else ""
    seen = Evidence(
        level=Level.SIMULATED, source=f"catalogue entry {gpu.name} ({gpu.source})", observed=room, expected=need.most
    )
    figures = f"{gigabytes(need.least)} to {gigabytes(need.most)} of {gigabytes(room)}{how}"
    outcome: Outcome
    if need.fits(gpu):
        outcome, finding = "fits", bench.ok("MEM01", f"Traced, the step fits on {where}: {figures}.", seen)
    elif need.least > room:
        outcome = "does-not-fit"
        claim = f"Traced, the step does not fit on {where}: it needs {figures}."
        finding = bench.found("MEM01", claim, seen, _evidence(step, need), remedy=_ways_out(step, gpu, count))
    else:
        outcome = "uncertain"
        claim = f"Whether the step fits on {where} is within the trace's error: {figures}."
        finding = bench.found("MEM02", claim, seen, _evidence(step, need), remedy=_ways_out(step, gpu, count))
    return Fit(gpu=gpu.name, count=count, outcome=outcome, free_bytes=room - need.process), finding


def _ways_out(step: _Step, gpu: Gpu, count: int) -> str:
    """What does fit, by trace: milder options on this GPU, the cheapest first; then the smallest larger GPU."""
    fewer = {"grad_checkpointing": True, "batch": max(step.bench.train.batch // 4, 1)}
    ways: list[tuple[str, dict[str, object]]] = [
        ("--grad-checkpointing", {"grad_checkpointing": True}),
        (f"--grad-checkpointing --batch {fewer['batch']}", dict(fewer)),
        ("one model at a time (resident = sequential)", {"resident": "sequential"}),
        (
            f"one model at a time (resident = sequential) with --grad-checkpointing --batch {fewer['batch']}",
            {"resident": "sequential", **fewer},
        ),
    ]
    for words, changed in ways:
        if changed.get("resident") == "sequential" and (count > 1 or len(step.models) == 1):
            continue
        if step.need(gpu, count, changed).fits(gpu):
            return f"Traced, it fits on {_on(gpu, count)} with {words}."
    larger = sorted((g for g in GPUS if g.usable_bytes > gpu.usable_bytes), key=lambda g: g.usable_bytes)
    for one in larger:
        if step.need(one, count).fits(one):
            return f"Traced, it fits on {_on(one, count)}; or choose smaller models."
    return "No GPU of the catalogue holds this step: choose smaller models, or spread each over several GPUs."


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
