"""Does the wire work on this pair: one training step, run and differentiated, on tiny twins and on the real weights.

Both probes make the same checks on a wire of the contract, as a black box; they differ in the models they are handed
and in the rung that reaches. On the twins the step is run once more in the run's own dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from wirecheck.errors import CannotRun
from wirecheck.probe import PairBench, Probe, Yielded
from wirecheck.probes import wire_labels, wiring
from wirecheck.probes.residence import affordable
from wirecheck.probes.wiring import Ground, figure, shape, some
from wirecheck.schema import Finding, Level, Severity

if TYPE_CHECKING:
    from wirecheck.probes.wire_labels import Side
    from wirecheck.wires.contract import Batch, SideName, Wire, WiredModel
    from wirecheck.wires.failure import StepFailed
    from wirecheck.wires.watch import Observation

    Models = tuple[WiredModel, WiredModel]

_ROUTES = "Balance the routing, or let a text of your data that reaches these parts show that it does."
LATE_STEPS = 2
"""Updates after which a tensor behind a gate that starts at zero has its gradient."""


def check_wire(bench: PairBench, wire: Wire, models: Models, ground: Ground) -> Generator[Yielded, None, str]:
    """Every check of one step of `wire`; returns what could not be told, empty where all could.

    Raises StepFailed; MemoryError where this machine is too small. The wire's tensors are moved by a small step.
    """
    from wirecheck.wires import reach
    from wirecheck.wires.watch import trained_module

    module = trained_module(wire)
    before = reach.marks(models)
    with reach.counting_recomputes(models) as recomputes:
        seen = _observe(bench, wire, models)
    sides = [side for one in models if (side := wire_labels.read_side(one, seen)) is not None]
    yield _ran(bench, sides, seen, ground)
    faults = {
        "ask for or hold a gradient": list(dict.fromkeys((*reach.thawed(models), *seen.reached))),
        "are in the wire's module": reach.inside(module, models),
    }
    finite = _finite(bench, reach.not_finite(module, seen.losses), len(reach.trainable(module)), ground)
    if finite.severity is Severity.BLOCK:
        yield _frozen(bench, faults, models, ground)
        yield finite
        return ""  # every further figure would be NaN
    dead = reach.dead(module)
    reach.nudge(module)
    yield _frozen(bench, faults | {"change when the wire is updated": reach.moved(before, models)}, models, ground)
    yield finite
    yield _alive(bench, wire, models, dead, ground)
    sides = _passed(bench, wire, models, sides)
    yield from _labels(bench, sides, seen, ground, partial(_observe, bench, wire, models))
    yield from _scales(bench, wire, sides, ground)
    if bench.train.grad_checkpointing:
        yield _recomputed(bench, {side.one.side: recomputes[side.one.side] for side in sides}, ground)
    return "which tokens the loss asks for cannot be told" if any(side.is_untold for side in _asked(sides)) else ""


def _observe(bench: PairBench, wire: Wire, models: Models, batch: Batch | None = None) -> Observation:
    """One step on the samples, or on `batch`."""
    from wirecheck import zoo
    from wirecheck.wires.samples import SAMPLES
    from wirecheck.wires.watch import observe

    with zoo.quiet():
        return observe(wire, models, batch or SAMPLES, keep_logits=False, seed=bench.seed)


# --- one finding each --------------------------------------------------------------------------------------------


def _ran(bench: PairBench, sides: Sequence[Side], seen: Observation, ground: Ground) -> Finding:
    from wirecheck.wires.samples import SAMPLES

    calls = {side.letter: [call for call in side.calls if len(call.at_K)] for side in sides}
    forwards = " and ".join(f"{len(made)} of {letter}" for letter, made in calls.items()) or "none"
    handed = ", ".join(f"{side.letter} {shape(side.calls[0].embeds_BSD.shape)}" for side in sides)
    losses = ", ".join(f"{name} {float(loss):.4g}" for name, loss in seen.losses.items())
    claim = (
        f"One step on {len(SAMPLES.sources)} texts ran on the {ground.models} and was differentiated; forwards that a "
        f"gradient comes back through: {forwards}."
    )
    evidence = ground.saw(handed, of=": embeddings handed in the first forward")
    return bench.ok("WIR01", claim, ground.saw(losses, of=": terms of the loss"), evidence)


def _fails(bench: PairBench, failure: StepFailed, ground: Ground) -> Finding:
    claim = f"The wire fails in its part `{failure.part}` on the {ground.models}."
    return bench.found("WIR01", claim, ground.saw(failure.message, "no error", of=f": {failure.part}"))


def _frozen(bench: PairBench, faults: dict[str, list[str]], models: Models, ground: Ground) -> Finding:
    total = sum(len(one.own_parameters()) for one in models)
    found = {words: names for words, names in faults.items() if names}
    if found:
        words, names = next(iter(found.items()))
        claim = f"{len(names)} of the frozen models' {total} parameters {words}: {some(names)}."
        evidence = [
            ground.saw(len(names), 0, of=f": frozen parameters that {words}") for words, names in faults.items()
        ]
        return bench.found("WIR04", claim, *evidence)
    claim = (
        f"None of the frozen models' {total} parameters asks for or holds a gradient after the backward pass, nor is "
        "one in the wire's module."
    )
    evidence = [ground.saw(0, 0, of=f": frozen parameters that {words}") for words in faults]
    return bench.ok("WIR04", claim, *evidence)


def _finite(bench: PairBench, names: list[str], total: int, ground: Ground) -> Finding:
    if names:
        claim = f"{len(names)} losses or gradients hold NaN or an infinity: {some(names)}."
        return bench.found("WIR03", claim, ground.saw(len(names), 0))
    claim = f"The loss and the gradients of all {total} trainable tensors are finite."
    return bench.ok("WIR03", claim, ground.saw(0, 0))


def _alive(bench: PairBench, wire: Wire, models: Models, dead: list[str], ground: Ground) -> Finding:
    """Behind a gate that starts at zero a tensor has its gradient one update later: dead is what has none even then.

    Nor is an expert dead that other texts are routed to.
    """
    from wirecheck.wires import reach, routes
    from wirecheck.wires.samples import SAMPLES

    total, names = len(reach.trainable(wire.module)), dead
    with routes.noting_calls(wire.module) as called:
        for step in range(LATE_STEPS):
            if not names:
                break
            _observe(bench, wire, models)
            names = [name for name in reach.dead(wire.module) if name in names]
            if step + 1 < LATE_STEPS:
                reach.nudge(wire.module)
        for batch in routes.words_of(SAMPLES):
            if not names:
                break
            _observe(bench, wire, models, batch)
            names = [name for name in reach.dead(wire.module) if name in names]
    if total == 0:
        return bench.found("WIR02", "The wire's module has no trainable tensor.", ground.saw(0, "at least 1"))
    aside = routes.not_chosen(wire.module, names, called)
    if names and len(aside) == len(names):
        claim = f"{len(names)} of {total} trainable tensors are not reached by the texts tried: {some(names)}."
        of = ": tensors of parts that no text goes through, others of their list being used"
        return bench.found("WIR02", claim, ground.saw(len(names), 0, of=of), severity=Severity.WARN, remedy=_ROUTES)
    names = [name for name in names if name not in aside]
    if names:
        claim = f"{len(names)} of {total} trainable tensors receive no gradient, or zeros only: {some(names)}."
        of = f": after {LATE_STEPS} updates too"
        return bench.found("WIR02", claim, ground.saw(len(names), 0, of=of))
    late = f" ({len(dead)} of them from the second or third step on)" if dead else ""
    claim = f"All {total} trainable tensors of the wire receive a gradient that is not zero{late}."
    return bench.ok("WIR02", claim, ground.saw(total, total))


def _passed(bench: PairBench, wire: Wire, models: Models, sides: Sequence[Side]) -> list[Side]:
    """The same; where a model's logits are asked nothing, with whether the loss depends on it by another road."""
    from wirecheck.wires.bypass import reached_past_logits
    from wirecheck.wires.samples import SAMPLES

    idle = [side for side in sides if side.is_unasked]
    if not idle or len(idle) == len(sides):
        return list(sides)
    passed = reached_past_logits(wire, models, SAMPLES, seed=bench.seed)
    return [replace(side, is_passed=side in idle and side.one.side in passed) for side in sides]


