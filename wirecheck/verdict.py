"""From runs and policy to a verdict: a pure function, never stronger than what was done.

A probe is *settled* for a subject when it ran to its end and each of its claims stands on the probe's rung or above
(within a claim the strongest evidence counts, across claims the weakest). Anything else is a *gap*. The verdict's
strength is the highest rung on which some probe stands and at or below which there is no gap: a success higher up
never pays for a hole lower down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from wirecheck.schema import LADDER, Level, Outcome, Policy, ProbeRun, Severity, Subject, Verdict


class Expected(NamedTuple):
    """One question that had to be answered: a probe for one subject, and the rung of its answer."""

    probe: str
    subject: Subject
    level: Level


def judge(runs: Sequence[ProbeRun], expected: Sequence[Expected], policy: Policy) -> Verdict:
    """The verdict on `runs`, given every question that had to be answered.

    A block anywhere (under `policy.strict` also a warning) that was not accepted gives incompatible; else compatible
    when the strength reaches `policy.required`; else unproven, with the gaps.
    """
    gaps = [(question, why) for question in expected if (why := _gap(question, runs))]
    strength = _strength(expected, [question for question, _ in gaps])
    blockers = _blockers(runs, policy)
    if blockers:
        return Verdict(outcome=Outcome.INCOMPATIBLE, strength=strength, because=blockers)
    if strength is not None and strength.rank >= policy.required.rank:
        settled = f"every question up to {strength} is settled, and {policy.required} was required"
        return Verdict(outcome=Outcome.COMPATIBLE, strength=strength, because=(settled, *_taken(runs, policy)))
    missing = sorted(
        f"{question.probe} ({question.subject}, {question.level}): {why}"
        for question, why in gaps
        if question.level.rank <= policy.required.rank
    )
    because = tuple(missing) or (f"no probe reaches {policy.required}",)
    return Verdict(outcome=Outcome.UNPROVEN, strength=strength, because=because)


def _strength(expected: Sequence[Expected], gaps: Sequence[Expected]) -> Level | None:
    held = {question.level for question in expected}
    lowest_gap = min((question.level.rank for question in gaps), default=len(LADDER))
    reached = [level for level in held if level.rank < lowest_gap]
    return max(reached, key=lambda level: level.rank, default=None)


def _gap(question: Expected, runs: Sequence[ProbeRun]) -> str | None:
    """Why the question is open; None when it is settled. Two runs of one question must both settle it."""
    own = [run for run in runs if (run.probe, run.subject) == (question.probe, question.subject)]
    reasons = sorted(reason for run in own if (reason := run.gap(question.level)))
    if not own:
        return "not run"
    return reasons[0] if reasons else None


def _refused(policy: Policy) -> frozenset[Severity]:
    return frozenset((Severity.BLOCK, Severity.WARN) if policy.strict else (Severity.BLOCK,))


def _blockers(runs: Sequence[ProbeRun], policy: Policy) -> tuple[str, ...]:
    accepted = {(one.code, one.subject) for one in policy.accepted}
    found = {
        (finding.code, finding.subject, finding.claim, finding.severity)
        for run in runs
        for finding in run.findings
        if finding.severity in _refused(policy) and (finding.code, finding.subject) not in accepted
    }
    return tuple(
        f"{code} ({subject}): {claim}" + (" (a warning, refused by --strict)" if severity is Severity.WARN else "")
        for code, subject, claim, severity in sorted(found)
    )


def _taken(runs: Sequence[ProbeRun], policy: Policy) -> tuple[str, ...]:
    """What would have decided otherwise, had the user not accepted it."""
    refused = {(f.code, f.subject) for run in runs for f in run.findings if f.severity in _refused(policy)}
    return tuple(
        f"accepted until {one.until}: {one.code} ({one.subject}): {one.reason}"
        for one in sorted(policy.accepted, key=lambda one: (one.code, one.subject, one.until, one.reason))
        if (one.code, one.subject) in refused
    )
