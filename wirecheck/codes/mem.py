"""The MEM family of finding codes."""

from __future__ import annotations

from wirecheck.codes.table import Code
from wirecheck.schema import Level, Severity

MEM: tuple[Code, ...] = (
    Code(
        code="MEM01",
        name="does-not-fit",
        family="MEM",
        severity=Severity.BLOCK,
        level=Level.SIMULATED,
        sentence="no placement on a GPU the policy names; what would fit is said",
        remedy="See `wirecheck explain MEM01`.",
        reference=None,
    ),
    Code(
        code="MEM02",
        name="fit-uncertain",
        family="MEM",
        severity=Severity.WARN,
        level=Level.SIMULATED,
        sentence="inside the stated error of the estimate",
        remedy="See `wirecheck explain MEM02`.",
        reference=None,
    ),
    Code(
        code="MEM03",
        name="memory-estimate",
        family="MEM",
        severity=Severity.NOTE,
        level=Level.SIMULATED,
        sentence="the peak and its parts",
        remedy="See `wirecheck explain MEM03`.",
        reference=None,
    ),
    Code(
        code="MEM04",
        name="estimate-fell-back",
        family="MEM",
        severity=Severity.WARN,
        level=Level.DECLARED,
        sentence="the trace was impossible: a formula was used, and why",
        remedy="See `wirecheck explain MEM04`.",
        reference=None,
    ),
)
