"""What one finding code is. The rows stand in one file per family beside this one."""

from __future__ import annotations

from dataclasses import dataclass

from wirecheck.schema import Level, Severity


@dataclass(frozen=True, kw_only=True)
class Code:
    """One entry of the public vocabulary of findings."""

    code: str
    name: str
    family: str
    severity: Severity
    """The usual severity; a probe may lower it where the wire, as configured, avoids the trap."""
    level: Level
    """The weakest evidence that establishes the finding."""
    sentence: str
    """What the finding says, in one sentence."""
    remedy: str
    """What to do about it, with the command where there is one."""
    reference: str | None = None
    """A public thread where the case was met, such as `transformers#26714`."""
