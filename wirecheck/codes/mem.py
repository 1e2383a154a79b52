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
        sentence="The step does not fit on a GPU that was asked for.",
        remedy=(
            "Lower `--batch`, `--context` or `--answer`, add `--grad-checkpointing`, hold one model at a time, or "
            "ask for a larger GPU with `--gpu`."
        ),
        reference=None,
    ),
    Code(
        code="MEM02",
        name="fit-uncertain",
        family="MEM",
        severity=Severity.WARN,
        level=Level.SIMULATED,
        sentence="Whether the step fits on a GPU lies within the stated error of the estimate.",
        remedy=(
            "Leave more room (`--batch`, `--grad-checkpointing`, a larger `--gpu`), or measure one step on that GPU."
        ),
        reference=None,
    ),
    Code(
        code="MEM03",
        name="memory-estimate",
        family="MEM",
        severity=Severity.NOTE,
        level=Level.SIMULATED,
        sentence="One training step takes this much memory at its peak, in these parts.",
        remedy=(
            "Start with the largest part: `--grad-checkpointing` for activations, shorter sequences or fewer logits "
            "for the loss."
        ),
        reference=None,
    ),
    Code(
        code="MEM04",
        name="estimate-fell-back",
        family="MEM",
        severity=Severity.WARN,
        level=Level.DECLARED,
        sentence="The step could not be traced, so its memory comes from a formula or is not known in full.",
        remedy="Supply the sizes that the finding names, or measure one step on the GPU itself.",
        reference=None,
    ),
)
