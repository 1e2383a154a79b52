"""WIR01 in words: whether the soft tokens that a wire shows are those it hands the models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from wirecheck.probe import Yielded
from wirecheck.probes.wire_use_case import Case
from wirecheck.probes.wiring import figure
from wirecheck.schema import Finding, Severity

if TYPE_CHECKING:
    from wirecheck.wires.contract import SideName
    from wirecheck.wires.shown import Shown

_SHOW = "Let `prefix` return the very tensors that `loss` puts before the text: B x M x D, calibrated, before the cast."


def shows_its_own(case: Case) -> Iterator[Yielded]:
    """WIR01, of a wire that has `prefix`. A warning at most: its training does not rest on what it shows."""
    from wirecheck.wires.contract import HasPrefix
    from wirecheck.wires.failure import StepFailed
    from wirecheck.wires.shown import shown

    if not isinstance(case.steady.wire, HasPrefix):
        return
    case.must_repeat("whether `prefix` gives the soft tokens that the models are handed")
    try:
        found = shown(case.steady, case.samples, case.alone)
    except StepFailed as failure:
        if failure.part != "prefix":
            raise
        claim = f"The wire's `prefix` fails on the {case.ground.models}, or gives other than soft tokens by model."
        seen = case.ground.saw(failure.message, "B x M x D by model", of=": prefix")
        yield case.bench.found("WIR01", claim, seen, severity=Severity.WARN, remedy=_SHOW)
        return
    for side in sorted({each.side for each in found}):
        yield _of(case, side, [each for each in found if each.side == side])


def _of(case: Case, side: SideName, rows: list[Shown]) -> Finding:
    name = side.upper()
    worst = max(rows, key=lambda each: each.difference / each.allowed)
    seen = case.ground.saw(
        figure(worst.difference),
        f"at most {worst.allowed:.2g} ({worst.rounding})",
        of=f": row {worst.row + 1}, largest difference of {worst.num_tokens} vectors of `prefix` from what {name} is "
        "handed, over their RMS",
    )
    if worst.is_same:
        return case.bench.ok("WIR01", f"The soft tokens that `prefix` gives for {name} are those it is handed.", seen)
    if any(each.is_drawn for each in rows):
        claim = f"`prefix` draws random numbers: whether {name} is handed what it gives cannot be told."
        return case.bench.found("WIR01", claim, seen, severity=Severity.NOTE)
    claim = f"The soft tokens that `prefix` gives for {name} are not among the embeddings that {name} is handed."
    return case.bench.found("WIR01", claim, seen, severity=Severity.WARN, remedy=_SHOW)
