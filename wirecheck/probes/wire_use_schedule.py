"""WIR02 and WIR01 in words, of a wire with a `backward` of its own: whether that differentiates the wire's loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from wirecheck.errors import CannotRun
from wirecheck.probe import Yielded
from wirecheck.probes.wire_use_case import REPEATS, Case
from wirecheck.probes.wire_use_state import stray
from wirecheck.probes.wiring import figure, some
from wirecheck.schema import Finding, Severity

if TYPE_CHECKING:
    from wirecheck.wires.schedules import Schedule

_DIFFERENTIATE = (
    "Differentiate in `backward` what `loss` returns: look for a `detach` whose gradient is not handed on, a part left "
    "out, or a weight that one of the two does not have."
)
_TELL = "Return from `backward` the terms of `loss`, detached."


def schedules(case: Case) -> Iterator[Yielded]:
    """WIR02 and WIR01; and WIR10 of what only the graph of the loss shows. Nothing of a wire without a `backward`."""
    from wirecheck.wires.contract import HasBackward
    from wirecheck.wires.schedules import schedule
    from wirecheck.wires.steady import SteadyWire

    steady, row = case.steady, case.first_row
    if not isinstance(steady.wire, HasBackward):
        return
    found = schedule(steady, row)
    yield from stray(case, found.by_loss.strays)
    what = "whether `backward` differentiates the wire's loss"
    case.must_repeat(what)
    other = SteadyWire(steady.wire, steady.models, steady.seed + 1).forward(row).loss
    if abs(other - steady.forward(row).loss) > REPEATS * abs(other):
        raise CannotRun(f"{what}: the wire draws random numbers in eval mode, and each of the two may draw its own")
    yield _gradients(case, found)
    if not found.is_told:
        told, loss = (figure(value) for value in found.told)
        claim = "The terms that the wire's `backward` returns are not those of its `loss`."
        seen = case.ground.saw(told, loss, of=": sum of the terms for one row, against the loss of that row")
        yield case.bench.found("WIR01", claim, seen, severity=Severity.WARN, remedy=_TELL)


def _gradients(case: Case, found: Schedule) -> Finding:
    distance = figure(max(found.apart.values(), default=0.0))
    limit = f"at most {found.allowed:.2g} (the root of the logits' rounding step)"
    evidence = (
        case.ground.saw(distance, limit, of=": largest distance of a tensor's gradient, over its size"),
        case.ground.saw(figure(found.factor), "above 0", of=": factor by which `backward` scales the gradients"),
    )
    names = found.differing
    if names:
        claim = (
            f"In {len(names)} of {len(found.apart)} trained tensors the wire's `backward` leaves another gradient than "
            f"that of its `loss`: {some(names)}."
        )
        return case.bench.found("WIR02", claim, *evidence, remedy=_DIFFERENTIATE)
    claim = "The gradients that the wire's `backward` leaves are those of its `loss`, up to one factor for all."
    return case.bench.ok("WIR02", claim, *evidence)
