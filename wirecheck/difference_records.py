"""The records of `wirecheck diff`: what changed between two results, and what differs in what they rest on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ModelWrapValidatorHandler, computed_field, model_validator

from wirecheck.gate_records import GateOutcome
from wirecheck.schema import Level, Record, Scalar, Severity, Subject

Kind = Literal["pair", "model", "gate"]
Status = Literal["started", "finished", "interrupted"]
Unit = Literal["bytes", "share", "word"]
FigureOf = Literal["total", "part", "gpu"]

RANK: Mapping[GateOutcome, int] = {
    "compatible": 0,
    "not-run": 1,
    "unproven": 2,
    "could-not-check": 3,
    "incompatible": 4,
}
"""The better, the lower: the order in which a gate takes the worst of its rows."""


class Cause(Record):
    """One thing that differs in what was asked, read or installed. That it made a change is not said."""

    of: Literal["read", "asked", "installed"]
    """A model's bytes; a setting or the seed; a version."""
    key: str
    """`b.commit`, `train.batch`, `seed`, `torch`; in a gate a model goes by its name in the file."""
    old: Scalar
    """None where there was none."""
    new: Scalar
    rows: tuple[str, ...] = ()
    """The rows of a gate that it is told of, where that is not all of them."""


class Standing(Record):
    """What a result, or a row of a gate, came to."""

    outcome: GateOutcome
    status: Status | None
    """None for a row that has no result."""
    strength: Level | None
    because: tuple[str, ...]

    def is_worse_than(self, other: Standing) -> bool:
        """Whether its outcome is worse, or it was not finished where the other was."""
        return _is_worse((other.outcome, other.status), (self.outcome, self.status))


class Told(Record):
    """A finding as one of the results has it."""

    severity: Severity
    level: Level
    claim: str
    sources: tuple[str, ...]


class FindingChange(Record):
    """A finding that is new (`old` None), gone (`new` None), or of another severity, claim or rung."""

    probe: str
    subject: Subject
    code: str
    name: str
    old: Told | None
    new: Told | None
    why: tuple[str, ...]
    """What differs in what it rests on, a line each; that nothing recorded does, where so."""


class Ended(Record):
    """How a probe ended."""

    kind: Literal["ran", "skipped", "crashed"]
    reason: str | None
    """Why it was skipped, or the error; None where it ran."""


class RunChange(Record):
    """A probe that ended otherwise; None where it was not run at all."""

    probe: str
    subject: Subject
    old: Ended | None
    new: Ended | None
    why: tuple[str, ...]


class FactTold(Record):
    """A fact as one of the results has it."""

    value: Scalar
    level: Level
    source: str
    probe: str


class FactChange(Record):
    """A fact of another value or rung, or one that a result lacks (None)."""

    subject: Subject
    key: str
    old: FactTold | None
    new: FactTold | None
    why: tuple[str, ...]


class FigureChange(Record):
    """A figure of the memory estimate; None where a result has none."""

    of: FigureOf
    name: str
    unit: Unit
    old: Scalar
    new: Scalar

    @property
    def more(self) -> int | None:
        """Bytes more than before; None where that is not to be said."""
        if self.unit != "bytes" or not isinstance(self.old, int) or not isinstance(self.new, int):
            return None
        return self.new - self.old


class MemoryDifference(Record):
    """What the two memory estimates do not have in common."""

    figures: tuple[FigureChange, ...]
    no_longer_assumed: tuple[str, ...]
    now_assumed: tuple[str, ...]
    why: tuple[str, ...]


class RowDifference(Record):
    """One check in both results: of a pair, of one model, or a row of two gates."""

    name: str
    a: str
    """What causes call the first model: `a`, or its name in the gate's file."""
    b: str | None
    old: Standing | None
    """None: the row is new."""
    new: Standing | None
    """None: the row is gone."""
    is_compared: bool
    """Whether both have a result; else only what they came to is told."""
    runs: tuple[RunChange, ...] = ()
    findings: tuple[FindingChange, ...] = ()
    facts: tuple[FactChange, ...] = ()
    memory: MemoryDifference | None = None

    @property
    def is_worse(self) -> bool:
        """Whether the row is gone, or came to something worse. A new row is not worse than no row."""
        if self.new is None:
            return True
        return self.old is not None and self.new.is_worse_than(self.old)


class Whole(Record):
    """One of the two results."""

    file: str
    command: str
    status: Status
    outcome: GateOutcome


class Difference(Record):
    """The file format of `wirecheck diff`."""

    schema_version: Literal[1] = 1
    kind: Kind
    old: Whole
    new: Whole
    causes: tuple[Cause, ...] = ()
    """What differs in what was asked, read and installed."""
    rows: tuple[RowDifference, ...] = ()
    """Those that differ."""
    same: tuple[str, ...] = ()
    """Names of those that do not."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs that is compared, in the results and in what they rest on."""
        whole = (self.old.status, self.old.outcome) == (self.new.status, self.new.outcome)
        return whole and not self.causes and not self.rows

    @computed_field  # type: ignore[prop-decorator]
    @property
    def is_worse(self) -> bool:
        """Whether the whole, or some row, came to something worse, or a row is gone."""
        whole = _is_worse((self.old.outcome, self.old.status), (self.new.outcome, self.new.status))
        return whole or any(row.is_worse for row in self.rows)

    @model_validator(mode="wrap")
    @classmethod
    def _worse_is_derived(cls, data: Any, handler: ModelWrapValidatorHandler[Difference]) -> Difference:
        """A file carries it for its readers; it is checked against the rows and dropped."""
        if not isinstance(data, dict) or "is_worse" not in data:
            return handler(data)
        made = handler({key: value for key, value in data.items() if key != "is_worse"})
        if data["is_worse"] != made.is_worse:
            raise ValueError(f"is_worse is {data['is_worse']}, the rows say {made.is_worse}")
        return made


def _is_worse(old: tuple[GateOutcome, Status | None], new: tuple[GateOutcome, Status | None]) -> bool:
    unfinished = old[1] == "finished" and new[1] in ("started", "interrupted")
    return unfinished or RANK[new[0]] > RANK[old[0]]
