"""What was said of these models before, held against what was found: the report that this check replaces."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wirecheck.schema import Claim, Fact, Level, PairResult, Scalar, same
from wirecheck.views.evidence import fact_anchor

CLOSE = 1e-3
"""Relative difference of two floats that are one figure, printed and read again."""
MEMORY, VERDICT = "memory_bytes", "verdict"
"""Claims of the whole, which no fact holds: bytes allocated at the peak of a step, and the outcome."""


@dataclass(frozen=True)
class Compared:
    """One claim beside what was found."""

    claim: Claim
    found: Scalar
    level: Level | None
    """What the finding stands on; None where nothing was found."""
    holds: bool | None
    """None where no probe of this run established the figure."""
    anchor: str | None
    """Where the report shows the figure."""
    within: float | None = None
    """The relative difference that was allowed for, where one was."""

    @property
    def words(self) -> str:
        """`holds`, `does not hold`, or `not established`."""
        return {True: "holds", False: "does not hold", None: "not established"}[self.holds]


def compared(result: PairResult) -> tuple[Compared, ...]:
    """Every claim of the result, those that do not hold first, then those that nothing speaks to."""
    order = {False: 0, None: 1, True: 2}
    asked = [
        Claim(subject=one.subject, key=one.key, value=one.value, source="expected in the settings of this check")
        for one in result.policy.expectations
    ]
    made = [_one(result, claim, exact=True) for claim in asked]
    made += [_one(result, claim, exact=False) for claim in result.claims]
    return tuple(sorted(made, key=lambda one: order[one.holds]))


def sentence(found: tuple[Compared, ...]) -> str:
    """How many of the claims are contradicted, borne out, or neither."""
    held, lost = sum(one.holds is True for one in found), sum(one.holds is False for one in found)
    rest = len(found) - held - lost
    unknown = f", {rest} not established" if rest else ""
    return f"{lost or 'none'} of {len(found)} contradicted, {held} borne out{unknown}."


def _one(result: PairResult, claim: Claim, *, exact: bool) -> Compared:
    if claim.key == VERDICT:
        outcome = str(result.verdict.outcome)
        return Compared(claim, outcome, result.verdict.strength, claim.value == outcome, "executive-summary")
    if claim.key == MEMORY:
        return _memory(result, claim)
    fact = result.fact(claim.subject, claim.key)
    if fact is None:
        return Compared(claim, None, None, None, None)
    return Compared(claim, fact.value, fact.level, _same(fact, claim.value, exact=exact), fact_anchor(fact))


def _memory(result: PairResult, claim: Claim) -> Compared:
    memory = result.memory
    if memory is None or isinstance(claim.value, str | bool | None):
        return Compared(claim, None, None, None, None)
    total = memory.allocated_bytes
    holds = abs(claim.value - total) <= memory.margin * total
    return Compared(claim, total, memory.level, holds, "memory", memory.margin)


def _same(fact: Fact, said: Scalar, *, exact: bool) -> bool:
    """As an expectation has it; unless `exact`, floats to the digits printed."""
    found = fact.value
    if not exact and isinstance(found, float) and isinstance(said, int | float) and not isinstance(said, bool):
        return math.isclose(found, said, rel_tol=CLOSE)
    return same(found, said)
