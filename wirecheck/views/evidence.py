"""Where a report's evidence stands: a name for every claim and figure, so that whatever is said can link to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from wirecheck.schema import Fact, Finding, PairResult, ProbeRun, Severity, Subject
from wirecheck.views.story import ORDER, probe_anchor, slug

__all__ = [
    "Claim",
    "Figure",
    "claims",
    "fact_anchor",
    "figures",
    "fired",
    "on_memory",
    "probe_anchor",
    "sound",
    "to_act_on",
]


@dataclass(frozen=True)
class Claim:
    """One finding, with its place in the report."""

    anchor: str
    finding: Finding


@dataclass(frozen=True)
class Figure:
    """One fact, with its place in the report and the probe that established it."""

    anchor: str
    probe: str
    fact: Fact


def claims(result: PairResult) -> tuple[Claim, ...]:
    """Every finding with its anchor, the gravest first."""
    seen: Counter[str] = Counter()
    made = []
    for finding in result.findings:
        name = f"ev-{finding.subject}-{slug(finding.code)}"
        seen[name] += 1
        made.append(Claim(name if seen[name] == 1 else f"{name}-{seen[name]}", finding))
    return tuple(sorted(made, key=lambda one: ORDER.index(one.finding.severity)))


def to_act_on(result: PairResult) -> tuple[Claim, ...]:
    """Blocks and warnings, the blocks first."""
    return tuple(one for one in claims(result) if one.finding.severity in (Severity.BLOCK, Severity.WARN))


def fired(result: PairResult, subject: Subject) -> tuple[Claim, ...]:
    """The claims on one subject that say more than that a check is sound, the gravest first."""
    return tuple(
        one for one in claims(result) if one.finding.subject == subject and one.finding.severity is not Severity.OK
    )


def sound(result: PairResult, subject: Subject) -> tuple[Claim, ...]:
    """The checks of one subject that hold, in the order of the probes."""
    return tuple(
        one for one in claims(result) if one.finding.subject == subject and one.finding.severity is Severity.OK
    )


def on_memory(result: PairResult) -> tuple[Claim, ...]:
    """The claims on the memory of a step, the gravest first."""
    return tuple(one for one in claims(result) if one.finding.code.startswith("MEM"))


def figures(result: PairResult) -> tuple[Figure, ...]:
    """The strongest fact of each name and subject, which is the one that a report shows, in the order of the probes."""
    return tuple(
        Figure(fact_anchor(fact), run.probe, fact)
        for run, fact in _facts(result)
        if result.fact(fact.subject, fact.key) is fact
    )


def fact_anchor(fact: Fact) -> str:
    """The place of the fact of that name and subject."""
    return f"fact-{fact.subject}-{slug(fact.key)}"


def _facts(result: PairResult) -> Iterator[tuple[ProbeRun, Fact]]:
    for run in result.runs:
        for fact in run.facts:
            yield run, fact
