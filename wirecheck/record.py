"""What every record is built on: the base class, the ladder of evidence, severities and outcomes."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat


class Level(StrEnum):
    """A rung of the evidence ladder, weakest first. Compare by `rank`."""

    DECLARED = "declared"
    """A config file says so."""
    INSPECTED = "inspected"
    """Read from the bytes: safetensors header, tokenizer, template rendered."""
    SIMULATED = "simulated"
    """The real class ran: a tiny random twin, or the full shape without data."""
    EXECUTED = "executed"
    """The real weights ran."""
    MEASURED = "measured"
    """The quantity was read off the target device."""

    @property
    def rank(self) -> int:
        """Position on the ladder, 0 for `declared`."""
        return LADDER.index(self)


LADDER: tuple[Level, ...] = tuple(Level)


class Severity(StrEnum):
    """How a finding bears on this wire in this run."""

    OK = "ok"
    NOTE = "note"
    WARN = "warn"
    BLOCK = "block"


class Outcome(StrEnum):
    """The three things a verdict can say."""

    COMPATIBLE = "compatible"
    UNPROVEN = "unproven"
    INCOMPATIBLE = "incompatible"


Subject = Literal["a", "b", "pair"]
Scalar = bool | int | FiniteFloat | str | None


def same(found: Scalar, expected: Scalar) -> bool:
    """Equality of value and kind: true is not 1, "4096" is not 4096; 1 is 1.0."""
    if isinstance(found, bool) or isinstance(expected, bool):
        return found is expected
    return found == expected


class Record(BaseModel):
    """The base of every record: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, defer_build=True)
