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
    Code(
        code="ENV02",
        name="process-ended",
        family="ENV",
        severity=Severity.BLOCK,
        level=Level.INSPECTED,
        sentence=(
            "What reads, or runs, this model's files ended its process, or took more time or memory than any model's "
            "files need."
        ),
        remedy=(
            "Look at what the probe's record tells of the process, and compare the model's files with their origin; a "
            "model that ends the process that reads it ends a training job, too."
        ),
        reference=None,
    ),
)