def _asked(sides: Sequence[Side]) -> list[Side]:
    """Those whose labels are to be judged: all but the silent, and all where every one is silent."""
    return [side for side in sides if not side.is_silent] or list(sides)


def _labels(
    bench: PairBench, sides: Sequence[Side], seen: Observation, ground: Ground, observe: Callable[[Batch], Observation]
) -> Iterator[Finding]:
    from wirecheck.wires.alignment import sources_of
    from wirecheck.wires.contract import Batch
    from wirecheck.wires.samples import SAMPLES

    def sources(side: Side) -> list[int]:
        rows = [Batch((source,), (answer,)) for source, answer in zip(*SAMPLES, strict=True)]
        alone = [wire_labels.read_side(side.one, observe(row)) for row in rows]
        return sources_of(side.soft_rows(), [one.soft_rows()[0] for one in alone if one is not None])

    if not sides:
        evidence = ground.saw(
            0, "at least 1", of=": forwards of a frozen model that the loss is differentiated through"
        )
        claim = "The loss does not come back through either frozen model."
        yield bench.found(
            "WIR06", claim, evidence, remedy="Take the loss from a frozen model's logits, with gradients on."
        )
    for side in _asked(sides):
        labels = wire_labels.Labels(bench, side, seen, ground)
        yield from labels.aligned()
        yield from labels.spelled(SAMPLES, sources)


