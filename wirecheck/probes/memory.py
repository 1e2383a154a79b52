"""MEM: the peak memory of one step by formula, its parts, and the GPUs it fits on. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wirecheck.errors import CannotRun
from wirecheck.probe import ModelBench, PairBench, Probe, Yielded
from wirecheck.probes.memory_shape import LARGEST_PARTS, by_formula, gigabytes, memory_shape, trainable
from wirecheck.schema import (
    Evidence,
    Finding,
    Fit,
    GpuRequest,
    Level,
    MemoryEstimate,
    Severity,
    TrainSpec,
)
from wirecheck.vram.formula import MemoryShape, estimate, lower_bound_bytes
from wirecheck.vram.gpus import GPUS, Gpu, find

CONTEXT_BYTES = 600 * 2**20
"""What the driver's context and loaded kernels take of a GPU, kept free before a step is said to fit."""


@dataclass(frozen=True)
class _Step:
    """The step of one or two models, ready to be estimated."""

    bench: ModelBench | PairBench
    models: tuple[ModelBench, ...]
    shapes: tuple[MemoryShape, ...]
    trainable: int

    def estimate(self, **changed: object) -> MemoryEstimate:
        """The peak on one GPU, with some of the training options changed."""
        train = TrainSpec.model_validate(dict(self.bench.train) | changed)
        return estimate(self.shapes[0], self._other, self.bench.wire, train, self.trainable)

    def per_gpu_bytes(self, count: int) -> int:
        """The peak of the fullest GPU: all on one, or from two on each model on its own, beside all trainables."""
        if count == 1 or self._other is None:
            return self.estimate().allocated_bytes
        wire, train = self.bench.wire, self.bench.train
        return max(estimate(shape, None, wire, train, self.trainable).allocated_bytes for shape in self.shapes)

    @property
    def floor_bytes(self) -> int:
        """What no schedule can do without; 0 where the weights were not read from files that hold this model alone."""
        sure = all(model.snapshot.tensors for model in self.models) and not any(s.reservations for s in self.shapes)
        return lower_bound_bytes(self.shapes[0], self._other, self.bench.train, self.trainable) if sure else 0

    @property
    def _other(self) -> MemoryShape | None:
        return self.shapes[1] if len(self.shapes) > 1 else None

    @property
    def guessed(self) -> str:
        """What the formula had to guess, in words; empty where it guessed nothing."""
        words = ["without what your own wire trains and keeps"] if self.bench.wire.is_own else []
        words += [
            f"of model {shape.side}, {reservation.removesuffix('.')}"
            for shape in self.shapes
            for reservation in shape.reservations
        ]
        return "; ".join(words)

    def claim(self, words: str) -> str:
        """A claim by the formula, with what it had to guess."""
        return f"{words} ({self.guessed})." if self.guessed else f"{words}."

    @property
    def inputs(self) -> tuple[Evidence, ...]:
        """What the estimate was made from, one piece per model."""
        return tuple(
            Evidence(
                level=Level.INSPECTED,
                source=model.snapshot.source("config.json"),
                observed=f"{shape.weight_bytes:,} bytes of weights in {self.bench.train.dtype}, "
                f"{shape.num_layers} layers of {shape.hidden_size}, {shape.vocab_size:,} rows",
            )
            for model, shape in zip(self.models, self.shapes, strict=True)
        )


def _run_pair(bench: PairBench) -> Iterator[Yielded]:
    yield from _run(bench, (bench.a, bench.b))


def _run_model(bench: ModelBench) -> Iterator[Yielded]:
    yield from _run(bench, (bench,))


def _run(bench: ModelBench | PairBench, models: tuple[ModelBench, ...]) -> Iterator[Yielded]:
    shapes = []
    for model in models:
        shape = memory_shape(bench, model)
        if isinstance(shape, MemoryShape):
            shapes.append(shape)
        else:
            yield _no_size(bench, model, shape)
    if len(shapes) < len(models):
        return
    step = _Step(bench, models, tuple(shapes), trainable(bench, shapes))
    made = step.estimate()
    placed = [_place(step, made, request) for request in bench.policy.gpus]
    yield MemoryEstimate(**dict(made) | {"fits": tuple(fit for fit, _ in placed)})
    yield _peak(step, made)
    findings = [finding for _, finding in placed]
    yield from findings
    open_ = [fit for fit, _ in placed if fit.outcome != "fits"]
    if open_ and not any(finding.code == "MEM01" and finding.severity is Severity.BLOCK for finding in findings):
        names = ", ".join(f"{fit.gpu} x{fit.count}" for fit in open_)
        guessed = f"; {step.guessed}" if step.guessed else ""
        raise CannotRun(
            f"the step is not shown to fit on {names}: by the formula it peaks at {gigabytes(made.allocated_bytes)} "
            f"± {made.margin:.0%}{guessed}"
        )


def _no_size(bench: ModelBench | PairBench, model: ModelBench, missing: tuple[str, ...]) -> Finding:
    seen = Evidence(level=Level.INSPECTED, source=model.snapshot.source("config.json"), observed=None)
    names = ", ".join(missing)
    claim = f"No memory estimate can be made: nothing establishes {names} of model {model.side}."
    remedy = f"Declare {names} in config.json, or measure one step on the GPU itself."
    return bench.found("MEM04", claim, seen, remedy=remedy)


