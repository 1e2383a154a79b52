"""The records of `wirecheck gate`: a row for each pair, or model, that the file names; what became of acceptances."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Literal

from pydantic import FiniteFloat, model_validator

from wirecheck.schema import Outcome, PairResult, Record

GateOutcome = Literal["compatible", "incompatible", "unproven", "could-not-check", "not-run"]
OUTCOMES: Mapping[Outcome, GateOutcome] = {
    Outcome.COMPATIBLE: "compatible",
    Outcome.INCOMPATIBLE: "incompatible",
    Outcome.UNPROVEN: "unproven",
}
"""How a row tells the outcome of a verdict."""


class GateModel(Record):
    """One model of the file: its name there, what it stands for, and the commit that was read."""

    name: str
    ref: str
    commit: str | None = None
    why: str | None = None
    """Why it could not be read."""
    next_step: str | None = None


class GateAcceptance(Record):
    """One acceptance of the file, and what became of it."""

    code: str
    on: str
    """A model's name, or `a+b`."""
    reason: str
    until: date
    state: Literal["used", "unused", "expired"]


class GateRow(Record):
    """What the gate says of one pair, or of one model alone (`b` None)."""

    a: str
    b: str | None = None
    outcome: GateOutcome
    why: tuple[str, ...]
    result: PairResult | None = None
    as_locked: bool | None = None
    """Whether it came to what the lock says of it; None without a lock, or where it says nothing."""
    kept: bool = False
    """Whether nothing was run: the result is of an earlier check of the same bytes that asked the same."""
    seconds: FiniteFloat = 0.0

    @property
    def name(self) -> str:
        """`a + b`, by the names of the file."""
        return self.a if self.b is None else f"{self.a} + {self.b}"

    @model_validator(mode="after")
    def _answered(self) -> GateRow:
        judged = self.outcome in ("compatible", "incompatible", "unproven")
        if judged != (self.result is not None):
            raise ValueError(f"{self.name}: {self.outcome} {'without' if judged else 'with'} a result")
        return self


class GateResult(Record):
    """The file format of `wirecheck gate`."""

    schema_version: Literal[1] = 1
    status: Literal["started", "finished", "interrupted"]
    file: str
    command: str
    asked_as_locked: bool | None = None
    """Whether the file asks what it asked when it was locked, beside what it accepts; None without a lock."""
    models: tuple[GateModel, ...] = ()
    rows: tuple[GateRow, ...] = ()
    accepted: tuple[GateAcceptance, ...] = ()
    seconds: FiniteFloat = 0.0

    @property
    def outcome(self) -> GateOutcome:
        """The worst of the rows; a gate without rows, or not finished, is never compatible."""
        found = {row.outcome for row in self.rows}
        worst: tuple[GateOutcome, ...] = ("incompatible", "could-not-check", "unproven", "not-run")
        for outcome in worst:
            if outcome in found:
                return outcome
        return "compatible" if self.status == "finished" and found else "not-run"
