"""A gate as GitLab's code-quality report: a list of troubles, each at the line of its model in the gate's file.

What keeps the gate from passing is a blocker, a warning is major, what was accepted minor, a note info; sound checks
are left out. With a baseline only what is new is listed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from wirecheck.baseline import NEWS, Since, heard
from wirecheck.gate_records import GateResult
from wirecheck.gate_troubles import Trouble, Weight
from wirecheck.views.whereabouts import Whereabouts
from wirecheck.views.words import visible

Grade = Literal["info", "minor", "major", "critical", "blocker"]
GRADES: dict[Weight, Grade] = {"note": "info", "accepted": "minor", "warns": "major", "refuses": "blocker"}


class _Object(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Lines(_Object):
    """Where it begins, counted from 1."""

    begin: int


class Location(_Object):
    """A line of a file; the path from the root of the repository."""

    path: str
    lines: Lines


class Violation(_Object):
    """One entry of the report."""

    description: str
    check_name: str
    fingerprint: str
    severity: Grade
    location: Location


_REPORT = TypeAdapter(tuple[Violation, ...])


def render(found: GateResult, where: Whereabouts, since: Since | None = None) -> str:
    """The report as JSON, ending in a newline."""
    return _REPORT.dump_json(tuple(_violations(found, where, since)), indent=2).decode() + "\n"


def _violations(found: GateResult, where: Whereabouts, since: Since | None) -> Iterator[Violation]:
    met: Counter[str] = Counter()
    for one, state in heard(found, since):
        if one.weight not in GRADES:
            continue
        identity = "\0".join((*one.identity, one.wording))
        met[identity] += 1  # also of what is known, so that a baseline changes no fingerprint
        if state in NEWS:
            yield Violation(
                description=visible(_sentence(one)),
                check_name=visible(one.code),
                fingerprint=hashlib.sha256(f"{identity}\0{met[identity]}".encode()).hexdigest()[:32],
                severity=GRADES[one.weight],
                location=Location(path=visible(where.path), lines=Lines(begin=where.of(one))),
            )


def _sentence(one: Trouble) -> str:
    whom = one.row if one.on == one.row else f"{one.on} in {one.row}"
    taken = " (accepted)" if one.weight == "accepted" else ""
    return f"{whom}: {one.claim}{taken}" + (f" Remedy: {one.remedy}" if one.remedy else "")