def _peak(step: _Step, made: MemoryEstimate) -> Finding:
    train, total = step.bench.train, made.allocated_bytes
    largest = sorted(made.parts, key=lambda part: -part.bytes)[:LARGEST_PARTS]
    shares = ", ".join(f"{part.name} {gigabytes(part.bytes)}" for part in largest)
    claim = step.claim(
        f"By formula one step peaks at {gigabytes(total)}, give or take {made.margin:.0%}; the largest parts: {shares}"
    )
    length = train.sequence_length(step.bench.wire)
    source = f"memory formula, batch {train.batch}, {length} positions, {train.dtype}"
    if train.grad_checkpointing:
        source += ", gradient checkpointing"
    return step.bench.found(
        "MEM03", claim, Evidence(level=Level.INSPECTED, source=source, observed=total), *step.inputs
    )


def _place(step: _Step, made: MemoryEstimate, request: GpuRequest) -> tuple[Fit, Finding]:
    bench, gpu, count = step.bench, find(request.name), request.count
    need, room = step.per_gpu_bytes(count), gpu.usable_bytes
    most, least = int(need * (1 + made.margin)) + CONTEXT_BYTES, int(need * (1 - made.margin))
    on = gpu.name if count == 1 else f"{count} x {gpu.name}"
    how = "" if count == 1 or len(step.models) == 1 else ", one model per GPU"
    seen = Evidence(
        level=Level.INSPECTED, source=f"catalogue entry {gpu.name} ({gpu.source})", observed=room, expected=most
    )
    figures = f"{gigabytes(need)} ± {made.margin:.0%} of {gigabytes(room)}{how}"
    floor = step.floor_bytes
    if floor > count * room:
        claim = (
            f"The step does not fit on {on}: weights, trained parameters and optimizer alone are {gigabytes(floor)}."
        )
        bare = Evidence(
            level=Level.INSPECTED, source="sum of the tensors on file", observed=floor, expected=count * room
        )
        fit, finding = "does-not-fit", bench.found("MEM01", claim, bare, seen, remedy=_ways_out(step, gpu))
    elif most <= room and not bench.wire.is_own:
        claim = step.claim(f"By formula the step fits on {on}: {figures}")
        fit, finding = "fits", bench.ok("MEM01", claim, seen, *step.inputs)
    elif least > room:
        claim = step.claim(f"By formula alone the step does not fit on {on}: {figures}")
        fit, finding = "does-not-fit", bench.found("MEM02", claim, seen, *step.inputs, remedy=_ways_out(step, gpu))
    else:
        claim = step.claim(f"Whether the step fits on {on} is within the formula's error: {figures}")
        fit, finding = "uncertain", bench.found("MEM02", claim, seen, *step.inputs, remedy=_ways_out(step, gpu))
    return Fit(gpu=gpu.name, count=count, outcome=fit, free_bytes=room - need), finding


def _ways_out(step: _Step, gpu: Gpu) -> str:
    """What does fit, by the same formula: milder options on this GPU, then the smallest larger GPU."""
    ways: list[tuple[str, dict[str, object]]] = [
        ("--grad-checkpointing", {"grad_checkpointing": True}),
        ("--grad-checkpointing --batch 1", {"grad_checkpointing": True, "batch": 1}),
        ("one model at a time (resident = sequential)", {"resident": "sequential"}),
        (
            "one model at a time (resident = sequential) with --grad-checkpointing --batch 1",
            {"resident": "sequential", "grad_checkpointing": True, "batch": 1},
        ),
    ]
    for words, changed in ways:
        if _needs(step.estimate(**changed)) <= gpu.usable_bytes:
            return f"By formula it fits on {gpu.name} with {words}."
    enough = [g for g in GPUS if g.usable_bytes >= _needs(step.estimate())]
    if enough:
        return f"By formula it fits on {min(enough, key=lambda g: g.usable_bytes).name}; or choose smaller models."
    return "No single GPU of the catalogue holds this step: choose smaller models, or spread each over several GPUs."


def _needs(made: MemoryEstimate) -> int:
    return int(made.allocated_bytes * (1 + made.margin)) + CONTEXT_BYTES


MEMORY_FORMULA = Probe(
    name="memory-formula",
    question="How much memory does one step of the wire take, and does it fit on the GPUs asked for?",
    scope="pair",
    level=Level.INSPECTED,
    codes=("MEM01", "MEM02", "MEM03", "MEM04"),
    needs="files",
    requires=("config",),
    moot_after=("CFG01", "CFG05"),
    run=_run_pair,
    asked=by_formula,
)

MEMORY_FORMULA_MODEL = Probe(
    name="memory-formula",
    question="How much memory does one step of the wire take with this model alone?",
    scope="model",
    level=Level.INSPECTED,
    codes=("MEM01", "MEM02", "MEM03", "MEM04"),
    needs="files",
    requires=("config",),
    moot_after=("CFG01", "CFG05"),
    run=_run_model,
    asked=by_formula,
)
