"""Does the wire work on this pair: one training step, run and differentiated, on tiny twins and on the real weights.

Both probes make the same checks; they differ in the models they are handed and in the rung that reaches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wirecheck.errors import CannotRun
from wirecheck.probe import PairBench, Probe, Yielded
from wirecheck.schema import Evidence, Finding, Level, Scalar, Severity

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from wirecheck.wires.checks import Observation
    from wirecheck.wires.failure import StepFailed
    from wirecheck.wires.rig import Rig, Side
    from wirecheck.wires.step import Step

MAX_ANSWER_TOKENS = 24  # a 262,144-token head costs 0.8 MB per token and copy
LEAST_DISTANCE = 1e-4  # in units of the RMS; sound encoders part two sentences by 0.1 and more
SCALE_SLACK = 0.1  # bfloat16 rounds a calibrated prefix by 0.004


@dataclass(frozen=True)
class Ground:
    """What the checks stand on: the rung, and the words for it."""

    level: Level
    models: str
    """Who ran: `twins` or `real weights`."""
    source: str

    def saw(self, observed: Scalar, expected: Scalar = None, *, of: str = "") -> Evidence:
        """One observation made on this ground."""
        return Evidence(level=self.level, source=self.source + of, observed=observed, expected=expected)


def check_wire(bench: PairBench, rig: Rig, step: Step, ground: Ground) -> Iterator[Yielded]:
    """Every check of one step of `rig`; no gradient is left in the models. MemoryError: this machine is too small."""
    from wirecheck import zoo
    from wirecheck.wires import checks
    from wirecheck.wires.failure import StepFailed

    try:
        with zoo.quiet():
            seen = checks.observe(rig, step)
        yield _ran(bench, rig, seen, ground)
        yield _frozen(bench, rig, ground)
        finite = _finite(bench, rig, seen, ground)
        yield finite
        if finite.severity is Severity.BLOCK:
            return  # every further figure would be NaN
        yield _alive(bench, rig, ground)
        aligned = [_aligned(bench, side, seen, ground) for side in rig.sides]
        yield from aligned
        for side in rig.sides:
            yield _on_scale(bench, rig, side, seen, ground)
        yield _reads_source(bench, rig, ground)
        if any(finding.severity in (Severity.NOTE, Severity.WARN) for finding in aligned):
            raise CannotRun("whether the labels are shifted once or twice cannot be told on these models")
    except StepFailed as failure:
        yield _fails(bench, failure, ground)
    finally:
        for side in rig.sides:
            side.model.zero_grad(set_to_none=True)


# --- one finding each --------------------------------------------------------------------------------------------


def _ran(bench: PairBench, rig: Rig, seen: Observation, ground: Ground) -> Finding:
    prefixes = " and ".join(f"{_shape(seen.prefixes[s.name].shape[1:])} for {s.name.upper()}" for s in rig.sides)
    texts = rig.source.bytes_BT.shape[0]
    losses = ", ".join(f"{name} {float(loss):.4g}" for name, loss in seen.losses.items())
    claim = (
        f"One step ran on the {ground.models}: {texts} texts became prefixes of {prefixes}, and the losses came back."
    )
    return bench.ok("WIR01", claim, ground.saw(f"losses: {losses}"))


def _fails(bench: PairBench, failure: StepFailed, ground: Ground) -> Finding:
    claim = f"The wire's step fails in its part `{failure.part}` on the {ground.models}."
    return bench.found("WIR01", claim, ground.saw(failure.message, "no error", of=f": {failure.part}"))


def _frozen(bench: PairBench, rig: Rig, ground: Ground) -> Finding:
    from wirecheck.wires.checks import thawed

    names = [f"{side.name}.{name}" for side in rig.sides for name in thawed(side)]
    if names:
        claim = f"{len(names)} parameters of the frozen models ask for or hold a gradient: {_some(names)}."
        return bench.found("WIR04", claim, ground.saw(len(names), 0))
    total = sum(1 for side in rig.sides for _ in side.model.parameters())
    claim = f"None of the frozen models' {total} parameters asks for or holds a gradient after the backward pass."
    return bench.ok("WIR04", claim, ground.saw(0, 0))


def _finite(bench: PairBench, rig: Rig, seen: Observation, ground: Ground) -> Finding:
    from wirecheck.wires.checks import not_finite

    names = not_finite(rig, seen)
    if names:
        claim = f"{len(names)} losses or gradients hold NaN or an infinity: {_some(names)}."
        return bench.found("WIR03", claim, ground.saw(len(names), 0))
    claim = f"Both losses and the gradients of all {len(rig.trainable())} trainable tensors are finite."
    return bench.ok("WIR03", claim, ground.saw(0, 0))


def _alive(bench: PairBench, rig: Rig, ground: Ground) -> Finding:
    from wirecheck.wires.checks import dead

    names, total = dead(rig), len(rig.trainable())
    if names:
        claim = f"{len(names)} of {total} trainable tensors receive no gradient, or zeros only: {_some(names)}."
        return bench.found("WIR02", claim, ground.saw(len(names), 0))
    claim = f"All {total} trainable tensors of encoder and adapters receive a gradient that is not zero."
    return bench.ok("WIR02", claim, ground.saw(total, total))


def _aligned(bench: PairBench, side: Side, seen: Observation, ground: Ground) -> Finding:
    from wirecheck import zoo
    from wirecheck.wires.checks import ROUNDED_LOSS, Alignment, next_token_loss

    prefix, loss = seen.prefixes[side.name], float(seen.losses[side.name])
    with zoo.quiet():
        own = next_token_loss(side, prefix)
    name, tokens = side.name.upper(), int(side.mask_BL.sum())
    within = f"float32 log-softmax, within a relative {ROUNDED_LOSS[prefix.dtype]:.0e}"
    once = ground.saw(_figure(loss), _figure(own.aligned), of=f": loss of {name}, against {within}")
    twice = ground.saw(_figure(own.shifted_twice), of=f": loss of {name} were the labels shifted twice")
    match own.alignment(loss, prefix.dtype):
        case Alignment.ONCE:
            claim = f"The step's loss of {name} is the next-token loss of its {tokens} answer tokens, shifted once."
            return bench.ok("WIR06", claim, once, twice)
        case Alignment.UNTOLD:
            claim = f"Whether {name}'s labels are aligned cannot be told: shifted once or twice, the loss is the same."
            severity = Severity.WARN if ground.level is Level.EXECUTED else Severity.NOTE
            remedy = f"Look at {name}'s logits: they are alike at all positions, as trained weights' are not."
            return bench.found("WIR06", claim, once, twice, severity=severity, remedy=remedy)
        case Alignment.TWICE:
            claim = f"The step's loss of {name} is that of the token after the next: its labels are shifted twice."
        case Alignment.OTHER:
            claim = f"The step's loss of {name} is not the next-token loss of its {tokens} answer tokens."
    return bench.found("WIR06", claim, once, twice)


def _on_scale(bench: PairBench, rig: Rig, side: Side, seen: Observation, ground: Ground) -> Finding:
    from wirecheck.wires.checks import scale

    ratio = scale(rig, side, seen.prefixes[side.name])
    name = side.name.upper()
    before = ground.saw(_figure(ratio.before), of=f": RMS before calibration over the RMS of {name}'s embeddings")
    after = ground.saw(_figure(ratio.after), 1.0, of=f": RMS as handed to {name} over the RMS of {name}'s embeddings")
    if not abs(ratio.after - 1) <= SCALE_SLACK:
        claim = (
            f"On the {ground.models}, the soft tokens reach {name} at {ratio.after:.2g} times its embeddings' scale."
        )
        return bench.found("WIR07", claim, before, after)
    claim = (
        f"On the {ground.models}, soft tokens made at {ratio.before:.2g} times the scale of {name}'s embeddings "
        f"reach it at {ratio.after:.2f}."
    )
    return bench.ok("WIR07", claim, before, after)


def _reads_source(bench: PairBench, rig: Rig, ground: Ground) -> Finding:
    from wirecheck.wires.checks import distances

    found = distances(rig, bench.wire.max_bytes)
    evidence = [
        ground.saw(_figure(d), of=f": two sources of equal length, largest difference of the {what} over its RMS")
        for what, d in found.items()
    ]
    same = [what for what, distance in found.items() if distance < LEAST_DISTANCE]
    if same:
        claim = f"Two different sources give the same {' and the same '.join(same)}."
        return bench.found("WIR11", claim, *evidence)
    return bench.ok("WIR11", "Two different sources of equal length give two latents and two prefixes.", *evidence)


# --- the two probes ----------------------------------------------------------------------------------------------


def _on_twins(bench: PairBench) -> Iterator[Yielded]:
    ground = Ground(Level.SIMULATED, "twins", f"{bench.train.resident} step on the twins, seed {bench.seed}")
    yield from _check(bench, lambda: (bench.a.twin.model, bench.b.twin.model), ground)


def _on_weights(bench: PairBench) -> Iterator[Yielded]:
    source = f"{bench.train.resident} step on the real weights in {bench.train.dtype}, wire seed {bench.seed}"
    ground = Ground(Level.EXECUTED, "real weights", source)
    yield from _check(bench, lambda: (bench.a.weights, bench.b.weights), ground)


Models = Callable[[], "tuple[PreTrainedModel, PreTrainedModel]"]


def _check(bench: PairBench, models: Models, ground: Ground) -> Iterator[Yielded]:
    from wirecheck.wires import WIRES
    from wirecheck.wires.failure import StepFailed
    from wirecheck.wires.step import STEPS

    if bench.wire.name not in WIRES:
        raise CannotRun(f"wirecheck ships no wire named {bench.wire.name}; it ships {', '.join(WIRES)}")
    try:
        rig = _build(bench, models, ground)
    except StepFailed as failure:
        made = Evidence(level=Level.SIMULATED, source=f"making the {failure.part}", observed=failure.message)
        yield bench.found("WIR01", f"The wire cannot be made: its part `{failure.part}` fails.", made)
        return
    except MemoryError as error:
        raise CannotRun(str(error)) from error
    yield from _facts(bench, rig, ground)
    try:
        yield from check_wire(bench, rig, STEPS[bench.train.resident], ground)
    except MemoryError as error:
        raise CannotRun(str(error)) from error


def _build(bench: PairBench, models: Models, ground: Ground) -> Rig:
    from wirecheck.wires.rig import build_encoder, build_rig, build_side

    build_encoder(bench.wire, bench.seed)  # sizes that do not fit are told before weights are loaded
    twins = ground.level is Level.SIMULATED
    sides = tuple(
        build_side(
            one.side,
            model,
            one.tokenizer,
            bench.wire,
            seed=seed,
            max_answer_tokens=min(MAX_ANSWER_TOKENS, bench.train.answer),
            fold_ids=twins,
        )
        for one, model, seed in zip((bench.a, bench.b), models(), (bench.seed + 1, bench.seed + 2), strict=True)
    )
    return build_rig(bench.wire, bench.seed, sides)


def _facts(bench: PairBench, rig: Rig, ground: Ground) -> Iterator[Yielded]:
    """Parameters of the wire at the models' full width, which a twin's adapter does not have."""
    from wirecheck.wires.rig import adapter_at_full_width

    yield bench.fact("trainable_tensors", len(rig.trainable()), ground.level, ground.source)
    yield bench.fact("encoder_parameters", _size(rig.encoder), ground.level, f"{bench.wire.name} encoder, built")
    for one, side in zip((bench.a, bench.b), rig.sides, strict=True):
        real = ground.level is Level.EXECUTED
        adapter = side.adapter if real else adapter_at_full_width(bench.wire, one.skeleton)
        source = f"adapter of {side.name}, built for {adapter.mean_D.shape[0]} dimensions"
        yield bench.fact(f"adapter_{side.name}_parameters", _size(adapter), ground.level, source)


# --- words and figures -------------------------------------------------------------------------------------------


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _shape(sizes: Sequence[int]) -> str:
    return " x ".join(str(size) for size in sizes)


def _some(names: Sequence[str], most: int = 5) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _figure(value: float) -> float | str:
    """Four significant digits: what stays the same from run to run. A record holds finite numbers only."""
    return float(f"{value:.4g}") if math.isfinite(value) else str(value)


CODES = ("WIR01", "WIR02", "WIR03", "WIR04", "WIR06", "WIR07", "WIR11")
MOOT_AFTER = ("CFG08", "CFG10", "TOK01", "EMB01")

WIRE_TWIN = Probe(
    name="wire-twin",
    question="Does the wire's training step run through both architectures and reach every tensor it trains?",
    scope="pair",
    level=Level.SIMULATED,
    codes=CODES,
    needs="torch",
    requires=("embeds-twin", "tokenizer"),
    moot_after=MOOT_AFTER,
    run=_on_twins,
)

WIRE_WEIGHTS = Probe(
    name="wire-weights",
    question="Does the wire's training step run through both models' real weights?",
    scope="pair",
    level=Level.EXECUTED,
    codes=CODES,
    needs="weights",
    requires=("embeds-weights", "tokenizer"),
    moot_after=MOOT_AFTER,
    run=_on_weights,
)
