"""From runs and policy to a verdict: a pure function, never stronger than what was done.

A probe is *settled* for a subject when it ran to its end and each of its claims stands on the probe's rung or above
(within a claim the strongest evidence counts, across claims the weakest). Anything else is a *gap*. The verdict's
strength is the highest rung on which some probe stands and at or below which there is no gap: a success higher up
never pays for a hole lower down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from wirecheck.schema import LADDER, Level, Outcome, Policy, ProbeRun, Severity, Subject, Verdict


class Expected(NamedTuple):
    """One question that had to be answered: a probe for one subject, and the rung of its answer."""

    probe: str
    subject: Subject
    level: Level


class Grave(NamedTuple):
    """What a block or a warning says."""

    code: str
    subject: Subject
    claim: str
    severity: Severity


@dataclass(frozen=True, slots=True)
class Standing:
    """What the runs of one or more subjects come to: all that a verdict depends on, without the runs."""

    levels: frozenset[Level]
    """Rungs of the questions."""
    gaps: tuple[tuple[Expected, str], ...]
    """Questions that are open, and why."""
    grave: frozenset[Grave]
    """Every block and every warning."""


def standing(runs: Sequence[ProbeRun], expected: Sequence[Expected]) -> Standing:
    """What `runs` come to, given every question that had to be answered about their subjects."""
    return Standing(
        levels=frozenset(question.level for question in expected),
        gaps=tuple((question, why) for question in expected if (why := _gap(question, runs))),
        grave=frozenset(
            Grave(finding.code, finding.subject, finding.claim, finding.severity)
            for run in runs
            for finding in run.findings
            if finding.severity in (Severity.BLOCK, Severity.WARN)
        ),
    )


def judge(runs: Sequence[ProbeRun], expected: Sequence[Expected], policy: Policy) -> Verdict:
    """The verdict on `runs`, given every question that had to be answered.

    A block anywhere (under `policy.strict` also a warning) that was not accepted gives incompatible; else compatible
    when the strength reaches `policy.required`; else unproven, with the gaps.
    """
    return decide([standing(runs, expected)], policy)


def decide(parts: Sequence[Standing], policy: Policy) -> Verdict:
    """The verdict on parts that share no subject: the same as on all of their runs together."""
    outcome, strength, because = decided(parts, policy)
    return Verdict(outcome=outcome, strength=strength, because=because)


def decided(parts: Sequence[Standing], policy: Policy) -> tuple[Outcome, Level | None, tuple[str, ...]]:
    """The fields of the verdict, for those who decide many."""
    strength = _strength(parts)
    blockers = _blockers(parts, policy)
    if blockers:
        return Outcome.INCOMPATIBLE, strength, blockers
    if strength is not None and strength.rank >= policy.required.rank:
        settled = f"every question up to {strength} is settled, and {policy.required} was required"
        return Outcome.COMPATIBLE, strength, (settled, *_taken(parts, policy))
    missing = sorted(
        f"{question.probe} ({question.subject}, {question.level}): {why}"
        for part in parts
        for question, why in part.gaps
        if question.level.rank <= policy.required.rank
    )
    return Outcome.UNPROVEN, strength, tuple(missing) or (f"no probe reaches {policy.required}",)


def _strength(parts: Sequence[Standing]) -> Level | None:
    held = {level for part in parts for level in part.levels}
    lowest_gap = min((question.level.rank for part in parts for question, _ in part.gaps), default=len(LADDER))
    reached = [level for level in held if level.rank < lowest_gap]
    return max(reached, key=lambda level: level.rank, default=None)


def _gap(question: Expected, runs: Sequence[ProbeRun]) -> str | None:
    """Why the question is open; None when it is settled. Two runs of one question must both settle it."""
    own = [run for run in runs if (run.probe, run.subject) == (question.probe, question.subject)]
    reasons = sorted(reason for run in own if (reason := run.gap(question.level)))
    if not own:
        return "not run"
    return reasons[0] if reasons else None


def refused(policy: Policy) -> frozenset[Severity]:
    """The severities that decide against a pair, where nobody accepted the finding."""
    return frozenset((Severity.BLOCK, Severity.WARN) if policy.strict else (Severity.BLOCK,))


def _blockers(parts: Sequence[Standing], policy: Policy) -> tuple[str, ...]:
    accepted = {(one.code, one.subject) for one in policy.accepted}
    deciding = refused(policy)
    found = {
        one
        for part in parts
        for one in part.grave
        if one.severity in deciding and (one.code, one.subject) not in accepted
    }
    return tuple(
        f"{code} ({subject}): {claim}" + (" (a warning, refused by --strict)" if severity is Severity.WARN else "")
        for code, subject, claim, severity in sorted(found)
    )


def _taken(parts: Sequence[Standing], policy: Policy) -> tuple[str, ...]:
    """What would have decided otherwise, had the user not accepted it."""
    if not policy.accepted:
        return ()
    deciding = {(one.code, one.subject) for part in parts for one in part.grave if one.severity in refused(policy)}
    return tuple(
        f"accepted until {one.until}: {one.code} ({one.subject}): {one.reason}"
        for one in sorted(policy.accepted, key=lambda one: (one.code, one.subject, one.until, one.reason))
        if (one.code, one.subject) in deciding
    )