def _scales(bench: PairBench, wire: Wire, sides: Sequence[Side], ground: Ground) -> Iterator[Finding]:
    from wirecheck import zoo
    from wirecheck.wires import scale
    from wirecheck.wires.contract import HasUncalibrated
    from wirecheck.wires.failure import part
    from wirecheck.wires.samples import SAMPLES

    raw = {}
    if isinstance(wire, HasUncalibrated):
        with zoo.quiet(), part("uncalibrated"):
            raw = dict(wire.uncalibrated(SAMPLES))
    for side in sides:
        rms, name = scale.table_rms(side.one), side.letter
        found = scale.soft_scale(side.calls, side.handed, rms)
        of = f" over the RMS of {name}'s embeddings"
        evidence = [ground.saw(figure(found.ratio), 1.0, of=f": RMS as handed to {name}{of}")]
        if side.one.side in raw:
            before = figure(scale.raw_scale(raw[side.one.side], rms))
            evidence.insert(0, ground.saw(before, of=f": RMS before calibration{of}"))
        if not found.num_soft:
            nothing = ground.saw(0, of=f": vectors handed to {name} that are no token's")
            yield bench.ok(
                "WIR07", f"{name} is handed the embeddings of tokens only: no soft token has a scale.", nothing
            )
        elif found.is_off:
            claim = (
                f"On the {ground.models}, the soft tokens reach {name} at {found.ratio:.2g} times the scale of its "
                "embeddings."
            )
            # a twin's table is random and of a size of its own: a scale that fits the model's may be off there
            severity = Severity.WARN if ground.level.rank >= Level.EXECUTED.rank else Severity.NOTE
            yield bench.found("WIR07", claim, *evidence, severity=severity)
        else:
            claim = (
                f"On the {ground.models}, the soft tokens reach {name} within a factor {scale.FURTHEST:g} of its "
                "embeddings' scale."
            )
            yield bench.ok("WIR07", claim, *evidence)


def _recomputed(bench: PairBench, recomputes: dict[SideName, int], ground: Ground) -> Finding:
    evidence = [
        ground.saw(count, "at least 1", of=f": layers of {side.upper()} run again in backward")
        for side, count in recomputes.items()
    ]
    idle = [side.upper() for side, count in recomputes.items() if not count]
    if idle:
        claim = f"Gradient checkpointing was asked for, and in backward no layer of {' and '.join(idle)} is run again."
        return bench.found("WIR18", claim, *evidence)
    claim = (
        f"Layers of {' and '.join(side.upper() for side in recomputes)} are run again in backward: checkpointing works."
    )
    return bench.ok("WIR18", claim, *evidence)


# --- the two probes ----------------------------------------------------------------------------------------------


def _on_twins(bench: PairBench) -> Iterator[Yielded]:
    yield from _check(bench, wiring.on_twins(bench))


