"""What the GPU itself says: the embeddings' gradient and the wire's step run there, and the step's peak is read off.

The only probes on the rung `measured`; without a CUDA device they are skipped. Nothing here is estimated: where the
formula's figure stands in a finding, it is to be compared with the one that was read.
"""
# ruff: noqa: N803, N806  # shape-suffixed tensor names: B rows, T positions, D width, V vocabulary

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wirecheck.devices import CudaMeter, Meter, Peak
from wirecheck.embedding_trial import Trial, gap, tolerance
from wirecheck.errors import CannotRun
from wirecheck.limits import within_means
from wirecheck.probe import ModelBench, PairBench, Probe, Yielded
from wirecheck.probes import wiring
from wirecheck.probes.memory_shape import memory_shape
from wirecheck.schema import (
    Evidence,
    Finding,
    Level,
    MemoryEstimate,
    MemoryPart,
    Policy,
    Severity,
    TrainSpec,
)
from wirecheck.vram.formula import MemoryShape, estimate

if TYPE_CHECKING:
    import torch

    from wirecheck.wires.contract import WiredModel

ATTENTIONS = ("sdpa", "eager")
ODD_LENGTHS = (7, 11)
"""Positions of the forwards: kernels that work in blocks of 8 meet a remainder."""
GIB = 2**30


def _meter(policy: Policy, train: TrainSpec) -> CudaMeter:
    if train.quantize != "none":
        raise CannotRun(f"weights quantized on load ({train.quantize}) enter the memory's trace; they are not run")
    if policy.device not in ("auto", "cuda"):
        raise CannotRun(f"--device {policy.device} was asked for: figures are read off a CUDA device (`--device cuda`)")
    return CudaMeter()


# --- embeddings on the device ------------------------------------------------------------------------------------


def _run_model(bench: ModelBench) -> Iterator[Yielded]:
    meter = _meter(bench.policy, bench.train)
    yield from check_embeds(bench, meter)


def check_embeds(bench: ModelBench, meter: Meter) -> Iterator[Yielded]:
    """EMB02 and EMB05 on the device that `meter` reads: at odd lengths, with each attention the class takes."""
    from wirecheck import zoo
    from wirecheck.wires.full_step import attention

    trial, where = Trial(bench.weights, bench.seed, zoo.quiet), f"{bench.train.dtype} on {meter.name}"
    every_id_BT = trial.ids_BT
    apart: list[Evidence] = []
    lost: list[Evidence] = []
    refused: list[Evidence] = []
    differs = gone = False
    for name in ATTENTIONS:
        with attention([trial.model], name) as refusal, within_means():
            if refusal is not None:
                refused.append(_read(f"{name} attention, {where}", f"refused: {refusal}"))
                continue
            for length in ODD_LENGTHS:
                trial.ids_BT = every_id_BT[:, :length].contiguous()
                difference, allowed, grad_BTD = _once(trial)
                words = f"{name} attention, {length} positions, {where}"
                expected = f"at most {allowed:.2g}"
                apart.append(
                    _read(f"largest |logits(embed(ids)) - logits(ids)|, {words}", f"{difference:.3g}", expected)
                )
                lost.append(_read(f"gradient of the embeds, {words}", _state(grad_BTD), "finite, not zero"))
                differs |= not difference <= allowed
                gone |= _state(grad_BTD) != "finite, not zero"
    if not apart:
        raise CannotRun("; ".join(f"{one.source}: {one.observed}" for one in refused))
    kinds = "an attention" if refused else "both attentions"
    claim = (
        f"On the device, inputs_embeds=embed(ids) {'gives other' if differs else 'gives the same'} logits than the ids"
    )
    same = f"On the device, with {kinds}, inputs_embeds=embed(ids) gives the logits of the ids at odd lengths."
    yield bench.found("EMB02", f"{claim}.", *apart) if differs else bench.ok("EMB02", same, *apart, *refused)
    if gone:
        yield bench.found("EMB05", "On the device, no finite gradient comes back to the embeds.", *lost)
    else:
        yield bench.ok("EMB05", f"On the device, with {kinds}, a finite gradient comes back to the embeds.", *lost)


