"""WIR05 and WIR10 in words: whether the wire learns, and whether what it learned comes back from its file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from wirecheck.probe import Yielded
from wirecheck.probes.wire_use_case import Case, letters
from wirecheck.probes.wiring import figure, some
from wirecheck.schema import Evidence, Finding, Severity

if TYPE_CHECKING:
    from wirecheck.wires.failure import StepFailed
    from wirecheck.wires.learning import Learned
    from wirecheck.wires.persistence import Restored, Saved
    from wirecheck.wires.steady import Forward
    from wirecheck.wires.watch import Observation

_FOREIGN = "Leave the frozen models out of `module`: hold them where `state_dict()` does not look, as in a plain list."


def learns_and_keeps(case: Case) -> Iterator[Yielded]:
    """WIR05 and WIR10: the wire is trained for the one, and what it became is saved for the other."""
    from wirecheck.wires.contract import HasBackward
    from wirecheck.wires.learning import overfit

    learned = overfit(case.steady, case.first_row, case.bench.train.optimizer)
    yield _learned(case, learned)
    two_ways = isinstance(case.steady.wire, HasBackward)  # its terms may have other names, its forwards another order
    yield from _restored(case, case.steady.forward(case.first_row) if two_ways else learned.last, learned.last.strays)


def _learned(case: Case, learned: Learned) -> Finding:
    from wirecheck.wires.learning import FALL, PACE, SIDE_FALL

    kind = case.bench.train.optimizer
    most = len(PACE[kind])
    rate = f"learning rate {learned.learning_rate:g} at the last of {learned.steps} updates"
    seen = [
        case.ground.saw(
            f"{learned.before:.4g} -> {learned.after:.4g}",
            f"at least {FALL:.0%} lower within {most} updates",
            of=f": loss of one row; {kind}, gradients clipped to norm 1, {rate}",
        )
    ]
    seen += [
        case.ground.saw(
            f"{learned.sides_before[side]:.4g} -> {learned.sides_after[side]:.4g}",
            f"at least {SIDE_FALL:.1%} lower",
            of=f": cross-entropy of the tokens asked of {side.upper()}",
        )
        for side in sorted(learned.sides_before.keys() & learned.sides_after.keys())
    ]
    if learned.has_learned:
        claim = f"The wire learns: trained on one row by {kind}, its loss falls."
        return case.bench.ok("WIR05", claim, *seen)
    if not learned.steps:
        claim = "The wire's module holds nothing to be trained."
    elif learned.behind and learned.fall > 0:
        claim = f"Trained on one row by {kind}, what is asked of {letters(learned.behind)} becomes no likelier."
    elif learned.fall < 0:
        claim = f"Trained on one row by {kind}, the wire's loss rises."
    else:
        claim = f"Trained on one row by {kind}, the wire's loss does not fall."
    return case.bench.found("WIR05", claim, *seen)


def _restored(case: Case, trained: Forward | Observation, strays: tuple[str, ...]) -> Iterator[Yielded]:
    """WIR10; `trained`: the trained wire's step on one row."""
    from wirecheck.wires.failure import StepFailed
    from wirecheck.wires.persistence import restore, save

    try:
        saved = save(case.steady)
    except StepFailed as failure:
        yield _refused(case, failure, "The wire's state cannot be saved")
        return
    yield from _complete(case, saved, strays)
    if saved.foreign:
        yield _foreign(case, saved)
    case.must_repeat("whether a saved wire is the same once loaded")
    try:
        found = restore(trained, case.make_other(), saved, case.first_row)
    except StepFailed as failure:
        if failure.part != "load_state_dict":
            raise
        yield _refused(case, failure, "The wire's state, saved, is not loaded into another wire of the same settings")
        return
    yield _same(case, saved, found)


def _refused(case: Case, failure: StepFailed, claim: str) -> Finding:
    return case.bench.found("WIR10", f"{claim}.", case.ground.saw(failure.message, "no error", of=f": {failure.part}"))


def stray(case: Case, strays: tuple[str, ...]) -> Iterator[Finding]:
    """WIR10, where tensors receive a gradient that no module holds."""
    if strays:
        claim = f"{len(strays)} tensors that receive a gradient are in no module, and so in no state: {some(strays)}."
        yield case.bench.found("WIR10", claim, case.ground.saw(len(strays), 0, of=": leaves of the graph in no module"))


def _complete(case: Case, saved: Saved, strays: tuple[str, ...]) -> Iterator[Finding]:
    yield from stray(case, strays)
    if saved.left_out:
        names = saved.left_out
        claim = f"{len(names)} trained tensors are not in the state that the wire saves: {some(names)}."
        yield case.bench.found(
            "WIR10", claim, case.ground.saw(len(names), 0, of=": parameters in no entry of the state")
        )
    if saved.others:
        names = tuple(saved.others)
        claim = f"{len(names)} entries of the state are no tensors, and safetensors holds none of them: {some(names)}."
        seen = case.ground.saw(len(names), 0, of=": entries of the state that are no tensors")
        yield case.bench.found("WIR10", claim, seen, severity=Severity.NOTE)


def _foreign(case: Case, saved: Saved) -> Finding:
    claim = f"The wire's state holds {len(saved.foreign)} tensors of the frozen models: {some(saved.foreign)}."
    seen = case.ground.saw(len(saved.foreign), 0, of=": entries of the state that are a frozen model's tensors")
    return case.bench.found("WIR10", claim, seen, severity=Severity.WARN, remedy=_FOREIGN)


def _same(case: Case, saved: Saved, found: Restored) -> Finding:
    from wirecheck.wires.persistence import SAME

    trained, loaded = found.losses
    evidence: tuple[Evidence, ...] = (
        case.ground.saw(
            figure(loaded), figure(trained), of=": loss of one row after loading, against the trained wire's"
        ),
        case.ground.saw(
            figure(found.after),
            f"at most {SAME:g}",
            of=": largest difference of loss, embeddings handed and logits, over their size, after loading",
        ),
        case.ground.saw(figure(found.before), "above 0", of=": the same before loading, two wires of two seeds"),
    )
    if not found.is_same:
        claim = "Loaded into a wire of another seed, the state of a trained wire does not make it the same wire."
        return case.bench.found("WIR10", claim, *evidence)
    claim = (
        f"The state of a trained wire, {len(saved.tensors)} tensors through a safetensors file, makes a wire of "
        "another seed the same wire."
    )
    return case.bench.ok("WIR10", claim, *evidence)