def _on_weights(bench: PairBench) -> Iterator[Yielded]:
    wiring.factory(bench)  # a wire that is not there is told before weights are loaded
    fitting = affordable(bench)
    yield from _check(fitting, wiring.on_weights(fitting))


def _check(bench: PairBench, ground: Ground) -> Iterator[Yielded]:
    wiring.factory(bench)  # a wire that is not there is told before weights are loaded
    models = wiring.wired(bench, ground)
    is_cast = ground.level is Level.SIMULATED and bench.train.dtype != "float32"
    try:
        # before a factory adds to the models
        casts = wiring.in_dtype(models, bench.train.dtype, (bench.a, bench.b)) if is_cast else None
        with wiring.lent(models):
            untold = yield from _made_and_checked(bench, models, ground)
        if casts is not None:
            own = _in_own_dtype(bench, casts, ground)
            yield own
            if own.severity is Severity.NOTE:  # not tried: nothing but its reason is in the evidence
                untold = "; ".join(reason for reason in (untold, str(own.evidence[0].observed)) if reason)
    except MemoryError as error:
        raise CannotRun(str(error)) from error
    if untold:
        raise CannotRun(untold)


def _made_and_checked(bench: PairBench, models: Models, ground: Ground) -> Generator[Yielded, None, str]:
    from wirecheck import zoo
    from wirecheck.wires.failure import StepFailed

    try:
        with zoo.quiet():
            wire = wiring.make(bench, models)
        yield from _facts(bench, wire, ground)
        return (yield from check_wire(bench, wire, models, ground))
    except StepFailed as failure:
        yield _fails(bench, failure, ground)
        return ""


def _in_own_dtype(bench: PairBench, models: Models, ground: Ground) -> Finding:
    """The step once more between twins in the run's dtype (`models`), with no autocast but the wire's own."""
    from wirecheck import zoo
    from wirecheck.wires import reach
    from wirecheck.wires.failure import StepFailed

    dtype = bench.train.dtype
    here = Ground(ground.level, f"twins in {dtype}", f"{ground.source}, cast to {dtype}")
    try:
        with zoo.quiet(), wiring.lent(models):
            wire = wiring.make(bench, models)
            seen = _observe(bench, wire, models)
            names = reach.not_finite(wire.module, seen.losses)
    except StepFailed as failure:
        return _fails(bench, failure, here)
    except CannotRun as missing:
        claim = f"The step in {dtype} was not tried on the twins."
        return bench.found("WIR01", claim, here.saw(missing.reason), severity=Severity.NOTE)
    if names:
        return _finite(bench, names, len(reach.trainable(wire.module)), here)
    losses = ", ".join(f"{name} {float(loss):.3g}" for name, loss in seen.losses.items())
    claim = f"The same step runs between models in {dtype}, and everything stays finite."
    return bench.ok("WIR01", claim, here.saw(losses, of=": terms of the loss"))


def _facts(bench: PairBench, wire: Wire, ground: Ground) -> Iterator[Yielded]:
    """Parameters of the wire; of a shipped one at the models' full width, which a twin's adapter does not have."""
    from wirecheck.wires import WIRES, pair_count, reach
    from wirecheck.wires.watch import trained_module

    trained = reach.trainable(trained_module(wire))
    yield bench.fact("trainable_tensors", len(trained), ground.level, ground.source)
    if bench.wire.name not in WIRES:
        built = sum(p.numel() for p in trained.values())
        yield bench.fact("wire_parameters", built, ground.level, f"the wire as made between the {ground.models}")
        return
    widths = [wiring.hidden_size(one) for one in (bench.a, bench.b)]
    source = f"{bench.wire.name} wire between widths {widths[0]} and {widths[1]}"
    for key, count in pair_count(bench.wire, *widths)._asdict().items():
        yield bench.fact(f"{key}_parameters", count, ground.level, source)


CODES = ("WIR01", "WIR02", "WIR03", "WIR04", "WIR06", "WIR07", "WIR17", "WIR18")
MOOT_AFTER = ("CFG08", "CFG10", "TOK01", "EMB01", "WIR13")

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
    moot_after=(*MOOT_AFTER, "WIR01", "WIR04"),  # an unfrozen model would take gradients as large as its weights
    run=_on_weights,
)
