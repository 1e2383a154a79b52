"""Expectations the user wrote down, held against the facts that probes established. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wirecheck.geometry import shown
from wirecheck.schema import Evidence, Expectation, Fact, Level, Scalar


@dataclass(frozen=True, slots=True)
class Comparison:
    """One expectation beside what was found."""

    holds: bool
    claim: str
    evidence: Evidence
    remedy: str | None = None
    """A remedy of its own, where the table's does not fit."""


def compare(expectations: Iterable[Expectation], facts: Iterable[Fact]) -> tuple[Comparison, ...]:
    """Each expectation against the strongest fact of its key and subject, in the order given.

    An expectation on a key that no probe established does not hold: what was demanded is not shown.
    """
    known = tuple(facts)
    return tuple(_compare(expectation, known) for expectation in expectations)


def _compare(expectation: Expectation, facts: tuple[Fact, ...]) -> Comparison:
    of_subject = [fact for fact in facts if fact.subject == expectation.subject]
    named = [fact for fact in of_subject if fact.key == expectation.key]
    fact = max(named, key=lambda found: found.level.rank, default=None)
    expected = shown(expectation.value)
    if fact is None:
        keys = ", ".join(sorted({found.key for found in of_subject})) or "nothing"
        claim = f"{expectation.key} was expected to be {expected}, and no probe established it."
        seen = Evidence(level=Level.INSPECTED, source="facts of this run", observed=None, expected=expectation.value)
        remedy = f"Correct the key or remove the expectation; established for model {expectation.subject}: {keys}."
        return Comparison(holds=False, claim=claim, evidence=seen, remedy=remedy)
    holds = same(fact.value, expectation.value)
    found = shown(fact.value)
    claim = f"{fact.key} is {found}, as expected." if holds else f"{fact.key} is {found}, not {expected} as expected."
    # What a config declares was still read from its bytes: the claim is about the value that stands there.
    level = max(fact.level, Level.INSPECTED, key=lambda rung: rung.rank)
    seen = Evidence(level=level, source=fact.source, observed=fact.value, expected=expectation.value)
    return Comparison(holds=holds, claim=claim, evidence=seen)


def same(found: Scalar, expected: Scalar) -> bool:
    """Equality of value and kind: true is not 1, "4096" is not 4096; 1 is 1.0."""
    if isinstance(found, bool) or isinstance(expected, bool):
        return found is expected
    return found == expected
