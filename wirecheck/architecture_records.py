"""The records of `wirecheck architectures`: one row per causal model type, and the table of them."""

from __future__ import annotations

from typing import Literal

from pydantic import FiniteFloat, NonNegativeInt, PositiveInt, model_validator

from wirecheck.schema import Environment, Evidence, Record, Severity

Ending = Literal["ran", "skipped", "crashed"]
Cause = Literal["upstream", "machine", "wirecheck", "ended"]
"""Why a row has no twin, or not all of its checks: transformers' own class or default config, a package or memory that
this machine lacks, a fault of ours, or a process that was ended from outside (time limit, signal)."""


class ArchitectureCheck(Record):
    """What one code came to on the twin of one type."""

    code: str
    severity: Severity
    claim: str
    evidence: tuple[Evidence, ...] = ()
    """What was seen, where the check is not simply sound."""


class ArchitectureRun(Record):
    """How one probe ended."""

    probe: str
    kind: Ending
    why: str | None = None
    """The reason of a skip, or the error of a crash."""


class Trouble(Record):
    """What kept a row from being whole, and who is to blame."""

    cause: Cause
    words: str


class Architecture(Record):
    """One row: a causal model type, its twin, and what every check came to."""

    model_type: str
    class_name: str | None = None
    """The class that ran; None where none was built."""
    given: tuple[str, ...] = ()
    """Fields set beside the class's defaults, without which it does not run, or not as a causal LM."""
    default_refused: str | None = None
    """What transformers raises on the default config alone, where fields had to be given."""
    parameters: NonNegativeInt | None = None
    """Of the twin."""
    kept: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    runs: tuple[ArchitectureRun, ...] = ()
    checks: tuple[ArchitectureCheck, ...] = ()
    trouble: Trouble | None = None
    seconds: FiniteFloat

    @property
    def built(self) -> bool:
        """Whether a twin of the class was made."""
        return self.class_name is not None

    def check(self, code: str) -> ArchitectureCheck | None:
        """The gravest check of that code; None where none was made."""
        order = tuple(Severity)
        own = [check for check in self.checks if check.code == code]
        return max(own, key=lambda check: order.index(check.severity), default=None)


class ArchitectureTable(Record):
    """Every type asked for, in alphabetical order: the file format of `wirecheck architectures`."""

    schema_version: Literal[1] = 1
    command: str
    seed: int
    max_rows: PositiveInt
    """Vocabulary rows a twin has at most."""
    codes: tuple[tuple[str, str], ...]
    """(code, name) of everything the probes may emit, in the order of the columns."""
    environment: Environment
    rows: tuple[Architecture, ...]

    @model_validator(mode="after")
    def _one_row_per_type(self) -> ArchitectureTable:
        types = [row.model_type for row in self.rows]
        if types != sorted(set(types)):
            raise ValueError("the rows are one per type, in alphabetical order")
        return self
