"""What speaks against each row of a gate, or is told of it, in one form: findings, open questions, models not read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from wirecheck.gate_records import GateResult, GateRow
from wirecheck.schema import Finding, PairResult, ProbeRun, Severity, Subject

Weight = Literal["sound", "note", "accepted", "warns", "refuses"]
"""What a trouble does to the verdict of its row: `refuses` keeps it from being compatible."""
WEIGHTS: tuple[Weight, ...] = ("sound", "note", "accepted", "warns", "refuses")
"""The lightest first."""
_FIGURE = re.compile(r"\b[0-9a-f]{7,64}\b(?![-.]\w)|(?<![\w.-])\d+(?:[.,]\d+)*(?:e[-+]?\d+)?(?![\w-]|\.\w)")
"""Digests and numbers; not those in a file's or a tensor's name, of which another is another trouble."""
_OPEN = re.compile(r"(?P<probe>.+?) \((?P<subject>a|b|pair), (?P<level>\w+)\): (?P<why>.*)", re.DOTALL)
"""How a verdict names a question that stands open."""


@dataclass(frozen=True)
class Trouble:
    """One finding of a row, or one reason for which the row has no answer."""

    row: str
    """The row's name."""
    models: tuple[str, ...]
    """Whom it is about, by the names of the file: one model, or both."""
    checked: str
    """What stood behind these names: the repository's id, the folder's or file's name; empty where it was not read."""
    code: str
    """The finding's code; the row's outcome where it is no finding."""
    name: str
    """The code's name, or the outcome in words."""
    probe: str
    weight: Weight
    claim: str
    remedy: str | None = None
    run: ProbeRun | None = None
    finding: Finding | None = None

    @property
    def on(self) -> str:
        """`a`, or `a + b`."""
        return " + ".join(self.models)

    @property
    def identity(self) -> tuple[str, str, str, str, str]:
        """The same for the same trouble in another run: no claim, no figure, no commit goes into it."""
        return (self.row, self.on, self.checked, self.code, self.probe)

    @property
    def wording(self) -> str:
        """The claim without its figures, digests among them."""
        return _FIGURE.sub("#", self.claim)


def troubles(found: GateResult, row: GateRow) -> tuple[Trouble, ...]:
    """Every finding of the row, in the order of its runs, then why it is not answered."""
    if row.result is None:
        return tuple(_unanswered(found, row))
    return (*_findings(row, row.result), *_open(row, row.result))


def _findings(row: GateRow, result: PairResult) -> Iterator[Trouble]:
    accepted = {(one.code, one.subject) for one in result.policy.accepted}
    for run in result.runs:
        for finding in run.findings:
            taken = (finding.code, finding.subject) in accepted
            yield Trouble(
                row=row.name,
                models=_models(row, finding.subject),
                checked=_checked(result, finding.subject),
                code=finding.code,
                name=finding.name,
                probe=run.probe,
                weight=_weight(finding.severity, accepted=taken, strict=result.policy.strict),
                claim=finding.claim,
                remedy=finding.remedy,
                run=run,
                finding=finding,
            )


def _weight(severity: Severity, *, accepted: bool, strict: bool) -> Weight:
    match severity:
        case Severity.OK:
            return "sound"
        case Severity.NOTE:
            return "note"
        case _ if accepted:
            return "accepted"
        case Severity.WARN if not strict:
            return "warns"
        case _:
            return "refuses"


def _open(row: GateRow, result: PairResult) -> Iterator[Trouble]:
    """The questions for which the row is unproven."""
    if row.outcome != "unproven":
        return
    for line in result.verdict.because:
        named = _OPEN.fullmatch(line)
        subject: Subject = "pair"
        if named is not None:
            subject = "a" if named["subject"] == "a" else "b" if named["subject"] == "b" else "pair"
        yield Trouble(
            row=row.name,
            models=_models(row, subject),
            checked=_checked(result, subject),
            code="unproven",
            name="unproven",
            probe=named["probe"] if named else "",
            weight="refuses",
            claim=f"{named['probe']} ({named['level']}): {named['why']}" if named else line,
        )


def _unanswered(found: GateResult, row: GateRow) -> Iterator[Trouble]:
    """Why the row was not checked: a line for each of its models that could not be read, or one for the row."""
    steps = {model.name: model.next_step for model in found.models}
    names = _models(row, "pair")
    for line in row.why or ("no reason was given",):
        owner = next((name for name in names if line.startswith(f"{name}: ")), None)
        yield Trouble(
            row=row.name,
            models=names if owner is None else (owner,),
            checked="",
            code=row.outcome,
            name=row.outcome.replace("-", " "),
            probe="",
            weight="refuses",
            claim=line if owner is None else line.removeprefix(f"{owner}: "),
            remedy=None if owner is None else steps.get(owner),
        )


def _models(row: GateRow, subject: Subject) -> tuple[str, ...]:
    """Whom the subject of a check means, by the names of the file."""
    if row.b is None or subject == "a":
        return (row.a,)
    return (row.b,) if subject == "b" else (row.a, row.b)


def _checked(result: PairResult, subject: Subject) -> str:
    if result.b is None or subject == "a":
        return result.a.name
    return result.b.name if subject == "b" else f"{result.a.name} + {result.b.name}"
