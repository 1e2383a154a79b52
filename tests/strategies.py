"""Every hypothesis strategy, in one place."""

from __future__ import annotations

from hypothesis import strategies as st

from tests import gates
from wirecheck.gate_records import GateRow
from wirecheck.schema import (
    LADDER,
    Crashed,
    Evidence,
    Finding,
    Level,
    Policy,
    ProbeError,
    ProbeRun,
    Ran,
    Severity,
    Skipped,
)
from wirecheck.verdict import Expected

levels = st.sampled_from(LADDER)
"""Example: Level.SIMULATED"""

subjects = st.sampled_from(["a", "b", "pair"])


def finding(
    severity: Severity = Severity.OK, *on: Level, code: str = "CFG01", subject: str = "a", claim: str = "It holds."
) -> Finding:
    """A finding standing on the given rungs."""
    evidence = tuple(Evidence(level=level, source="config.json", observed=1) for level in on)
    return Finding(
        code=code, name="n", severity=severity, subject=subject, claim=claim, evidence=evidence, remedy="Mend it."
    )


@st.composite
def findings(draw: st.DrawFn) -> Finding:
    """Example: Finding(code='CFG01', severity='warn', evidence=(Evidence(level='inspected', …),))"""
    severity = draw(st.sampled_from([Severity.OK, Severity.OK, Severity.NOTE, Severity.WARN, Severity.BLOCK]))
    lowest = 1 if severity is Severity.BLOCK else 0
    on = draw(st.lists(st.sampled_from(LADDER[lowest:]), min_size=1, max_size=3))
    return finding(severity, *on, code=draw(st.sampled_from(["CFG01", "WGT02"])))


@st.composite
def expectations(draw: st.DrawFn) -> tuple[Expected, ...]:
    """Example: (Expected('p0', 'a', Level.INSPECTED), Expected('p1', 'pair', Level.EXECUTED))"""
    number = draw(st.integers(0, 5))
    return tuple(Expected(f"p{i}", draw(subjects), draw(levels)) for i in range(number))


@st.composite
def run_of(draw: st.DrawFn, question: Expected) -> ProbeRun:
    """A run, in any of its three kinds, of one question."""
    own = tuple(draw(st.lists(findings(), max_size=3)))
    common = {
        "probe": question.probe,
        "subject": question.subject,
        "level": question.level,
        "seconds": 0.0,
        "findings": own,
    }
    match draw(st.sampled_from(["ran", "ran", "ran", "skipped", "crashed"])):
        case "skipped":
            return Skipped(reason="no weights", **common)
        case "crashed":
            return Crashed(error=ProbeError(type="E", message="m", traceback="t"), **common)
        case _:
            return Ran(**common)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[ProbeRun], tuple[Expected, ...], Policy]:
    """Questions, the runs made of some of them, and a policy."""
    questions = draw(expectations())
    runs = [draw(run_of(question)) for question in questions if draw(st.integers(0, 5))]
    return runs, questions, Policy(required=draw(levels), strict=draw(st.booleans()))


@st.composite
def gate_rows(draw: st.DrawFn) -> GateRow:
    """A row of any outcome: what it was asked, and what was found."""
    kinds = st.sampled_from(["ok", "note", "warn", "block", "gap", "lost"])
    runs = []
    for kind in draw(st.lists(kinds, max_size=3)):
        match kind:
            case "ok":
                runs.append(gates.ran(probe=f"p{len(runs)}"))
            case "note":
                runs.append(gates.ran(gates.note(), probe="p"))
            case "warn":
                runs.append(gates.ran(gates.warning(), probe=draw(st.sampled_from("pq")), subject="b"))
            case "block":
                runs.append(gates.ran(gates.false_expectation(), probe=draw(st.sampled_from("pq"))))
            case "gap":
                runs.append(gates.skipped("no weights", level=Level.INSPECTED))
            case _:
                return gates.lost(draw(st.sampled_from(["two: gone", "late"])), b="two")
    kept = draw(st.booleans())
    policy = gates.accepting("CFG11", "a", strict=draw(st.booleans())) if kept else Policy(strict=draw(st.booleans()))
    return gates.row(*runs, policy=policy)
