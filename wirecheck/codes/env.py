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
        sentence="The package versions on this machine are not those that were locked.",
        remedy=(
            "Install the locked versions (`pip install NAME==VERSION` for each one the finding names), or lock "
            "again on this machine."
        ),
        reference=None,
    ),
)