def _once(trial: Trial) -> tuple[float, float, torch.Tensor | None]:
    import torch

    with torch.no_grad():
        by_ids_BTV = trial.logits(input_ids=trial.ids_BT)
        embeds_BTD = trial.embed()
        by_embeds_BTV = trial.logits(inputs_embeds=embeds_BTD)
    return gap(by_ids_BTV, by_embeds_BTV), tolerance(by_ids_BTV), trial.gradient(embeds_BTD)


def _state(grad_BTD: torch.Tensor | None) -> str:
    if grad_BTD is None:
        return "none"
    if not bool(grad_BTD.isfinite().all()):
        return "not finite"
    return "finite, not zero" if bool(grad_BTD.any()) else "zero"


def _read(source: str, observed: str | int, expected: str | int | None = None) -> Evidence:
    return Evidence(level=Level.MEASURED, source=source, observed=observed, expected=expected)


# --- the step on the device --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """One step as it ran, and what was read of it."""

    attention: str
    rows: int
    positions: int
    """Of the longest forward."""
    trained: int
    """Trained scalars."""
    peak: Peak


def _run_pair(bench: PairBench) -> Iterator[Yielded]:
    meter = _meter(bench.policy, bench.train)
    if bench.wire.is_own:
        raise CannotRun(
            "your own wire is not run on the GPU by wirecheck: read torch.cuda.max_memory_allocated yourself"
        )
    source = f"{bench.train.resident} step on the real weights in {bench.train.dtype} on {meter.name}"
    models = wiring.wired(bench, wiring.Ground(Level.MEASURED, "real weights", source))
    yield from check_step(bench, models, meter)


def check_step(bench: PairBench, models: tuple[WiredModel, WiredModel], meter: Meter) -> Iterator[Yielded]:
    """MEM03: the peaks that `meter` reads of the step at the size asked for, against the formula's figure for it."""
    from wirecheck.wires.failure import StepFailed

    usual = models[0].model.config._attn_implementation
    names = sorted(ATTENTIONS, key=lambda name: name != usual)
    readings: list[Reading] = []
    without: list[Evidence] = []
    for name in names:
        try:
            reading = _measured(bench, models, meter, name)
        except StepFailed as failure:
            claim = f"On the device the wire's step fails in its part `{failure.part}` with {name} attention."
            yield bench.found("WIR01", claim, _read(f"one step on {meter.name}", failure.message, "no error"))
            return
        except CannotRun as missing:
            if name == names[0]:
                raise
            without.append(_read(f"one step, {name} attention, {meter.name}", f"not read: {missing.reason}"))
            continue
        readings.append(reading)
    for reading in readings:
        source = f"{_shape(reading)}, {bench.train.dtype}, {reading.attention} attention, {meter.name}"
        for kind, count in zip(("allocated", "reserved"), reading.peak, strict=True):
            yield bench.fact(f"{kind}_bytes_{reading.attention}", count, Level.MEASURED, source)
    yield judge(bench, readings, meter.name, _formula(bench, readings[0]), *without)


def judge(
    bench: PairBench, readings: Sequence[Reading], device: str, formula: MemoryEstimate, *beside: Evidence
) -> Finding:
    """The first reading against the formula's figure for that very step; the others are evidence beside it."""
    first, total = readings[0], formula.allocated_bytes
    seen = [
        _read(f"peak {kind} bytes, {_shape(one)}, {one.attention} attention, {device}", count)
        for one in readings
        for kind, count in zip(("allocated", "reserved"), one.peak, strict=True)
    ]
    least, most = int(total * (1 - formula.margin)), int(total * (1 + formula.margin))
    against = _read(f"peak allocated bytes by {formula.method}, {_shape(first)}", total, f"{least} to {most}")
    read = f"On {device} the step of {_shape(first)} peaks at {_gib(first.peak.allocated_bytes)} allocated"
    if least <= first.peak.allocated_bytes <= most:
        claim = f"{read}, which the {formula.method} foretells to within {formula.margin:.0%}."
        return bench.ok("MEM03", claim, *seen, against, *beside)
    claim = f"{read}; the {formula.method} says {_gib(total)} ± {formula.margin:.0%}."
    remedy = "Go by the figure that was read, and leave room for what the allocator reserves beside it."
    return bench.found("MEM03", claim, *seen, against, *beside, severity=Severity.WARN, remedy=remedy)


