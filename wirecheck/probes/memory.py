"""MEM: the peak memory of one step by formula, its parts, and the GPUs it fits on. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from wirecheck.errors import CannotRun
from wirecheck.probe import ModelBench, PairBench, Probe, Yielded
from wirecheck.probes.memory_shape import LARGEST_PARTS, by_formula, memory_shape, trainable
from wirecheck.schema import (
    Evidence,
    Finding,
    Fit,
    GpuRequest,
    Level,
    MemoryEstimate,
    TrainSpec,
)
from wirecheck.vram.formula import MemoryShape, estimate
from wirecheck.vram.gpus import GPUS, Gpu, find
from wirecheck.vram.placement import (
    CONTEXT_BYTES,
    Placement,
    StepFigures,
    gigabytes,
    not_shown,
    place,
    step_figures,
    unknown_sizes,
)


@dataclass
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

    @cached_property
    def figures(self) -> StepFigures:
        """What decides where it fits."""
        return step_figures(
            self.shapes,
            self.bench.wire,
            self.bench.train,
            self.trainable,
            allocated=self.estimate().allocated_bytes,
            is_counted=all(model.snapshot.tensors for model in self.models),
        )

    @property
    def _other(self) -> MemoryShape | None:
        return self.shapes[1] if len(self.shapes) > 1 else None

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
    placed = [(request, _place(step, request)) for request in bench.policy.gpus]
    fits = tuple(
        Fit(
            gpu=find(request.name).name,
            count=request.count,
            outcome=one.fit,
            free_bytes=_room(request) - one.need,
            usable_bytes=find(request.name).usable_bytes,
        )
        for request, one in placed
    )
    yield MemoryEstimate(**dict(made) | {"fits": fits})
    yield _peak(step, made)
    yield from (_fit(step, request, one) for request, one in placed)
    open_ = not_shown(step.figures, placed)
    if open_:
        raise CannotRun(open_)


def _no_size(bench: ModelBench | PairBench, model: ModelBench, missing: tuple[str, ...]) -> Finding:
    seen = Evidence(level=Level.INSPECTED, source=model.snapshot.source("config.json"), observed=None)
    remedy = f"Declare {', '.join(missing)} in config.json, or measure one step on the GPU itself."
    return bench.found("MEM04", unknown_sizes(missing, model.side), seen, remedy=remedy)


def _peak(step: _Step, made: MemoryEstimate) -> Finding:
    train, total = step.bench.train, made.allocated_bytes
    largest = sorted(made.parts, key=lambda part: -part.bytes)[:LARGEST_PARTS]
    shares = ", ".join(f"{part.name} {gigabytes(part.bytes)}" for part in largest)
    claim = step.figures.claim(
        f"By formula one step peaks at {gigabytes(total)}, give or take {made.margin:.0%}; the largest parts: {shares}"
    )
    length = train.sequence_length(step.bench.wire)
    source = f"memory formula, batch {train.batch}, {length} positions, {train.dtype}"
    if train.grad_checkpointing:
        source += ", gradient checkpointing"
    return step.bench.found(
        "MEM03", claim, Evidence(level=Level.INSPECTED, source=source, observed=total), *step.inputs
    )


def _place(step: _Step, request: GpuRequest) -> Placement:
    return place(step.figures, find(request.name), request.count)


def _room(request: GpuRequest) -> int:
    return find(request.name).usable_bytes


def _fit(step: _Step, request: GpuRequest, placed: Placement) -> Finding:
    """The finding on one request."""
    bench, gpu = step.bench, find(request.name)
    catalogue = f"catalogue entry {gpu.name} ({gpu.source})"
    seen = Evidence(level=Level.INSPECTED, source=catalogue, observed=gpu.usable_bytes, expected=placed.most)
    if placed.is_bare:
        bare = Evidence(
            level=Level.INSPECTED,
            source="sum of the tensors on file",
            observed=step.figures.floor,
            expected=request.count * gpu.usable_bytes,
        )
        return bench.found(placed.code, placed.claim, bare, seen, remedy=_ways_out(step, gpu))
    if placed.fit == "fits":
        return bench.ok(placed.code, placed.claim, seen, *step.inputs)
    return bench.found(placed.code, placed.claim, seen, *step.inputs, remedy=_ways_out(step, gpu))


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
