"""The ENV family of finding codes."""

from __future__ import annotations

from wirecheck.codes.table import Code
from wirecheck.schema import Level, Severity

ENV: tuple[Code, ...] = (
    Code(
        code="ENV01",
        name="environment-differs",
        family="ENV",
        severity=Severity.WARN,
        level=Level.INSPECTED,
        sentence="versions on this machine are not those of the lock",
        remedy="See `wirecheck explain ENV01`.",
        reference=None,
    ),
)