def _measured(bench: PairBench, models: tuple[WiredModel, WiredModel], meter: Meter, name: str) -> Reading:
    """CannotRun: a class does not take that attention, or the step does not fit, with the bytes."""
    from wirecheck import zoo
    from wirecheck.wires.failure import OutOfMemory
    from wirecheck.wires.full_step import attention, full_batch, optimizer, train_once
    from wirecheck.wires.watch import watching

    with attention([one.model for one in models], name) as refusal, wiring.lent(models):
        if refusal is not None:
            raise CannotRun(f"{name} attention is refused: {refusal}")
        try:
            wire, batch = wiring.make(bench, models), full_batch(bench.wire, bench.train)
            update = optimizer(wire, bench.train)
            with zoo.quiet(), watching(models, keep_logits=False) as calls:
                train_once(wire, batch, update)  # kernels are chosen and the optimizer's states made once
            if not calls:
                raise CannotRun("the step runs neither model as a whole: there is no size to compare the formula at")
            rows, positions = max((call.embeds_BSD.shape[:2] for call in calls), key=lambda shape: shape[0] * shape[1])
            calls.clear()
            meter.reset()
            with zoo.quiet():
                train_once(wire, batch, update)
            peak = meter.peak()
        except OutOfMemory as error:
            raise CannotRun(f"{name} attention: {error}") from error
        trained = sum(p.numel() for p in wire.module.parameters() if p.requires_grad)
        return Reading(name, rows, positions, trained, peak)


# --- the formula, for the step that ran --------------------------------------------------------------------------


def _formula(bench: PairBench, reading: Reading) -> MemoryEstimate:
    """The estimate for the rows and positions of that step, both models on the device whatever the schedule.

    CannotRun where a size is not established.
    """
    a, b = _sizes(bench, bench.a), _sizes(bench, bench.b)
    text = max(reading.positions - bench.wire.prefix_length, 1)
    ran = {"batch": reading.rows, "context": 0, "answer": text}
    train = TrainSpec.model_validate(dict(bench.train) | ran)
    made = estimate(a, b, bench.wire, train, reading.trained)
    named = {part.name for part in made.parts}
    beside = tuple(
        MemoryPart(name=f"weights {one.side}", bytes=one.weight_bytes, how="stays on the device while the other runs")
        for one in (a, b)
        if f"weights {one.side}" not in named
    )
    return MemoryEstimate(**dict(made) | {"parts": made.parts + beside})


def _sizes(bench: PairBench, one: ModelBench) -> MemoryShape:
    shape = memory_shape(bench, one)
    if isinstance(shape, MemoryShape):
        return shape
    raise CannotRun(f"nothing establishes {', '.join(shape)} of model {one.side}: there is no estimate to compare with")


def _shape(reading: Reading) -> str:
    return f"{reading.rows} rows of {reading.positions} positions"


def _gib(count: int) -> str:
    return f"{count / GIB:.2f} GiB"


_BLOCKS = ("WGT01", "WGT02", "WGT03", "WGT04", "WGT05", "WGT07", "WGT08", "WGT11")

EMBEDS_DEVICE = Probe(
    name="embeds-device",
    question="Does the real model take inputs_embeds on the GPU, with each attention, at odd lengths?",
    scope="model",
    level=Level.MEASURED,
    codes=("EMB02", "EMB05"),
    needs="gpu",
    requires=("embeds-weights",),
    moot_after=("EMB01", "CFG10", *_BLOCKS),
    run=_run_model,
)
STEP_DEVICE = Probe(
    name="step-device",
    question="How much of the GPU's memory does one step of the wire take?",
    scope="pair",
    level=Level.MEASURED,
    codes=("MEM03", "WIR01"),
    needs="gpu",
    requires=("wire-weights", "embeds-device"),
    moot_after=("WIR01", "EMB01", "CFG10", *_BLOCKS),
    run=_run_pair,
)
